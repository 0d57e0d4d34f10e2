"""The reader of run folders: config, metrics, state, checkpoints, kept predictions, and the damage in any of them."""

import contextlib
import itertools
import json
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from rexnet.config import Config, load_config
from rexnet.errors import CheckpointError, ConfigError, DataError, first_sentence
from rexnet.metrics.predictions import EVALUATION_FOLDER, Predictions, load_predictions
from rexnet.runs.checkpoint_files import checkpoint_folder, find_checkpoint
from rexnet.runs.run_folder import CONFIG_FILE, ENVIRONMENT_FILE, TABLE_COLUMNS, TABLE_FILE, is_run
from rexnet.runs.state import RunState, read_state

EVENTS = "events.out.tfevents"
SIZE_GUIDANCE = {"scalars": 0, "images": 1}  # all scalars, of which TensorBoard would keep a sample; the first picture
WEIGHTS = ("soup", "ema", "raw")

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
    """`ema`, `raw` or `soup`."""
    images: str
    """The split, followed by options of `rexnet evaluate` such as another folder or test-time augmentation."""
    predictions: Predictions
    is_best: bool = False
    """True for the run's best checkpoint on the validation images."""


class Run:
    """A run folder, each file of which is read when it is first asked for, and once.

    Only a damaged config raises an error. Of other files the readable part is returned.

    Args:
        folder: the run folder; the run may be in progress.

    Raises:
        ConfigError: `folder` is not a run folder.
    """

    def __init__(self, folder: Path) -> None:
        if not is_run(folder):
            raise ConfigError(f"{folder}: is not a run folder: it has no {CONFIG_FILE}")
        self.folder = folder
        self.damage: list[Damage] = []
        """The damage of the files that were read so far; `find_damage` reads all."""

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

    @cached_property
    def total_epochs(self) -> int | None:
        """Length of the schedule in epochs; None if the config cannot be read."""
        try:
            return self.config.schedule.total_epochs
        except ConfigError as error:
            self._report(CONFIG_FILE, str(error).splitlines()[0].removeprefix(f"{self.folder / CONFIG_FILE}: "))
            return None

    @cached_property
    def state(self) -> RunState:
        """The state, with the training time over all sessions."""
        state = read_state(self.folder)
        if state.state == "unknown" and self.is_complete:
            state = RunState("finished", "", 0.0)
        clock = [seconds for _, seconds in self.column("seconds")]  # starts at 0 in each session
        logged = sum(now for now, after in itertools.pairwise([*clock, 0.0]) if after < now)
        return state._replace(seconds=max(state.seconds, logged))

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Content of `environment.json`; empty if it cannot be read."""
        content, fault = None, "does not describe an environment"
        try:
            content = json.loads((self.folder / ENVIRONMENT_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            fault = "is missing"
        except (OSError, ValueError, RecursionError) as error:
            fault = f"cannot be read: {first_sentence(error)}"
        if isinstance(content, dict) and all(isinstance(content.get(key, []), list) for key in ("command", "gpus")):
            return content
        self._report(ENVIRONMENT_FILE, fault)
        return {}

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """The complete rows of `metrics.csv`, one per epoch; a crash of the machine can leave an incomplete one."""
        path = self.folder / TABLE_FILE
        try:
            head, *lines = path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
        except FileNotFoundError:  # before the first epoch
            return []
        except OSError as error:
            self._report(TABLE_FILE, f"cannot be read: {first_sentence(error)}")
            return []
        names = head.split(",")
        if lines and not set(TABLE_COLUMNS) <= set(names):
            self._report(TABLE_FILE, f"its header should name {', '.join(TABLE_COLUMNS)}")
            return []
        fields = [line.split(",") for line in lines]  # only numbers, so nothing is quoted
        rows = [dict(zip(names, row, strict=True)) for row in fields if len(row) == len(names) and _are_numbers(row)]
        rows = [row for row in rows if row["epoch"].isdecimal() and row["step"].isdecimal()]
        if len(rows) < len(lines):
            lost = len(lines) - len(rows)
            self._report(TABLE_FILE, f"{lost} of its {len(lines)} rows cannot be read and are left out")
        return rows

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

    @cached_property
    def kept_predictions(self) -> list[KeptPredictions]:
        """The predictions in `evaluation/`: of the best checkpoint first, and of its EMA weights before others."""
        best, found = self.best_checkpoint, []
        for path in sorted((self.folder / EVALUATION_FOLDER).glob("*.npz")):
            try:
                found.append(_read_kept(path, best))
            except DataError as error:
                self._report(f"{EVALUATION_FOLDER}/{path.name}", str(error).removeprefix(f"{path}: "))
        if found and best is None:
            self._report("checkpoints", "are missing; these results come from earlier evaluations")
        return sorted(found, key=lambda kept: (not kept.is_best, kept.images != "val", kept.weights != "ema"))

    def find_damage(self) -> list[Damage]:
        """Reads every file but checkpoints, and returns all damage."""
        scalars, _ = self._events
        is_damaged = any(damage.file == EVENTS for damage in self.damage)
        logged = {step for points in scalars.values() for step, _ in points}
        lost = sum(int(row["step"]) not in logged for row in self.rows)
        if lost and not is_damaged and self.state.state != "running":  # whose last events are not flushed yet
            self._report(EVENTS, f"lacks {lost} of the {len(self.rows)} epochs of {TABLE_FILE}")
        _ = self.environment, self.kept_predictions
        return self.damage

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
            with contextlib.suppress(OSError):  # deleted in the meantime
                if not file.is_dir():
                    stat = file.lstat()
                    sizes[stat.st_dev, stat.st_ino] = stat.st_size
        return sum(sizes.values())

    @cached_property
    def _events(self) -> tuple[dict[str, Points], bytes | None]:
        """Scalars by tag with their optimizer steps, and the augmented images."""
        if not any(self.folder.glob(f"{EVENTS}.*")):
            return {}, None
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        try:
            events = EventAccumulator(str(self.folder), size_guidance=SIZE_GUIDANCE)
            events.Reload()
            tags = events.Tags()
            scalars = {tag: sorted({e.step: e.value for e in events.Scalars(tag)}.items()) for tag in tags["scalars"]}
            pictures = events.Images("train/augmented") if "train/augmented" in tags["images"] else []
        except Exception as error:  # tensorboard and protobuf raise many types for a damaged record
            self._report(EVENTS, f"cannot be read: {first_sentence(error)}")
            return {}, None
        return scalars, pictures[0].encoded_image_string if pictures else None

    def _report(self, file: str, reason: str) -> None:
        self.damage.append(Damage(file, reason.replace(f"{self.folder}/", "")))  # reports may be published


def _read_kept(path: Path, best: Path | None) -> KeptPredictions:
    """Reads predictions named CHECKPOINT-WEIGHTS-IMAGES.npz."""
    kinds = [kind for kind in WEIGHTS if f"-{kind}-" in path.stem]
    if not kinds:
        raise DataError(f"{path}: is not named CHECKPOINT-WEIGHTS-SPLIT.npz, as `rexnet evaluate` names predictions")
    weights = min(kinds, key=lambda kind: path.stem.index(f"-{kind}-"))  # a data set's name may contain another kind
    checkpoint, _, images = path.stem.partition(f"-{weights}-")
    is_best = images == "val" and (best is None or checkpoint == best.stem)
    return KeptPredictions(checkpoint, weights, images, load_predictions(path), is_best)


def _are_numbers(row: list[str]) -> bool:
    try:
        return [float(value) for value in row if value] != []
    except ValueError:
        return False
