"""The reader of run folders: config, metrics, state, checkpoints, kept predictions."""

import csv
import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from rexnet.config import Config, RunConfig, load_config
from rexnet.config.load import require_kind
from rexnet.errors import CheckpointError, ConfigError, DataError, RexnetError, first_sentence
from rexnet.metrics.predictions import EVALUATION_FOLDER, Predictions, load_predictions
from rexnet.runs.checkpoint_files import find_checkpoint
from rexnet.runs.run_folder import CONFIG_FILE, ENVIRONMENT_FILE, TABLE_FILE, is_run
from rexnet.runs.state import RunState, read_state

EVENTS = "events.out.tfevents"
SIZE_GUIDANCE = {"scalars": 0, "images": 1}  # all scalars, of which TensorBoard would keep a sample; the first picture
KEPT = re.compile(r"(.*?)-(soup|ema|raw)-(.+)")  # a data set's name may contain another kind of weights

Points = list[tuple[float, float]]


class KeptPredictions(NamedTuple):
    """Predictions of one checkpoint that `rexnet evaluate` or `rexnet report` kept."""

    checkpoint: str
    """Stem of its file."""
    weights: str
    """`ema`, `raw` or `soup`."""
    images: str
    """The split, followed by options of `rexnet evaluate` such as another folder or test-time augmentation."""
    predictions: Predictions
    is_best: bool = False
    """True for the run's best checkpoint on the validation images."""
    analyses: Mapping[str, Any] = {}
    """The results of options such as `--slices`, by name."""


class Run:
    """A run folder, finished or in progress, each file of which is read once, when it is first asked for.

    Only a damaged config raises an error. Of other files the readable part is returned.

    Raises:
        ConfigError: `folder` is not a run folder, or its config cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        if not is_run(folder):
            raise ConfigError(f"{folder}: is not a run folder: it has no {CONFIG_FILE}")
        self.folder, self.name = folder, folder.resolve().name
        self.damage: list[str] = []
        """A sentence for each file among those read so far that cannot be read completely."""

    @cached_property
    def any_config(self) -> RunConfig:
        """The resolved config, of any task."""
        return load_config(self.folder / CONFIG_FILE, (), RunConfig)

    @property
    def config(self) -> Config:
        """The resolved config of a classifier; that of another task is a ConfigError."""
        return require_kind(self.any_config, Config, self.folder)

    @cached_property
    def total_epochs(self) -> int | None:
        """Length of the schedule in epochs; None if the config cannot be read."""
        try:
            return self.any_config.schedule.total_epochs
        except ConfigError as error:
            self._report(CONFIG_FILE, error)
            return None

    @cached_property
    def state(self) -> RunState:
        """The state, with the training time over all sessions."""
        return read_state(self.folder)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Content of `environment.json`; empty if it cannot be read."""
        return self._read_json(self.folder / ENVIRONMENT_FILE)

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """The complete rows of `metrics.csv`, one per epoch; a crash of the machine can leave an incomplete one."""
        try:
            text = (self.folder / TABLE_FILE).read_text(encoding="utf-8", errors="replace")
            rows = list(csv.DictReader(text.splitlines(), quoting=csv.QUOTE_NONE, restval="missing"))
        except FileNotFoundError:  # before the first epoch
            return []
        except (OSError, csv.Error) as error:
            self._report(TABLE_FILE, error)
            return []
        complete = [row for row in rows if _is_complete(row)]
        if len(complete) < len(rows):
            self.damage.append(f"{TABLE_FILE}: {len(rows) - len(complete)} of its {len(rows)} rows cannot be read")
        return complete

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return max((int(row["epoch"]) for row in self.rows), default=0)

    @property
    def best_top1(self) -> tuple[int, float] | None:
        """Epoch and best logged validation top-1 in percent: of the EMA weights if there are any, else of the raw."""
        return self.best("val_ema/top1") or self.best("val/top1")

    @property
    def best_ap(self) -> tuple[int, float] | None:
        """The same of a detector's average precision."""
        return self.best("val_ema/AP") or self.best("val/AP")

    @property
    def augmented(self) -> bytes | None:
        """PNG of the first augmented training batch that TensorBoard logged."""
        return self._events[1]

    @property
    def tags(self) -> list[str]:
        """Names of the scalars that TensorBoard has."""
        return sorted(self._events[0])

    @property
    def best_checkpoint(self) -> Path | None:
        """The checkpoint with the best validation metric, else the last one; None if there is none."""
        try:
            return find_checkpoint(self.folder)
        except CheckpointError:
            return None

    @cached_property
    def kept_predictions(self) -> list[KeptPredictions]:
        """The predictions in `evaluation/`: of the best checkpoint first, and of its EMA weights before others."""
        best, kept = self.best_checkpoint, []
        for path in sorted((self.folder / EVALUATION_FOLDER).glob("*.npz")):
            try:
                if name := KEPT.fullmatch(path.stem):
                    is_best = name[3] == "val" and (best is None or name[1] == best.stem)
                    result = path.with_suffix(".json")
                    analyses = self._read_json(result) if result.is_file() else {}
                    kept.append(KeptPredictions(name[1], name[2], name[3], load_predictions(path), is_best, analyses))
            except DataError as error:
                self._report(path.name, error)
        return sorted(kept, key=lambda one: (not one.is_best, one.images != "val", one.weights != "ema"))

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
        epoch, value = max(self.column(name), key=lambda point: (point[1], point[0]), default=(0, 0))
        return (int(epoch), value) if epoch else None

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
            self._report(EVENTS, error)
            return {}, None
        return scalars, pictures[0].encoded_image_string if pictures else None

    def _read_json(self, path: Path) -> dict[str, Any]:
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            self._report(path.name, error)
            return {}

    def _report(self, file: str, error: Exception) -> None:
        text = f"{file}: cannot be read: {first_sentence(error)}"
        if isinstance(error, RexnetError):
            text = str(error).splitlines()[0]
        self.damage.append(text.replace(f"{self.folder}/", ""))  # reports may be published


def _is_complete(row: dict[str, str]) -> bool:
    """Returns True if a row has all columns, and nothing but numbers in them."""
    try:
        numbers = [float(value) for value in row.values() if value]
    except (TypeError, ValueError):
        return False
    is_counted = all(row.get(name, "").isdecimal() for name in ("epoch", "step"))
    return bool(numbers) and is_counted and row.keys() >= {"train/loss", "seconds"}
