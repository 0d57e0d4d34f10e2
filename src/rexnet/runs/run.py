"""The reader of run folders: config, metrics, state, checkpoints, kept predictions, and the damage in any of them."""

import itertools
import json
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from rexnet.config import Config, load_config
from rexnet.errors import CheckpointError, ConfigError, DataError, first_sentence
from rexnet.metrics.predictions import Predictions, load_predictions
from rexnet.runs.checkpoint_files import checkpoint_folder, find_checkpoint
from rexnet.runs.run_folder import CONFIG_FILE, ENVIRONMENT_FILE, TABLE_COLUMNS, TABLE_FILE, is_run, read_rows
from rexnet.runs.state import RunState, read_state

EVENTS = "events.out.tfevents"
EVALUATION = "evaluation"
SIZE_GUIDANCE = {"scalars": 0, "images": 1}  # all scalars, of which TensorBoard would keep a sample; the first picture
WEIGHTS = ("greedy-soup", "soup", "ema", "raw")

Points = list[tuple[float, float]]


class Damage(NamedTuple):
    """A file of a run that is missing or cannot be read completely."""

    file: str
    """Path in the run folder."""
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


class KeptPredictions(NamedTuple):
    """Predictions of one checkpoint or export that `rexnet evaluate` or `rexnet report` kept."""

    checkpoint: str
    """Stem of its file; empty for an export."""
    weights: str
    """`ema`, `raw`, `soup` or `greedy-soup`."""
    images: str
    """The split, followed by options of `rexnet evaluate` such as another folder or test-time augmentation."""
    predictions: Predictions
    is_best: bool = False
    """True for the run's best checkpoint on the validation images."""


