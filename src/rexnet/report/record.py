"""What a run left behind in its folder, read back."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rexnet.config import Config, load_config
from rexnet.errors import ConfigError, first_sentence
from rexnet.runs.folder import read_table

EVERYTHING = {"scalars": 0, "images": 1}  # all scalars, where TensorBoard would draw a sample; the first picture
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder tells it."""

    folder: Path
    config: Config
    environment: dict[str, Any]
    """Of `environment.json`; empty where there is none."""
    table: list[dict[str, str]]
    """The rows of `metrics.csv`."""
    scalars: dict[str, Points]
    """By tag, pairs of optimiser step and value, from the event files."""
    augmented: bytes | None
    """A PNG of the first augmented images."""

    @property
    def name(self) -> str:
        """That of the folder."""
        return self.folder.resolve().name

    @property
    def epochs(self) -> int:
        """Epochs that are done."""
        return int(self.table[-1]["epoch"]) if self.table else 0

    @property
    def is_whole(self) -> bool:
        """Whether the schedule was gone through to its end."""
        return self.epochs >= self.config.schedule.total_epochs

    def column(self, name: str) -> Points:
        """Pairs of epoch and value of a column of the table, without empty fields."""
        return [(float(row["epoch"]), float(row[name])) for row in self.table if row.get(name)]

    def by_epoch(self, tag: str) -> Points:
        """Pairs of epoch (with a fraction) and value of a tag of the event files."""
        if not self.table:
            return [(step, value) for step, value in self.scalars.get(tag, [])]
        steps = int(self.table[-1]["step"]) / self.epochs
        return [(step / steps, value) for step, value in self.scalars.get(tag, [])]

    def best(self, name: str) -> tuple[int, float] | None:
        """Epoch and value of a column's largest entry."""
        points = self.column(name)
        if not points:
            return None
        epoch, value = max(points, key=lambda point: (point[1], point[0]))  # as with checkpoints, the later wins
        return int(epoch), value


def read_run(folder: Path) -> RunRecord:
    """Everything that a run folder tells; a run that goes on gives what there is so far.

    Raises:
        ConfigError: it is no run folder, or one of its files cannot be read.
    """
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"{folder}: is not a run folder: it has no config.yaml")
    try:
        environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        environment = {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder / 'environment.json'}: cannot be read: {first_sentence(error)}") from None
    try:
        table = read_table(folder / "metrics.csv")
        scalars, augmented = _read_events(folder)
        record = RunRecord(
            folder,
            load_config(folder / "config.yaml"),
            environment if isinstance(environment, dict) else {},
            table,
            scalars,
            augmented,
        )
        assert record.epochs >= 0
    except (OSError, UnicodeDecodeError, KeyError) as error:
        raise ConfigError(f"{folder}: its metrics cannot be read: {first_sentence(error)}") from None
    return record


def _read_events(folder: Path) -> tuple[dict[str, Points], bytes | None]:
    """Scalars by tag and the first augmented images, of all event files together."""
    if not any(folder.glob("events.out.tfevents.*")):
        return {}, None
    events = EventAccumulator(str(folder), size_guidance=EVERYTHING)
    events.Reload()
    tags = events.Tags()
    scalars = {tag: sorted({e.step: e.value for e in events.Scalars(tag)}.items()) for tag in tags["scalars"]}
    pictures = events.Images("train/augmented") if "train/augmented" in tags["images"] else []
    return scalars, pictures[0].encoded_image_string if pictures else None
