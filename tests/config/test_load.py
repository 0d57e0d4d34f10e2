from pathlib import Path

import pytest
import torch
import yaml

from rexnet.config import Config, dump_config, load_config, parse_config
from rexnet.config.load import CONFIG_FOLDERS, replace_values
from rexnet.errors import ConfigError
from rexnet.models.factory import build_model

SHIPPED = sorted(CONFIG_FOLDERS[-1].rglob("*.yaml"))


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_config_loads_and_builds_its_network(path: Path) -> None:
    config = load_config(path)
    with torch.device("meta"):
        model = build_model(config.model, [str(n) for n in range(1000)], pretrained=False)
    assert model.get_classifier().out_features == 1000


def test_the_shipped_files_are_those_that_are_promised() -> None:
    names = {str(path.relative_to(CONFIG_FOLDERS[-1])) for path in SHIPPED}
    widths = {f"rexnet_{width}x.yaml" for width in ("0.9", "1.0", "1.3", "1.5", "2.0", "2.2", "3.0")}
    widths.add("rexnet_lite_1.0x.yaml")
    tuned = {f"finetune/{name}.yaml" for name in ("aircraft", "cars", "cub200", "flowers102", "folder", "food101")}
    assert names == widths | tuned | {"imagenet.yaml", "quickstart.yaml"}


@pytest.mark.parametrize("path", [p for p in SHIPPED if p.stem != "imagenet"], ids=lambda path: path.stem)
def test_every_recipe_says_its_command(path: Path) -> None:
    header = path.read_text().split("base:")[0]
    assert "# Command" in header
    if path.stem.startswith("rexnet_"):
        assert "# Expected" in header
        assert "# Source" in header


@pytest.mark.parametrize(
    ("width", "drop_path"), [("0.9", 0), ("1.0", 0), ("1.3", 0), ("1.5", 0.1), ("2.0", 0.1), ("2.2", 0.1), ("3.0", 0.1)]
)
def test_the_imagenet_recipe_is_the_authors(width: str, drop_path: float) -> None:
    config = load_config(f"rexnet_{width}x.yaml")
    assert config.model.width_mult == float(width)
    assert config.model.drop_path == drop_path
    assert config.model.dropout == 0.2
    assert config.data.batch_size == 512
    assert (config.optimizer.name, config.optimizer.lr, config.optimizer.momentum) == ("sgd", 0.5, 0.9)
    assert (config.optimizer.weight_decay, config.loss.label_smoothing) == (1e-5, 0.1)
    schedule = config.schedule
    assert (schedule.epochs, schedule.warmup_epochs, schedule.cooldown_epochs) == (400, 5, 10)
    assert (schedule.warmup_lr, schedule.min_lr) == (1e-4, 1e-5)
    policy = config.augmentation.randaugment
    assert policy is not None
    assert (policy.magnitude, policy.magnitude_std, policy.num_ops) == (9, 0.5, 2)
    assert (config.augmentation.erase_prob, config.augmentation.erase_mode) == (0.2, "pixel")
    assert (config.augmentation.crop_scale, config.augmentation.interpolation) == ((0.08, 1.0), "random")
    assert (config.eval_transform.crop_pct, config.eval_transform.interpolation) == (0.875, "bicubic")


def test_a_name_is_found_with_and_without_its_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIG_FOLDERS[-1].parent)
    assert load_config("rexnet_1.0x") == load_config("rexnet_1.0x.yaml") == load_config("configs/rexnet_1.0x.yaml")


def test_an_unknown_file_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"rexnet_1\.1x: no such configuration file.*rexnet_1\.\dx\.yaml"):
        load_config("rexnet_1.1x")


def test_all_faults_are_named_at_once_with_path_bound_value_and_nearest_key() -> None:
    overrides = ["optimizer.lrr=3", "augmentation.flip=2", "modle.x=1", "trainer.devices=0", "data.batch_size=many"]
    with pytest.raises(ConfigError) as caught:
        load_config("quickstart", overrides)
    message = str(caught.value)
    assert "optimizer.lrr: no such key; nearest: optimizer.lr" in message
    assert "augmentation.flip: input should be less than or equal to 1, found 2" in message
    assert "modle: no such key; nearest: model" in message
    assert "trainer.devices: input should be greater than or equal to 1, found 0" in message
    assert "data.batch_size: " in message
    assert "found 'many'" in message


