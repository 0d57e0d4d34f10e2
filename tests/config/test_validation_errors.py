import pytest
import yaml

from rexnet.config import dump_config, load_config, parse_config
from rexnet.errors import ConfigError


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


def test_a_missing_key_is_named() -> None:
    tree = yaml.safe_load(dump_config(load_config("quickstart")))
    del tree["optimizer"]["lr"], tree["schedule"]
    with pytest.raises(ConfigError, match=r"2 errors\n  optimizer\.lr: required, but not set\n  schedule: required"):
        parse_config(tree, source="x.yaml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "augmentation.crop_scale=[0.9, 0.1]",
            r"augmentation: crop_scale should be \[smallest, largest\], not \[0\.9, 0\.1\]",
        ),
        ("schedule.warmup_epochs=99", r"schedule: warmup_epochs should be below epochs \(8\), not 99"),
        ("schedule.decay_epochs=8", r"schedule: decay_epochs needs milestones=\[\] and at most the 7 epochs after the"),
        ("schedule={decay_epochs: 3, milestones: [5]}", r"schedule: decay_epochs needs milestones=\[\] and"),
        ("ema.last_epochs=3", r"ema: needs decay \(0\.98\) or last_epochs \(3\), and null for the other"),
        ("ema={decay: null, last_epochs: 9}", r"ema\.last_epochs \(9\) should not exceed the 8 epochs"),
        ("trainer.val_every_epochs=3", r"trainer\.val_every_epochs \(3\) should divide the 8 epochs of the schedule"),
        ("optimizer.unfreeze_epochs=8", r"optimizer\.unfreeze_epochs \(8, after 0 frozen ones\) should end"),
        ("schedule.min_lr=5", r"schedule\.min_lr \(5\) should not exceed optimizer\.lr"),
        ("model.name=resnet", r"model\.name: .*found 'resnet'"),
        ("distillation=5", r"distillation: input should be .*found 5"),
        ("optimizer.layer_decay=0", r"optimizer\.layer_decay: input should be greater than 0, found 0"),
        ("optimizer.layer_decay=1.2", r"optimizer\.layer_decay: input should be less than or equal to 1, found 1\.2"),
        ("optimizer.sam_rho=0", r"optimizer\.sam_rho: input should be greater than 0, found 0"),
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


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.accumulate=2"], r"sam_rho needs trainer\.accumulate=1, not 2: each batch passes twice"),
        (["trainer.accumulate=auto"], r"sam_rho needs trainer\.accumulate=1, not auto: each"),
        (["trainer.compile=true", "trainer.cuda_graphs=true"], r"sam_rho needs trainer\.cuda_graphs=false: each"),
    ],
)
def test_sharpness_aware_minimization_is_refused_where_it_would_differ(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("quickstart", ["optimizer.sam_rho=0.05", *overrides])


def test_a_key_that_moved_is_pointed_to_its_new_section() -> None:
    with pytest.raises(ConfigError, match=r"label_smoothing: no such key; nearest: loss\.label_smoothing"):
        load_config("quickstart", ["optimizer.label_smoothing=0.1"])


def test_a_removed_key_is_named_as_such() -> None:
    with pytest.raises(ConfigError, match=r"trainer\.profile: removed in 0\.2\.0; see the changelog"):
        load_config("quickstart", ["trainer.profile=true"])
