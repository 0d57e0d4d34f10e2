"""A configuration without what it says about the machine that it ran on."""

from pathlib import Path, PurePath

from rexnet.config.schema import Config, TrainerConfig

ROOT = Path("path/to/images")  # in what is handed on, whatever it was here
DIGITS = Path("data/digits")  # which are made where they are looked for


def make_portable(config: Config) -> Config:
    """`config` without the folders of this machine, which are nobody's business."""
    pretrained = config.model.pretrained
    if pretrained is not None and "://" not in pretrained:
        pretrained = PurePath(pretrained).name
    root = DIGITS if config.data.dataset == "digits" else ROOT
    data = {"root": root, "download": False, "manifest": None, "cache_folder": None}
    return config.model_copy(
        update={
            "model": config.model.model_copy(update={"pretrained": pretrained}),
            "data": config.data.model_copy(update=data),
            "trainer": config.trainer.model_copy(update={"runs_dir": TrainerConfig().runs_dir}),
        }
    )