def test_a_key_in_the_wrong_section_is_pointed_to_the_right_one() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.batch_size: no such key; nearest: data\.batch_size"):
        load_config("quickstart", ["optimizer.batch_size=3"])


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    tree = yaml.safe_load(dump_config(load_config("quickstart")))
    del tree["optimizer"]["lr"], tree["schedule"]
    with pytest.raises(ConfigError, match=r"2 errors\n  optimizer\.lr: required, but not set\n  schedule: required"):
        load_config(write(tmp_path / "x.yaml", yaml.safe_dump(tree)))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "augmentation.crop_scale=[0.9, 0.1]",
            r"augmentation: crop_scale should be \[smallest, largest\], not \[0\.9, 0\.1\]",
        ),
        ("schedule.warmup_epochs=99", r"schedule: warmup_epochs should be below epochs \(8\), not 99"),
        ("trainer.val_every_epochs=3", r"trainer\.val_every_epochs \(3\) should divide the 8 epochs of the schedule"),
        ("schedule.min_lr=5", r"schedule\.min_lr \(5\) should not exceed optimizer\.lr"),
        ("model.name=resnet", r"model\.name: .*found 'resnet'"),
        ("optimizer.lr=.inf", r"optimizer\.lr: .*finite.*found inf"),
        ("data.batch_size=true", r"data\.batch_size: should be a number, not true or false, found True"),
        ("data.batch_size", r"'data\.batch_size': overrides have the form section\.key=value"),
        ("data.mean=[", r"the value of data\.mean.*not valid YAML"),
        (
            "model={name: timm/resnet50, width_mult: 2, dropout: 0, drop_path: 0}",
            r"model: width_mult is for rexnet only",
        ),
    ],
)
def test_what_contradicts_is_refused_in_words(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("quickstart", [override])


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
        ("base: nowhere.yaml\n", r"x\.yaml: `base: nowhere\.yaml` is not a file"),
        ("name: a\nname: b\n", r"x\.yaml, line 2: not valid YAML: duplicate key 'name'"),
        ("name: &n a\nmodel: *n\n", r"x\.yaml, line 2: not valid YAML: aliases"),
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


def test_keys_of_the_previous_version_name_their_replacement(tmp_path: Path) -> None:
    tree = yaml.safe_load(dump_config(load_config("quickstart")))
    tree["optimizer"]["label_smoothing"] = tree.pop("loss")["label_smoothing"]
    tree["trainer"] |= {"histograms": False, "model_graph": False, "profile": True}
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path / "old.yaml", yaml.safe_dump(tree)))
    assert str(caught.value).splitlines()[1:] == [
        "  loss: required, but not set",
        "  optimizer.label_smoothing: moved to loss.label_smoothing",
        "  trainer.histograms: removed in 0.2.0; log histograms in a callback given to rexnet.train",
        "  trainer.model_graph: removed in 0.2.0; TensorBoard's SummaryWriter.add_graph draws the graph of"
        " rexnet.rexnet()",
        "  trainer.profile: removed in 0.2.0; run torch.profiler in a callback given to rexnet.train",
    ]


def test_replaced_values_are_validated() -> None:
    config = load_config("quickstart")
    changed = replace_values(config, {"data.root": Path("/a"), "ema.decay": 0.5, "model.pretrained": None})
    assert (changed.data.root, changed.ema.decay, changed.data.dataset) == (Path("/a"), 0.5, "digits")
    with pytest.raises(ConfigError, match=r"quickstart: one error\n  data\.rot: no such key; nearest: data\.root"):
        replace_values(config, {"data.rot": "/a"})


def test_values_given_from_python_are_checked_as_well() -> None:
    with pytest.raises(ConfigError, match="a dictionary: "):
        parse_config({"name": "x"}, source="a dictionary")


def test_every_key_is_described() -> None:
    def undescribed(section: type, path: str) -> list[str]:
        found = []
        for key, field in section.model_fields.items():
            below = [
                t for t in (field.annotation, *getattr(field.annotation, "__args__", ())) if hasattr(t, "model_fields")
            ]
            if below:
                found += undescribed(below[0], f"{path}{key}.")
            elif not field.description and f"{path}{key}" not in ("name", "seed"):
                found.append(path + key)
        return found

    assert undescribed(Config, "") == []
