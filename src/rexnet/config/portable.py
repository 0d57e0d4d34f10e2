"""Removes from a configuration the paths of the machine it ran on."""

from pathlib import Path, PurePath

from rexnet.config.load import replace_values
from rexnet.config.schema import Config, TrainerConfig

PLACEHOLDER = Path("path/to/images")
DIGITS = Path("data/digits")  # these are created at data.root, so any path works


def make_portable(config: Config) -> Config:
    """Returns `config` without the folders of this machine, to be published."""
    pretrained = config.model.pretrained
    if pretrained is not None and "://" not in pretrained:
        pretrained = PurePath(pretrained).name
    return replace_values(
        config,
        {
            "model.pretrained": pretrained,
            "data.root": DIGITS if config.data.dataset == "digits" else PLACEHOLDER,
            "data.download": False,
            "data.manifest": None,
            "data.cache_folder": None,
            "trainer.runs_dir": TrainerConfig().runs_dir,
        },
    )
