"""Removes from a configuration the paths of the machine it ran on."""

from pathlib import Path, PurePath

from rexnet.config.detection_schema import DetectionConfig
from rexnet.config.load import Kind, replace_values
from rexnet.config.schema import Config, TrainerConfig

PLACEHOLDER = Path("path/to/images")
DIGITS = Path("data/digits")  # these are created at data.root, so any path works


def make_portable(config: Kind) -> Kind:
    """Returns `config` without the folders of this machine, to be published."""
    pretrained = config.model.pretrained
    if pretrained is not None and "://" not in pretrained:
        pretrained = PurePath(pretrained).name
    values: dict[str, object] = {"model.pretrained": pretrained, "trainer.runs_dir": TrainerConfig().runs_dir}
    values["data.root"] = PLACEHOLDER
    if isinstance(config, Config):
        values |= {"data.download": False, "data.manifest": None, "data.cache_folder": None}
        values["data.root"] = DIGITS if config.data.dataset == "digits" else PLACEHOLDER
    if isinstance(config, Config) and config.distillation is not None:
        teacher = config.distillation.teacher
        network, equals, file = teacher.partition("=") if teacher.startswith("timm/") else ("", "", teacher)
        values["distillation.teacher"] = f"{network}{equals}{PurePath(file).name}"
    if isinstance(config, DetectionConfig) and config.detector.weights is not None:
        values["detector.weights"] = Path(config.detector.weights.name)
    return replace_values(config, values)
