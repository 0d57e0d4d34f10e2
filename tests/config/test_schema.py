from pathlib import Path

import pytest
import torch

from rexnet.config import Config, DetectionConfig, load_config
from rexnet.config.load import CONFIG_FOLDERS
from rexnet.errors import ConfigError
from rexnet.models.factory import build_model

SHIPPED = sorted(CONFIG_FOLDERS[-1].rglob("*.yaml"))
DETECTORS = [path for path in SHIPPED if path.parent.name == "detect"]
CLASSIFIERS = [path for path in SHIPPED if path not in DETECTORS]


@pytest.mark.parametrize("path", CLASSIFIERS, ids=lambda path: path.stem)
def test_every_shipped_config_loads_and_builds_its_network(path: Path) -> None:
    config = load_config(path)
    with torch.device("meta"):
        model = build_model(config.model, [str(n) for n in range(1000)], pretrained=False)
    assert model.get_classifier().out_features == 1000


def test_the_shipped_files_are_those_that_are_promised() -> None:
    names = {str(path.relative_to(CONFIG_FOLDERS[-1])) for path in SHIPPED}
    widths = {f"rexnet_{width}x.yaml" for width in ("0.9", "1.0", "1.3", "1.5", "2.0", "2.2", "3.0")}
    widths |= {"rexnet_lite_1.0x.yaml", "rexnet_1.0x_modern.yaml"}
    sets = ("aircraft", "cars", "cub200", "flowers102", "food101")
    tuned = {f"finetune/{name}.yaml" for name in (*sets, "folder", "scratch")}
    detect = {f"detect/{name}_rexnet_1.0x.yaml" for name in ("ssdlite", "faster_rcnn", "mask_rcnn")}
    studies = {f"studies/{name}.yaml" for name in ("nonlinearity", "redesigns", "widths")}
    assert names == widths | tuned | detect | studies | {"imagenet.yaml", "quickstart.yaml", "detect/finetune.yaml"}


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


@pytest.mark.parametrize("path", DETECTORS, ids=lambda path: path.stem)
def test_every_detector_recipe_loads_as_one_and_not_as_a_classifier(path: Path) -> None:
    assert load_config(path, (), DetectionConfig).detector.name in ("ssdlite", "faster_rcnn", "mask_rcnn")
    with pytest.raises(ConfigError, match="belongs to a detector, but a classifier is needed here"):
        load_config(path)


def test_a_classifier_is_no_detector() -> None:
    with pytest.raises(ConfigError, match="belongs to a classifier, but a detector is needed here"):
        load_config("quickstart", (), DetectionConfig)


@pytest.mark.parametrize("key", ["trainer.accumulate", "data.batch_size"])
def test_a_detector_needs_numbers(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key}: auto is for classifiers; give a number"):
        load_config("detect/finetune", [f"{key}=auto"], DetectionConfig)


def test_a_batch_size_that_is_not_resolved_is_one_sentence() -> None:
    with pytest.raises(
        ConfigError, match=r"^data\.batch_size: auto needs rexnet train --config or rexnet doctor; give"
    ):
        load_config("quickstart", ["data.batch_size=auto"]).data.step_images  # noqa: B018 - the property raises


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

    assert undescribed(Config, "") + undescribed(DetectionConfig, "") == []


GROWING = "augmentation.image_size={start: 64, end: 128}"


@pytest.mark.parametrize(
    ("overrides", "sizes"),
    [
        ([], [128] * 8),
        (["augmentation.image_size=96"], [96] * 8),
        ([GROWING], [64, 64, 96, 96, 128, 128, 128, 128]),
        ([GROWING, "augmentation.image_size.epochs=2"], [64, 96, 128, 128, 128, 128, 128, 128]),
        ([GROWING, "augmentation.image_size.epochs=7"], [64, 64, 64, 64, 96, 96, 96, 128]),
        ([GROWING, "schedule.cooldown_epochs=0", "schedule.epochs=1"], [128]),
        ([GROWING, "schedule.epochs=2"], [64, 128, 128, 128]),
        (["augmentation.image_size={start: 96, end: 96, epochs: 3}"], [96] * 8),
        (["augmentation.image_size={start: 64, end: 192, epochs: 3}"], [64, 96, 128, 192, 192, 192, 192, 192]),
    ],
    ids=str,
)
def test_training_images_have_the_size_of_their_epoch(overrides: list[str], sizes: list[int]) -> None:
    schedule = ["data.image_size=128", "schedule.epochs=6", "schedule.warmup_epochs=0", "schedule.cooldown_epochs=2"]
    assert load_config("imagenet", [*schedule, *overrides]).training_sizes == tuple(sizes)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("100", r"augmentation\.image_size: 100 px should be a multiple of 32 up to 4096, such as 96 or 128"),
        ("20", r"20 px should be a multiple of 32 up to 4096, such as 32"),
        ("4128", r"4128 px should be a multiple of 32 up to 4096, such as 4096"),
        ("{start: 64, end: 90}", r"90 px should be a multiple of 32 up to 4096, such as 64 or 96"),
        ("{start: 128, end: 96}", r"augmentation\.image_size: start \(128\) should not exceed end \(96\)"),
        (
            "{start: 64, end: 96, epochs: 400}",
            r"image_size\.epochs \(400\) should be below the schedule's 400",
        ),
        (
            "large",
            r"augmentation\.image_size: should be null, a number of pixels, or {start: PIXELS, end: PIXELS}, fou",
        ),
        ("true", r"should be null, a number of pixels, or {start: PIXELS, end: PIXELS}, found True"),
    ],
)
def test_a_size_that_networks_do_not_take_is_one_sentence(value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("imagenet", [f"augmentation.image_size={value}", "schedule.cooldown_epochs=0"])
