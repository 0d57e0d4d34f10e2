import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from conftest import assert_same_tensors, final_state
from pytorch_lightning.callbacks import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rexnet.config import Config, load_config
from rexnet.data.sampling import TrainBatchSampler
from rexnet.errors import CheckpointError, ConfigError
from rexnet.runs.image_list import IMAGE_LIST
from rexnet.runs.run import Run
from rexnet.training.classification import train
from rexnet.training.resume import find_resumed, require_same_data
from rexnet.training.run_training import TrainingResult
from rexnet.training.signals import Stopped

FULL = ["augmentation.mixup=0.2", "augmentation.cutmix=1.0", "model.drop_path=0.2", "schedule.epochs=3"]
EXACT_COLUMNS = ["epoch", "step", "train/loss", "train/lr"] + [
    f"{prefix}/{name}" for prefix in ("val", "val_ema") for name in ("top1", "top5", "loss")
]


def configured(small_run: list[str], *overrides: str) -> Config:
    return load_config("finetune/folder.yaml", [*small_run, *overrides])


def only_run(small_run: list[str]) -> Path:
    (run,) = Path(next(a for a in small_run if "runs_dir" in a).partition("=")[2]).iterdir()
    return run


class SignalAt(Callback):
    """Sends this process a signal, as a scheduler would, at one place of a run."""

    def __init__(self, step: int, place: str = "step", number: int = signal.SIGTERM) -> None:
        self.step, self.place, self.number = step, place, number

    def _send(self, trainer: pl.Trainer, place: str) -> None:
        if (trainer.global_step, place) == (self.step, self.place):
            os.kill(os.getpid(), self.number)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self._send(trainer, "step")

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._send(trainer, "validation")

    def on_save_checkpoint(self, trainer: pl.Trainer, *_: Any) -> None:
        self._send(trainer, "saving")


def interrupted(config: Config, *signals: SignalAt) -> TrainingResult:
    """A run that is stopped by each of the signals in turn, and resumed each time."""
    resume: Path | None = None
    for signal_at in signals:
        with pytest.raises(Stopped) as caught:
            train(config, resume, callbacks=[signal_at])
        assert caught.value.code == 128 + signal_at.number
        (resume,) = config.trainer.runs_dir.iterdir()
    return train(config, resume)


def assert_same_outcome(one: TrainingResult, other: TrainingResult) -> None:
    """Equal to the last bit: weights, EMA, optimizer, schedule, callbacks' state, table and TensorBoard."""
    mine, theirs = final_state(one.run), final_state(other.run)
    for state, run in ((mine, one), (theirs, other)):
        for callback in state["callbacks"].values():  # paths, and what stands in two forms
            for name in ("dirpath", "best_model_path", "kth_best_model_path", "last_model_path"):
                callback[name] = str(callback.get(name, "")).replace(str(run.run), "RUN")
            best = callback.get("best_k_models", {})
            callback["best_k_models"] = {Path(path).name: score for path, score in best.items()}
            callback.pop("wait_count", None) if callback.get("patience") is None else None
        latest = state["callbacks"]["StepLog"]["latest"]
        state["callbacks"]["StepLog"]["latest"] = {name: latest[name] for name in latest if name in EXACT_COLUMNS}
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "callbacks", "guard", "loss_window"):
        assert_same_tensors(mine[key], theirs[key])
    tables = [Run(run.run).rows for run in (one, other)]
    assert [[row[name] for name in EXACT_COLUMNS] for row in tables[0]] == [
        [row[name] for name in EXACT_COLUMNS] for row in tables[1]
    ]
    assert scalars(one) == scalars(other)
    assert shown(one) == shown(other)
    names = [sorted(path.name for path in (run.run / "checkpoints").iterdir()) for run in (one, other)]
    assert names[0] == names[1]


