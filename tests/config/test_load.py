from pathlib import Path

import pytest

from rexnet.config import dump_config, load_config, parse_config
from rexnet.config.load import CONFIG_FOLDERS, replace_values
from rexnet.errors import ConfigError

SHIPPED = sorted(CONFIG_FOLDERS[-1].rglob("*.yaml"))


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_name_is_found_with_and_without_its_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIG_FOLDERS[-1].parent)
    assert load_config("rexnet_1.0x") == load_config("rexnet_1.0x.yaml") == load_config("configs/rexnet_1.0x.yaml")


def test_an_unknown_file_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"rexnet_1\.1x: no such configuration file.*rexnet_1\.\dx\.yaml"):
        load_config("rexnet_1.1x")


def test_a_number_that_yaml_takes_for_text_is_a_number() -> None:
    assert (
        load_config("quickstart", ["optimizer.lr=1e-1", "optimizer.weight_decay=1e-3"]).optimizer.weight_decay == 0.001
    )


def test_a_variant_states_only_what_differs_from_its_base(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", dump_config(load_config("quickstart")))
    write(tmp_path / "b.yaml", "base: a.yaml\noptimizer:\n  lr: 0.25\nema: null\n")
    config = load_config(tmp_path / "b.yaml", ["schedule.epochs=3"])
    assert config.optimizer.lr == 0.25
    assert config.optimizer.name == "sgd"
    assert config.ema is None
    assert config.schedule.epochs == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: x.yaml\n", "x.yaml: `base: x.yaml` is circular"),
        ("base: nowhere.yaml\n", r"nowhere\.yaml: cannot be read as text: .*No such file"),
        ("name: a\nname: b\n", r"x\.yaml, line 2: not valid YAML: duplicate key 'name'"),
        ("name: !!python/object/apply:os.system [ls]\n", r"x\.yaml, line 1: not valid YAML"),
        ("- a\n", r"x\.yaml: should contain sections with keys, found \['a'\]"),
        ("name: [\n", r"x\.yaml, line 2: not valid YAML"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path / "x.yaml", text))


def test_the_printed_config_is_the_same_run_again(tmp_path: Path) -> None:
    config = load_config("rexnet_2.0x", ["trainer.max_steps=5", "optimizer.weight_decay=3e-5"])
    assert load_config(write(tmp_path / "again.yaml", dump_config(config))) == config


@pytest.mark.parametrize(
    "path",
    ["in/my photos #2", "12", "2024-05-01", "no", "1e5", "a: b", "[x]", " x", "- a", "{", '"q"', "字/é", "a=b"],
)
def test_a_path_is_taken_as_it_is_written(path: str, tmp_path: Path) -> None:
    config = load_config(
        "finetune/folder", [f"data.root={path}", f"model.pretrained={path}", f"trainer.runs_dir={path}"]
    )
    assert (config.data.root, config.trainer.runs_dir) == (Path(path), Path(path))
    assert config.model.pretrained == path
    assert load_config(write(tmp_path / "again.yaml", dump_config(config))) == config


def test_a_tilde_is_the_home_folder_and_an_empty_value_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    write(tmp_path / "a.yaml", "base: quickstart.yaml\ndata:\n  root: ~/photos\n")
    write(tmp_path / "quickstart.yaml", dump_config(load_config("quickstart")))
    config = load_config(tmp_path / "a.yaml", ["trainer.runs_dir=~", "model.pretrained=~/w.pth", "data.manifest=null"])
    assert (config.data.root, config.trainer.runs_dir) == (Path("/home/me/photos"), Path("/home/me"))
    assert (config.model.pretrained, config.data.manifest) == ("/home/me/w.pth", None)
    with pytest.raises(ConfigError, match=r"data\.root: should be UTF-8 text; rename the folder, .*found 'caf.udce9'"):
        load_config("quickstart", ["data.root=caf\udce9"])
    with pytest.raises(ConfigError, match=r"data\.root: should be text, found None"):  # as of an unset variable
        load_config("quickstart", ["data.root="])
    with pytest.raises(ConfigError, match=r"data\.root: should be text, in quotes in a YAML file, found 12"):
        load_config(write(tmp_path / "b.yaml", "base: quickstart.yaml\ndata:\n  root: 12\n"))


def test_replaced_values_are_validated() -> None:
    config = load_config("quickstart")
    changed = replace_values(config, {"data.root": Path("/a"), "ema.decay": 0.5, "model.pretrained": None})
    assert (changed.data.root, changed.ema.decay, changed.data.dataset) == (Path("/a"), 0.5, "digits")
    assert changed.data.model_fields_set == config.data.model_fields_set  # `mean` and `std` stay open to timm's
    with pytest.raises(ConfigError, match=r"quickstart: one error\n  data\.rot: no such key; nearest: data\.root"):
        replace_values(config, {"data.rot": "/a"})


def test_values_given_from_python_are_checked_as_well() -> None:
    with pytest.raises(ConfigError, match="a dictionary: "):
        parse_config({"name": "x"}, source="a dictionary")


def test_overrides_are_assignments_or_values_by_key() -> None:
    assignments = load_config("quickstart", ["optimizer.lr=1e-1", "augmentation.crop_scale=[0.5, 1]", "ema=null"])
    values = {"optimizer.lr": 0.1, "augmentation.crop_scale": (0.5, 1.0), "ema": None}
    assert assignments == load_config("quickstart", values) == replace_values(load_config("quickstart"), values)
