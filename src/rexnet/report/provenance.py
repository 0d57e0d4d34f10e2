"""Data, recipe and environment of a run, and how to use its weights: the parts of a report that need no predictions."""

import itertools
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rexnet.class_names import readable_names
from rexnet.config import Config, dump_config
from rexnet.config.data_schema import DataConfig
from rexnet.config.differences import recipe_of
from rexnet.config.load import find_config, load_config
from rexnet.data.datasets import load_index
from rexnet.data.datasets.index import Index, Split
from rexnet.data.sources.image_files import printable
from rexnet.errors import ConfigError, DataError
from rexnet.models.family import FAMILY
from rexnet.models.plan import timm_name
from rexnet.runs.run import Run

PRIVATE = ("Command", "Changed files", "System")  # left out of published reports


def open_split(data: DataConfig, split: Split) -> Index | None:
    """Returns the images of a split, or None if they are not on this machine."""
    if not data.root.exists():  # load_index would create the digits or download an archive
        return None
    try:
        return load_index(data.model_copy(update={"download": False}), split)
    except DataError:
        return None


def describe_data(data: DataConfig, train: Index | None, val: Index | None) -> dict[str, Any]:
    """Returns the location of the images, and their number in each split with its smallest and largest class."""
    splits = [
        (name, len(index), *_smallest_and_largest(index))
        for name, index in (("training", train), ("validation", val))
        if index is not None
    ]
    return {"root": str(data.root), "dataset": data.dataset, "splits": splits}


def describe_recipe(config: Config, command: Any) -> dict[str, Any]:
    """Returns the config, the file that the run started with (None if unknown), and the keys that differ from it."""
    base = _load_base(command)
    differences = [] if base is None else compare_recipes([config, base[1]])
    return {"text": dump_config(config), "base": base and base[0], "differences": differences}


def compare_recipes(configs: Sequence[Config]) -> list[tuple[str, list[Any]]]:
    """Returns every key of the recipe whose value differs between configs, with its value in each."""
    recipes = [recipe_of(config) for config in configs]
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    rows = [(key, [recipe.get(key) for recipe in recipes]) for key in keys]
    return [(key, values) for key, values in rows if any(value != values[0] for value in values)]


def describe_environment(facts: dict[str, Any], public: bool = False) -> list[tuple[str, str]]:
    """Returns labels and values of an `environment.json`; in public without command and system."""
    git, packages, cpu = (_mapping(facts.get(name)) for name in ("git", "packages", "cpu"))
    pairs: list[tuple[str, Any]] = [
        ("Command", shlex.join(map(str, facts.get("command") or []))),
        ("Commit", git.get("commit")),
        ("Changed files", ", ".join(map(str, git.get("changed_files") or [])) if git.get("commit") else None),
        ("Started", facts.get("started")),
        ("GPUs", (", ".join(map(str, facts.get("gpus") or [])) or "none") if facts else None),
        ("CPU", f"{cpu.get('cores')} cores, {cpu.get('torch_threads')} threads" if cpu else None),
        ("Python", facts.get("python")),
        ("System", facts.get("platform")),
        *packages.items(),
    ]
    return [(label, printable(str(value))) for label, value in pairs if value and not (public and label in PRIVATE)]


def describe_usage(run: Run, classes: int) -> list[tuple[str, str]]:
    """Returns labels and lines to copy that resume, evaluate, apply or export a run."""
    if not run.has_checkpoint:
        return []
    quoted, model = shlex.quote(str(run.folder)), run.config.model
    lines = [] if run.is_complete else [("Resume", f"rexnet train --resume {quoted}")]
    lines += [
        ("Evaluate again", f"rexnet evaluate {quoted}"),
        ("Classify images", f"rexnet predict {quoted} IMAGES --out predictions.csv"),
        ("Export", f"rexnet export {quoted} --to onnx safetensors"),
        ("Load in Python", f'import rexnet\n\nmodel = rexnet.load({_literal(run.folder)})\nmodel.predict("photo.jpg")'),
    ]
    if model.name == "rexnet" and classes:
        name = timm_name(model.variant, model.width_mult)
        if name in {published.name for published in FAMILY}:
            path = _literal(run.folder / "export" / "model.safetensors")
            code = f'import timm\n\nmodel = timm.create_model("{name}", num_classes={classes}, checkpoint_path={path})'
            lines.append(("Load with timm, after the export", code))
    return lines


def _smallest_and_largest(index: Index) -> tuple[str, str]:
    counts = np.bincount(index.labels, minlength=len(index.class_names))
    least, most = int(counts.argmin()), int(counts.argmax())
    if counts[least] == counts[most]:
        return f"{counts[least]:,} each", f"{counts[most]:,} each"
    names = readable_names((index.class_names[least], index.class_names[most]))
    return f"{names[0]} ({counts[least]:,})", f"{names[1]} ({counts[most]:,})"


def _load_base(command: Any) -> tuple[str, Config] | None:
    """Loads the config that a command names."""
    words = [str(word) for word in command] if isinstance(command, list) else []
    named = [after for word, after in itertools.pairwise(words) if word == "--config"]
    named += [word.partition("=")[2] for word in words if word.startswith("--config=")]
    if not named:
        return None
    try:
        path = find_config(named[-1])
        return path.name, load_config(path, ["data.root=data"])  # a recipe may leave the folder open
    except ConfigError:  # the file was deleted, or is incomplete
        return None


def _literal(path: Path) -> str:
    """Returns a path as a Python literal in double quotes."""
    return json.dumps(str(path), ensure_ascii=False)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
