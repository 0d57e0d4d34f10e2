"""What a run left behind in its folder, read back."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rexnet.config import Config, load_config
from rexnet.errors import ConfigError, first_sentence
from rexnet.runs.run_folder import TABLE_COLUMNS, read_rows
from rexnet.runs.state import read_state

EVERYTHING = {"scalars": 0, "images": 1}  # all scalars, where TensorBoard would draw a sample; the first picture
LISTS = ("command", "gpus")  # of environment.json
Points = list[tuple[float, float]]


class Fault(NamedTuple):
    """What of a run cannot be read, so that a page is made without it."""

    part: str
    """Of the page that lacks it, such as `curves`."""
    sentence: str
    """Names the file within the run folder."""


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
    faults: tuple[Fault, ...] = ()
    """What could not be read."""

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
    """Everything that a run folder tells; a run that goes on gives what there is so far, a damaged one what is whole.

    Raises:
        ConfigError: it is no run folder, or its configuration cannot be read.
    """
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"{folder}: is not a run folder: it has no config.yaml")
    config, faults = load_config(folder / "config.yaml"), []
    environment, fault = _read_environment(folder / "environment.json")
    if fault:
        faults.append(Fault("environment", f"environment.json: {fault}"))
    try:
        table, fault = read_rows(folder / "metrics.csv")
    except OSError as error:
        table, fault = [], f"cannot be read: {first_sentence(error)}"
    if table and not set(TABLE_COLUMNS) <= set(table[0]):
        table, fault = [], f"its head should name {', '.join(TABLE_COLUMNS)}"
    if fault:
        faults.append(Fault("curves", f"metrics.csv: {fault}"))
    fault = ""
    try:
        scalars, augmented = _read_events(folder)
    except Exception as error:  # tensorboard and protobuf raise whatever a damaged record leads them to
        scalars, augmented = {}, None
        fault = f"events.out.tfevents: cannot be read: {first_sentence(error)}"
        faults.append(Fault("curves", fault))
    lost = _count_lost(table, scalars)
    if lost and not fault and read_state(folder).state != "running":  # which has not written all of them yet
        faults.append(Fault("curves", f"events.out.tfevents: lacks {lost} of the {len(table)} epochs of metrics.csv"))
    within = tuple(Fault(part, sentence.replace(f"{folder}/", "")) for part, sentence in faults)
    return RunRecord(folder, config, environment, table, scalars, augmented, within)


def _read_environment(path: Path) -> tuple[dict[str, Any], str]:
    """The content of `environment.json`, and what is to be said where it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, "is not there"
    except (OSError, ValueError, RecursionError) as error:
        return {}, f"cannot be read: {first_sentence(error)}"
    lists = all(isinstance(content.get(name, []), list) for name in LISTS) if isinstance(content, dict) else False
    return (content, "") if lists else ({}, "is not what a run notes down")


def _count_lost(table: list[dict[str, str]], scalars: dict[str, Points]) -> int:
    """Epochs at whose end the event files tell nothing, though TensorBoard was told."""
    told = {step for points in scalars.values() for step, _ in points}
    return sum(int(row["step"]) not in told for row in table)


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
