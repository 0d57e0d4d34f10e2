"""Data, recipe and environment of a run: the parts of a report that need no predictions."""

import itertools
from typing import Any

import numpy as np

from rexnet.class_names import readable_names
from rexnet.config import RunConfig, dump_config
from rexnet.config.data_schema import DataConfig
from rexnet.config.differences import find_changes, has_role
from rexnet.config.load import find_config, load_config
from rexnet.config.section import Role
from rexnet.data.datasets import load_index
from rexnet.data.datasets.index import Index, Split
from rexnet.data.datasets.remarks import remark_on_data
from rexnet.data.sources.image_files import printable
from rexnet.errors import ConfigError, DataError


def open_split(data: DataConfig, split: Split) -> Index | None:
    """Returns the images of a split, or None if they are not on this machine."""
    if not data.root.exists():  # load_index would create the digits or download an archive
        return None
    try:
        return load_index(data.model_copy(update={"download": False}), split)
    except DataError:
        return None


def describe_data(data: DataConfig, train: Index | None, val: Index | None) -> dict[str, Any]:
    """Returns the kind of data set, and the number of images in each split with its smallest and largest class."""
    splits = [
        (name, len(index), *_smallest_and_largest(index))
        for name, index in (("training", train), ("validation", val))
        if index is not None
    ]
    remarks = [] if train is None or val is None else remark_on_data(data, train, val)
    for index in filter(None, (train, val)):  # reports may be published
        remarks = [remark.replace(str(index.root), index.root.name) for remark in remarks]
    return {"dataset": data.dataset, "splits": splits, "remarks": remarks}


def describe_recipe(config: RunConfig, command: Any) -> dict[str, Any]:
    """Returns the config, the file that the run started with (None if unknown), and the keys that differ from it."""
    base, other = _load_base(command) or (None, config)
    changes = find_changes(config, other).items()
    differences = {key: values for key, values in changes if not has_role(key, Role.MECHANICS)}
    return {"text": dump_config(config), "base": base, "differences": differences}


def describe_environment(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns labels and values of an `environment.json`."""
    if not facts:
        return []
    git, cpu = facts.get("git", {}), facts.get("cpu", {})
    pairs: list[tuple[str, Any]] = [
        ("Commit", git.get("commit")),
        ("Started", facts.get("started")),
        ("GPUs", ", ".join(facts.get("gpus", [])) or "none"),
        ("CPU", f"{cpu.get('cores')} cores, {cpu.get('torch_threads')} threads"),
        ("Python", facts.get("python")),
        *facts.get("packages", {}).items(),
    ]
    return [(label, printable(str(value))) for label, value in pairs if value]


def _smallest_and_largest(index: Index) -> tuple[str, str]:
    counts = np.bincount(index.labels, minlength=len(index.class_names))
    least, most = int(counts.argmin()), int(counts.argmax())
    if counts[least] == counts[most]:
        return f"{counts[least]:,} each", f"{counts[most]:,} each"
    names = readable_names((index.class_names[least], index.class_names[most]))
    return f"{names[0]} ({counts[least]:,})", f"{names[1]} ({counts[most]:,})"


def _load_base(command: Any) -> tuple[str, RunConfig] | None:
    """Loads the config that a command names."""
    words = [str(word) for word in command] if isinstance(command, list) else []
    named = [after for word, after in itertools.pairwise(words) if word == "--config"]
    named += [word.partition("=")[2] for word in words if word.startswith("--config=")]
    if not named:
        return None
    try:
        path = find_config(named[-1])
        return path.name, load_config(path, ["data.root=data"], RunConfig)  # a recipe may leave the folder open
    except ConfigError:  # the file was deleted, or is incomplete
        return None
