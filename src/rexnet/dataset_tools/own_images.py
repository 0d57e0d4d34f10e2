"""Chooses how to train on a folder of images: `rexnet train /path/to/images`."""

import math
from collections.abc import Sequence
from pathlib import Path

from rexnet.config import load_config
from rexnet.config.schema import ModelConfig
from rexnet.data.datasets import load_index
from rexnet.data.datasets.by_name import detect_layout
from rexnet.data.datasets.class_folders import find_split
from rexnet.data.sources.source import digest
from rexnet.dataset_tools.split import index_unsplit, write_split
from rexnet.errors import CheckpointError, ConfigError
from rexnet.models.factory import hub_name
from rexnet.models.fetching import fetch_weights
from rexnet.system.device import resolve_device

HELD_OUT = 0.2  # of the images of each class
SIZES = {"gpu": 224, "cpu": 128}  # pixels; a CPU trains on 128 about three times as fast as on 224
WEIGHTS = "nav_in1k"  # on the Hugging Face hub
WITHOUT_WEIGHTS = "from scratch, without weights from the hub; better: model.pretrained=FILE"
FEWEST_STEPS, MOST_EPOCHS = 900, 100  # twice what 12 species of flowers need from scratch (docs/recipes.md)


def choose_recipe(root: Path, overrides: Sequence[str]) -> tuple[str, list[str], dict[str, str]]:
    """Returns a recipe for images, overrides for it that end with the given ones, and the reasons by label.

    Class folders without splits are split by a table next to the runs, which depends on the images only.

    Raises:
        RexnetError: the images, or their splits, cannot be used.
    """
    if not root.exists():
        raise ConfigError(f"{root}: no such images; give their folder, --config CONFIG or --resume RUN")
    layout, splits = detect_layout(root), "splits as found there"
    recipe = "finetune/folder" if layout == "csv" else f"finetune/{layout}"
    chosen = [f"data.dataset={layout}", f"data.root={root}"]
    if layout == "folder" and root.is_dir() and find_split(root, "val") is None:
        table = _hold_out(root, load_config(recipe, overrides).trainer.runs_dir)
        chosen = ["data.dataset=csv", f"data.root={table}"]
        splits = f"{HELD_OUT:.0%} of each class held out by {table}"
    config = load_config(recipe, [*chosen, *overrides, "distillation=null"])  # a teacher may need weights
    train, val = (load_index(config.data, split) for split in ("train", "val"))
    accelerator = resolve_device(config.trainer).accelerator
    given = [override for override in overrides if override.startswith("model.pretrained=")]
    if config.model.pretrained is not None and given:
        weights = f"{config.model.pretrained}, as given"
    elif not given and config.model.name == "rexnet" and _has_weights(config.model):
        chosen.append(f"model.pretrained={WEIGHTS}")
        weights = f"fine-tunes {WEIGHTS} of the Hugging Face hub"
    else:
        recipe, weights = "finetune/scratch", "from scratch" if given else WITHOUT_WEIGHTS
        if config.data.train_on != "train":
            chosen.append(f"data.train_on={config.data.train_on}")
    config = load_config(recipe, [*chosen, *overrides])
    batch_size = min(config.data.step_images, len(train))
    epochs = min(MOST_EPOCHS, max(config.schedule.epochs, math.ceil(FEWEST_STEPS / (len(train) // batch_size))))
    chosen += [f"data.image_size={SIZES[accelerator]}", f"data.batch_size={batch_size}", f"schedule.epochs={epochs}"]
    chosen += overrides
    config = load_config(recipe, chosen)
    reasons = {
        "Images": f"{len(train):,} and {len(val):,} for validation, {len(train.class_names)} classes; {splits}",
        "Weights": weights,
        "Image size": f"{config.data.image_size} px, for training on a {accelerator.upper()}",
        "Epochs": f"{config.schedule.epochs}, of {len(train) // config.data.step_images} steps each",
    }
    return recipe, chosen, reasons


def _hold_out(root: Path, folder: Path) -> Path:
    """Returns a table in `folder` that splits the images of `root`; its name depends on them, so it is written once."""
    name = digest([str(root.resolve()), *index_unsplit(root).paths])[:8]
    table = folder / f"split-{root.resolve().name}-{name}.csv"
    if not table.exists():
        write_split(root, table, HELD_OUT)
    return table


def _has_weights(model: ModelConfig) -> bool:
    """Downloads the weights of a ReXNet; False if the hub has none of its width, or cannot be reached."""
    try:
        fetch_weights(WEIGHTS, hub_name(model))
    except CheckpointError:
        return False
    return True
