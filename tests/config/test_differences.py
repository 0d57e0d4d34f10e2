from pathlib import Path

from rexnet.config import Config, DetectionConfig, load_config
from rexnet.config.differences import find_changes, flatten, has_role, keys_with, recipe_of
from rexnet.config.load import replace_values
from rexnet.config.section import Role


def test_changes_have_both_values_and_none_for_a_section_that_one_config_lacks() -> None:
    config = load_config("quickstart")
    assert find_changes(config, config) == {}
    changed = replace_values(config, {"optimizer.lr": 0.25, "ema": None, "data.root": Path("/a")})
    assert find_changes(config, changed) == {
        "data.root": ("data/digits", "/a"),
        "optimizer.lr": (0.05, 0.25),
        "ema.decay": (0.98, None),
    }


def test_the_recipe_has_no_mechanics() -> None:
    config = load_config("quickstart")
    moved = replace_values(config, {"name": "b", "data.root": Path("/a"), "data.num_workers": 3, "trainer.devices": 2})
    assert recipe_of(moved) == recipe_of(config)
    assert recipe_of(replace_values(config, {"trainer.compile": True})) != recipe_of(config)


def test_a_role_covers_the_keys_below_a_section() -> None:
    assert has_role("model.dropout", Role.FIXED)
    assert has_role("seed", Role.FIXED)
    assert not has_role("models", Role.FIXED)
    assert not has_role("optimizer.lr", Role.FIXED)
    assert has_role("trainer.runs_dir", Role.MECHANICS)


def test_roles_mark_keys_of_the_schema() -> None:
    keys = flatten(load_config("quickstart", ["distillation.teacher=teacher.ckpt"])).keys() | Config.model_fields.keys()
    keys |= flatten(load_config("detect/finetune", (), DetectionConfig)).keys() | DetectionConfig.model_fields.keys()
    assert keys_with(Role.MECHANICS) | keys_with(Role.FIXED) <= keys
    assert not keys_with(Role.MECHANICS) & keys_with(Role.FIXED)