class Run:
    """A run folder, each file of which is read when it is first asked for, and once.

    Damaged files raise nothing, except for the config: what is readable is there, and `damage` names the rest.

    Args:
        folder: the run folder; the run may be in progress.

    Raises:
        ConfigError: `folder` is not a run folder.
    """

    def __init__(self, folder: Path) -> None:
        if not is_run(folder):
            raise ConfigError(f"{folder}: is not a run folder: it has no {CONFIG_FILE}")
        self.folder = folder

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    @cached_property
    def config(self) -> Config:
        """The resolved config.

        Raises:
            ConfigError: it cannot be read.
        """
        return load_config(self.folder / CONFIG_FILE)

    @property
    def total_epochs(self) -> int | None:
        """Length of the schedule in epochs; None if the config cannot be read."""
        try:
            return self.config.schedule.total_epochs
        except ConfigError:
            return None

    @cached_property
    def state(self) -> RunState:
        """The state, with the time spent in training over all sessions."""
        state = read_state(self.folder)
        if state.state == "unknown" and self.is_complete:
            state = RunState("finished", "", 0.0)
        return state._replace(seconds=max(state.seconds, self._logged_seconds()))

    @property
    def environment(self) -> dict[str, Any]:
        """Content of `environment.json`; empty if it cannot be read."""
        return self._environment[0]

    @property
    def rows(self) -> list[dict[str, str]]:
        """The complete rows of `metrics.csv`, one per epoch."""
        return self._table[0]

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return max((int(row["epoch"]) for row in self.rows), default=0)

    @property
    def is_complete(self) -> bool:
        """True if every epoch of the schedule is finished."""
        return self.total_epochs is not None and self.epochs >= self.total_epochs

    @property
    def best_top1(self) -> tuple[int, float] | None:
        """Epoch and best logged validation top-1 in percent: of the EMA weights if there are any, else of the raw."""
        return self.best("val_ema/top1") or self.best("val/top1")

    @property
    def augmented(self) -> bytes | None:
        """PNG of the first augmented training batch that TensorBoard logged."""
        return self._events[1]

    @property
    def has_checkpoint(self) -> bool:
        """True if the run holds any checkpoint."""
        return any(checkpoint_folder(self.folder).glob("*.ckpt"))

    @property
    def best_checkpoint(self) -> Path | None:
        """The checkpoint with the best validation top-1, else the last one; None if there is none."""
        try:
            return find_checkpoint(self.folder)
        except CheckpointError:
            return None

    @property
    def kept_predictions(self) -> list[KeptPredictions]:
        """The predictions in `evaluation/`: of the best checkpoint first, and of its EMA weights before others."""
        return self._kept[0]

    @property
    def damage(self) -> list[Damage]:
        """All damage of the run; reads every file but checkpoints."""
        scalars, _, fault = self._events
        logged = {step for points in scalars.values() for step, _ in points}
        lost = sum(int(row["step"]) not in logged for row in self.rows)
        if lost and not fault and self.state.state != "running":  # whose last events are not flushed yet
            fault = f"lacks {lost} of the {len(self.rows)} epochs of {TABLE_FILE}"
        faults = {ENVIRONMENT_FILE: self._environment[1], TABLE_FILE: self.table_fault, EVENTS: fault}
        return [Damage(file, fault) for file, fault in faults.items() if fault] + self.kept_damage

    @property
    def kept_damage(self) -> list[Damage]:
        """The damage of kept predictions."""
        return self._kept[1]

    @property
    def table_fault(self) -> str:
        """The damage of `metrics.csv`; empty if it is intact."""
        return self._table[1]

    def column(self, name: str) -> Points:
        """Returns pairs of epoch and value from a column of `metrics.csv`, without empty fields."""
        return [(float(row["epoch"]), float(row[name])) for row in self.rows if row.get(name)]

    def curve(self, tag: str) -> Points:
        """Returns pairs of fractional epoch and value of a TensorBoard tag, or the column of that name without it."""
        points = self._events[0].get(tag)
        if not points:
            return self.column(tag)
        steps_per_epoch = int(self.rows[-1]["step"]) / self.epochs if self.rows else 1
        return [(step / steps_per_epoch, value) for step, value in points]

    def best(self, name: str) -> tuple[int, float] | None:
        """Returns epoch and value of a column's largest entry; of equal ones the last, as for checkpoints."""
        points = self.column(name)
        if not points:
            return None
        epoch, value = max(points, key=lambda point: (point[1], point[0]))
        return int(epoch), value

    def measure_size(self) -> int:
        """Returns the bytes of all files; hard links to the same file count once."""
        sizes = {}
        for file in self.folder.rglob("*"):
            try:
                stat = file.lstat()
            except OSError:  # deleted in the meantime
                continue
            if not file.is_dir():
                sizes[stat.st_dev, stat.st_ino] = stat.st_size
        return sum(sizes.values())

    @cached_property
    def _environment(self) -> tuple[dict[str, Any], str]:
        try:
            content = json.loads((self.folder / ENVIRONMENT_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}, "is missing"
        except (OSError, ValueError, RecursionError) as error:
            return {}, f"cannot be read: {first_sentence(error)}"
        is_ours = isinstance(content, dict) and all(isinstance(content.get(k, []), list) for k in ("command", "gpus"))
        return (content, "") if is_ours else ({}, "does not describe an environment")

    @cached_property
    def _table(self) -> tuple[list[dict[str, str]], str]:
        try:
            rows, fault = read_rows(self.folder / TABLE_FILE)
        except OSError as error:
            return [], f"cannot be read: {first_sentence(error)}"
        if rows and not set(TABLE_COLUMNS) <= set(rows[0]):
            return [], f"its header should name {', '.join(TABLE_COLUMNS)}"
        return rows, fault

    @cached_property
    def _events(self) -> tuple[dict[str, Points], bytes | None, str]:
        """Scalars by tag with their optimizer steps, the augmented images, and the damage."""
        if not any(self.folder.glob(f"{EVENTS}.*")):
            return {}, None, ""
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        try:
            events = EventAccumulator(str(self.folder), size_guidance=SIZE_GUIDANCE)
            events.Reload()
            tags = events.Tags()
            scalars = {tag: sorted({e.step: e.value for e in events.Scalars(tag)}.items()) for tag in tags["scalars"]}
            pictures = events.Images("train/augmented") if "train/augmented" in tags["images"] else []
        except Exception as error:  # tensorboard and protobuf raise many types for a damaged record
            return {}, None, f"cannot be read: {first_sentence(error)}"
        return scalars, pictures[0].encoded_image_string if pictures else None, ""

    @cached_property
    def _kept(self) -> tuple[list[KeptPredictions], list[Damage]]:
        best = self.best_checkpoint
        found, damage = [], []
        for path in sorted((self.folder / EVALUATION).glob("*.npz")):
            try:
                found.append(_read_kept(path, best))
            except DataError as error:
                damage.append(Damage(f"{EVALUATION}/{path.name}", str(error).removeprefix(f"{path}: ")))
        if found and best is None:
            damage.append(Damage("checkpoints", "are missing; these results come from earlier evaluations"))
        return sorted(found, key=lambda kept: (not kept.is_best, kept.images != "val", kept.weights != "ema")), damage

    def _logged_seconds(self) -> float:
        """Returns the training time in `metrics.csv`, whose clock starts at 0 in each session."""
        clock = [seconds for _, seconds in self.column("seconds")]
        return sum(now for now, after in itertools.pairwise([*clock, 0.0]) if after < now)


def _read_kept(path: Path, best: Path | None) -> KeptPredictions:
    """Reads predictions named CHECKPOINT-WEIGHTS-IMAGES.npz."""
    kinds = [kind for kind in WEIGHTS if f"-{kind}-" in path.stem]
    if not kinds:
        raise DataError(f"{path}: is not named CHECKPOINT-WEIGHTS-SPLIT.npz, as `rexnet evaluate` names predictions")
    weights = min(kinds, key=lambda kind: path.stem.index(f"-{kind}-"))  # a data set's name may contain another kind
    checkpoint, _, images = path.stem.partition(f"-{weights}-")
    is_best = images == "val" and (best is None or checkpoint == best.stem)
    return KeptPredictions(checkpoint, weights, images, load_predictions(path), is_best)