def scalars(run: TrainingResult) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows, but for speed, waiting and memory."""
    events = EventAccumulator(str(run.run))
    events.Reload()
    names = [name for name in events.Tags()["scalars"] if not name.startswith(("system", "train/images", "train/data"))]
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in names}


def shown(run: TrainingResult) -> dict[str, list[tuple[int, bytes]]]:
    """What TensorBoard shows besides scalars: pictures, texts, precision-recall curves; of HParams the keys' number."""
    events = EventAccumulator(str(run.run), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    pictures = {tag: [(e.step, e.encoded_image_string) for e in events.Images(tag)] for tag in tags["images"]}
    tensors = {
        tag: [(e.step, e.tensor_proto.SerializeToString()) for e in events.Tensors(tag)] for tag in tags["tensors"]
    }
    tensors.pop("recipe/text_summary")  # tells where the run lies
    outcome = events.PluginTagToContent("hparams")
    return {**pictures, **tensors, "hparams": [(0, tag.encode()) for tag in sorted(outcome)]}


@pytest.mark.parametrize(
    ("stops", "settings"),
    [
        ([1], FULL),  # in the first epoch, when nothing has been saved before
        ([2], [*FULL, "trainer.accumulate=2"]),
        ([3], FULL),  # at an epoch's end
        ([4], [*FULL, "data.num_workers=2"]),  # in mid-epoch, with batches fetched ahead
        ([2, 4], [*FULL, "data.num_workers=2", "augmentation.image_size={start: 32, end: 96}"]),  # 32, 64, 96
        ([3, 7], [*FULL, "trainer.val_every_epochs=3"]),  # at the end of an epoch without validation
        ([4, 8], [*FULL, "ema.decay=null", "ema.last_epochs=2"]),
        ([2, 4], [*FULL, "optimizer.freeze_backbone_epochs=2"]),
        ([2, 4], [*FULL, "model.dropout=0.2", "optimizer.sam_rho=0.05"]),
        ([2, 4], [*FULL, "optimizer.unfreeze_epochs=2", "optimizer.layer_decay=0.8"]),
        ([5], [*FULL, "optimizer.name=adamw", "optimizer.lr=0.001", "schedule.warmup_lr=0", "ema=null"]),
    ],
    ids=str,
)
def test_a_resumed_run_ends_where_the_uninterrupted_one_does(
    stops: list[int], settings: list[str], small_run: list[str]
) -> None:
    whole = train(configured(small_run, *settings))
    rest = train(configured(small_run, *settings, f"trainer.max_steps={stops[0]}"))
    for stop, next_stop in zip(stops, [*stops[1:], 9], strict=True):
        assert rest.step == stop
        before = rest.run
        rest = train(configured(small_run, *settings, f"trainer.max_steps={next_stop}"), resume=before)
        assert rest.run == before
    one, other = final_state(whole.run), final_state(rest.run)
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        assert_same_tensors(one[key], other[key])
    tables = [Run(run.run).rows for run in (whole, rest)]
    names = ["epoch", "step", "val/top1", "val/loss", "val_ema/loss", "val_ema/mean_class_top1"]
    assert [[row[name] for name in names] for row in tables[0]] == [[row[name] for name in names] for row in tables[1]]


@pytest.mark.parametrize(
    ("signals", "more"),
    [
        ([SignalAt(0), SignalAt(4), SignalAt(7, number=signal.SIGUSR1)], []),
        ([SignalAt(2), SignalAt(6, "validation")], []),  # the last step of an epoch, whose validation is then to come
        (
            [SignalAt(3, "validation"), SignalAt(6, "saving"), SignalAt(9, "validation", signal.SIGINT)],
            ["trainer.pictures_every_epochs=2"],
        ),
    ],
    ids=["in training", "at an epoch's end", "in validation and while saving"],
)
def test_a_run_stopped_by_signals_ends_where_the_uninterrupted_one_does(
    signals: list[SignalAt], more: list[str], small_run: list[str], tmp_path: Path
) -> None:
    settings = [*FULL, "trainer.early_stopping_patience=9", "trainer.keep_best=2", "trainer.accumulate=2", *more]
    whole = train(configured(small_run, *settings))
    config = configured(small_run, *settings, f"trainer.runs_dir={tmp_path / 'stopped'}")
    resumed = interrupted(config, *signals)
    assert_same_outcome(whole, resumed)
    if more:
        pictures = shown(resumed)
        assert [step for step, _ in pictures["val_ema/confusion"]] == [6, 9]
        assert [step for step, _ in pictures["train/augmented"]] == [0]
        assert next(tag for _, tag in pictures["hparams"]).startswith(b"_hparams_/")


def test_the_comparison_above_can_fail(small_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A negative control: an order that forgets the epoch, as Lightning's does, is found out."""
    config = configured(small_run, "schedule.epochs=2", f"trainer.runs_dir={tmp_path / 'stopped'}")
    whole = train(configured(small_run, "schedule.epochs=2"))
    with pytest.raises(Stopped):
        train(config, callbacks=[SignalAt(4)])
    (run,) = config.trainer.runs_dir.iterdir()
    start_at = TrainBatchSampler.start_at
    monkeypatch.setattr(TrainBatchSampler, "start_at", lambda self, epoch, batch: start_at(self, 0, 0))
    with pytest.raises(AssertionError):
        assert_same_outcome(whole, train(config, run))


def test_a_moved_run_keeps_its_list_of_the_best(small_run: list[str], tmp_path: Path) -> None:
    run = train(configured(small_run, "trainer.max_steps=3"))
    moved = tmp_path / "elsewhere" / "moved"
    shutil.copytree(run.run, moved)
    rest = train(configured(small_run), resume=moved)
    assert rest.run == moved
    callbacks = final_state(rest.run)["callbacks"]
    (best,) = [state for name, state in callbacks.items() if name.startswith("BestCheckpoints")]
    assert {Path(path).parent for path in best["best_k_models"]} == {moved / "checkpoints"}
    assert len(best["best_k_models"]) == 2


def test_a_copy_that_resumes_in_the_stable_phase_is_the_run_that_was_planned_with_its_length(
    small_run: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "rexnet")
    wsd = [*small_run, "schedule.decay_epochs=1", "trainer.keep_best=9", "augmentation.mixup=0.2"]
    parent, branch = train(configured(wsd, "schedule.epochs=5")).run, tmp_path / "branch"
    shutil.copytree(parent, branch)
    names = sorted(path.name for path in (parent / "checkpoints").iterdir())
    second = next(branch.glob("checkpoints/epoch002-*"))
    short = configured(wsd, "schedule.epochs=4")
    result = train(short, resume=second, allowed=["schedule.epochs"])
    assert result.run == branch
    assert "schedule.epochs=4 instead of 5: at step 6 the learning rate stays at 0.05" in caplog.text
    planned = train(short)
    superseded = sorted(path.name for path in branch.glob("checkpoints/*.superseded"))
    assert [name[:8] for name in superseded] == ["epoch003", "epoch004", "epoch005", "last.ckp", "previous"]
    for name in superseded:
        (branch / "checkpoints" / name).unlink()
    assert_same_outcome(planned, result)
    assert sorted(path.name for path in (parent / "checkpoints").iterdir()) == names
    assert load_config(branch / "config.yaml").schedule.epochs == 4


def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_taken(
    small_run: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "rexnet")
    whole = train(configured(small_run, "schedule.epochs=3"))
    run = tmp_path / "copy"
    shutil.copytree(whole.run, run)
    last = run / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    (run / "checkpoints" / ".last.ckpt.99.tmp").write_text("half")
    with (run / "metrics.csv").open("a") as table:
        table.write("\0\0\0\n4,12")  # what a machine that went down can leave of rows
    rest = train(configured(small_run, "schedule.epochs=3"), resume=run)
    assert "last.ckpt: cannot be read as a checkpoint, damaged: its part " in caplog.text
    assert "resuming from previous.ckpt (step 6) instead" in caplog.text
    assert "deleted .last.ckpt.99.tmp, left by a process that was killed" in caplog.text
    assert (run / "checkpoints" / "last.ckpt.damaged").is_file()
    assert "metrics.csv: 2 of its 5 rows cannot be read" in caplog.text
    assert [row["epoch"] for row in Run(run).rows] == ["1", "2", "3"]
    assert_same_tensors(final_state(whole.run)["state_dict"], final_state(rest.run)["state_dict"])
    assert scalars(rest)["train/loss"] == scalars(whole)["train/loss"]  # no point twice


def test_nothing_readable_to_resume_from_is_an_error(small_run: list[str]) -> None:
    run = train(configured(small_run, "trainer.max_steps=1")).run
    (run / "checkpoints" / "last.ckpt").write_bytes(b"half")
    with pytest.raises(CheckpointError, match=r"last\.ckpt: cannot be read as a checkpoint, truncated"):
        train(configured(small_run), resume=run)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(CheckpointError, match="has no checkpoint to resume from"):
        train(configured(small_run), resume=run)


@pytest.fixture
def stopped_run(small_run: list[str], image_root: Path, tmp_path: Path) -> tuple[Path, list[str]]:
    """A run that stopped in mid-epoch, with a copy of the images, and arguments that resume it."""
    shutil.copytree(image_root, tmp_path / "data")
    arguments = [*small_run, f"data.root={tmp_path / 'data'}"]
    train(configured(arguments, "trainer.max_steps=2"))
    return tmp_path / "data", arguments


def rename_a_class(root: Path) -> None:
    for split in ("train", "val"):
        (root / split / "ant").rename(root / split / "zebra")


def swap_the_data(root: Path) -> None:
    for split in ("train", "val"):
        for name in ("ant", "bee", "cow"):
            (root / split / name).rename(root / split / name[::-1])


def add_an_image(root: Path) -> None:
    shutil.copy(root / "train/ant/000.png", root / "train/ant/900.png")


def move_an_image(root: Path) -> None:
    (root / "val/ant/000.png").rename(root / "val/bee/900.png")


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (rename_a_class, "new: zebra; missing: ant"),
        (swap_the_data, "new: eeb, tna, woc; missing: ant, bee, cow"),
        (add_an_image, r"train: 1 added \(ant/900.png\)"),
        (move_an_image, r"val: 1 added \(bee/900.png\), 1 removed \(ant/000.png\)"),
    ],
)
def test_changed_data_is_refused_with_the_difference_and_never_shifts_labels(
    change: Any, difference: str, stopped_run: tuple[Path, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    root, arguments = stopped_run
    change(root)
    run = only_run(arguments)
    with pytest.raises(ConfigError, match=difference):
        train(configured(arguments), run)
    if "image" not in change.__name__:
        with pytest.raises(ConfigError, match="labels would change their meaning; restore them"):
            train(configured(arguments), run, allowed=["data"])
    else:
        train(configured(arguments), run, allowed=["data"])
        assert "resumes with other images" in caplog.text
        train(configured(arguments), run)  # the list is that of now


def test_a_run_without_a_list_of_its_images_resumes(stopped_run: tuple[Path, list[str]]) -> None:
    root, arguments = stopped_run
    run = only_run(arguments)
    (run / IMAGE_LIST).unlink()
    add_an_image(root)
    assert train(configured(arguments), run).step == 6
    assert (run / IMAGE_LIST).is_file()


def test_another_order_of_the_classes_is_refused(stopped_run: tuple[Path, list[str]]) -> None:
    resumed = find_resumed(only_run(stopped_run[1]))
    require_same_data(resumed, ("ant", "bee", "cow"), {})
    with pytest.raises(ConfigError, match=r"differ from its own in name or order \(new: nothing; missing: nothing\)"):
        require_same_data(resumed, ("bee", "ant", "cow"), {}, allowed=["data"])
