"""Training a detector inherits what training a classifier has: resume, signals, guard, table, TensorBoard."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import assert_same_tensors, final_state
from pytorch_lightning.callbacks import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rexnet.cli import main
from rexnet.config import DetectionConfig, load_config
from rexnet.detection.evaluate_detector import evaluate_detector
from rexnet.detection.train_detector import train_detector
from rexnet.detection.trained_detector import load_trained_detector
from rexnet.errors import CheckpointError, ConfigError
from rexnet.runs.run import Run
from rexnet.training.signals import Stopped

PARTS = {"train/bbox_regression", "train/classification"}


def configured(shapes_run: list[str], *more: str, recipe: str = "detect/finetune") -> DetectionConfig:
    return load_config(recipe, [*shapes_run, *more], DetectionConfig)


@pytest.fixture(scope="module")
def run(shapes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run; tests leave it as it is."""
    from conftest import shapes_arguments

    more = ["trainer.pictures_every_epochs=1", f"trainer.runs_dir={tmp_path_factory.mktemp('detectors')}"]
    return train_detector(configured([*shapes_arguments(shapes_root), *more])).run


def test_the_table_and_the_checkpoints_have_coco_metrics(run: Path) -> None:
    rows = Run(run).rows
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {"val/AP", "val_ema/AP50", "val/AR100", "train/loss"} <= rows[0].keys()
    assert "val/top1" not in rows[0]
    best = Run(run).best_checkpoint
    assert best is not None
    assert best.name.startswith("epoch00")
    assert f"-AP_{Run(run).best_ap[1]:.2f}" in best.name  # type: ignore[index]


def test_evaluation_repeats_the_logged_numbers_to_the_last_digit(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = run / "checkpoints" / "last.ckpt"
    for kind, prefix in (("ema", "val_ema"), ("raw", "val")):
        trained = load_trained_detector(last, kind)  # type: ignore[arg-type]
        values = evaluate_detector(trained).scores.values
        for name, value in values.items():
            assert trained.metrics[f"{prefix}/{name}"] == torch.tensor(value).item()  # logged in float32
    assert main(["evaluate", str(run), "--weights", "raw", "ema", "--json", str(run / "r.json")]) == 0
    assert "AP of the classes" in capsys.readouterr().out
    results = json.loads((run / "r.json").read_text())
    assert [one["weights"] for one in results] == ["raw", "ema"]
    assert results[0]["AP_of_classes"].keys() == {"disk", "square"}


def test_tensorboard_has_the_parts_of_the_loss_and_pictures(run: Path) -> None:
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    tags = events.Tags()
    assert {*PARTS, "val_ema/AP", "val_class/disk", "final/best_AP"} <= set(tags["scalars"])
    assert {"train/augmented", "val_ema/detections_and_truth"} <= set(tags["images"])
    assert len(events.Images("val_ema/detections_and_truth")) == 2
    for step in (2, 4):  # the loss is the sum of its parts
        parts = [next(e.value for e in events.Scalars(tag) if e.step == step) for tag in PARTS]
        total = next(e.value for e in events.Scalars("train/loss") if e.step == step)
        assert sum(parts) == pytest.approx(total, rel=1e-5)


class SignalAt(Callback):
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("stop", ["max_steps", "signal"])
def test_a_run_that_is_stopped_in_mid_epoch_resumes_bit_for_bit(stop: str, shapes_run: list[str]) -> None:
    more = ["schedule.epochs=3", "data.batch_size=4", "augmentation.crop=ssd", "augmentation.color_jitter=0.4"]
    whole = train_detector(configured(shapes_run, *more))
    if stop == "signal":
        with pytest.raises(Stopped):
            train_detector(configured(shapes_run, *more, "trainer.run_name=x"), callbacks=[SignalAt()])
        part = whole.run.parent / "x"
    else:
        part = train_detector(configured(shapes_run, *more, "trainer.max_steps=3")).run
    assert final_state(part)["global_step"] == 3  # of 4 in an epoch
    resumed = train_detector(configured(shapes_run, *more), resume=part)
    one, other = final_state(whole.run), final_state(resumed.run)
    keys = ["state_dict", "optimizer_states", "lr_schedulers", "global_step"]
    for key in keys if stop == "max_steps" else [*keys, "loss_window"]:  # max_steps ends with an entry of the log
        assert_same_tensors(one[key], other[key])
    tables = [[{k: v for k, v in row.items() if k.startswith(("val", "train/l"))} for row in Run(r.run).rows]
              for r in (whole, resumed)]  # fmt: skip
    assert tables[0] == tables[1]


class Spoil(Callback):
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 1:
            batch[0][0].fill_(float("nan"))


def test_a_step_with_a_nan_is_skipped(shapes_run: list[str]) -> None:
    run = train_detector(configured(shapes_run), callbacks=[Spoil()]).run
    (line,) = (run / "skipped_steps.jsonl").read_text().splitlines()
    assert (json.loads(line)["step"], len(json.loads(line)["images"])) == (2, 8)
    assert all(value.isfinite().all() for value in final_state(run)["state_dict"].values() if value.is_floating_point())


@pytest.mark.slow
def test_mask_rcnn_is_trained_and_measured_with_masks(shapes_run: list[str]) -> None:
    more = ["schedule.epochs=1", "schedule.milestones=[]", "detector.max_detections=5"]
    run = train_detector(configured(shapes_run, *more, recipe="detect/mask_rcnn_rexnet_1.0x")).run
    assert {"val/AP", "val/mask_AP", "val/mask_AP50"} <= Run(run).rows[0].keys()
    events = EventAccumulator(str(run))
    events.Reload()
    assert {"train/loss_mask", "train/loss_objectness"} <= set(events.Tags()["scalars"])


def test_mixed_precision_trains(shapes_run: list[str]) -> None:
    result = train_detector(configured(shapes_run, "trainer.precision=bf16", "trainer.max_steps=1"))
    assert result.step == 1


def test_other_boxes_are_noticed_when_a_run_resumes(shapes_run: list[str], run: Path, tmp_path: Path) -> None:
    root = next(argument for argument in shapes_run if argument.startswith("data.root=")).partition("=")[2]
    (tmp_path / "images").symlink_to(Path(root) / "images")
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        content = json.loads((Path(root) / "annotations" / f"instances_{split}.json").read_text())
        content["annotations"][0]["bbox"][2] -= 1
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"its images have changed: train: 1 with another label"):
        train_detector(configured(shapes_run, f"data.root={tmp_path}"), resume=run)


@pytest.mark.parametrize("command", [["evaluate"], ["predict", "x.jpg"]])
def test_options_of_classifiers_are_refused(command: list[str], run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    option = "--top=3" if command[0] == "predict" else "--tta=flip"
    assert main([command[0], str(run), *command[1:], option]) == 2
    assert f"error: {option.partition('=')[0]}: is not for a detector" in capsys.readouterr().err


def test_a_detector_is_no_classifier(run: Path, shapes_run: list[str], small_run: list[str]) -> None:
    from rexnet.api import load
    from rexnet.training.classification import train

    best = Run(run).best_checkpoint
    with pytest.raises(ConfigError, match=r"belongs to a detector, but a classifier is needed here"):
        load(run)
    with pytest.raises(CheckpointError, match=r"holds a detector; give it as detector.weights"):
        train(load_config("finetune/folder", [*small_run, f"model.pretrained={best}"]))


def test_a_classifier_is_no_detector(trained_run: Path, shapes_run: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"belongs to a classifier, but a detector is needed here"):
        load_trained_detector(trained_run)
    with pytest.raises(CheckpointError, match=r"holds no detector"):
        train_detector(configured(shapes_run, f"detector.weights={Run(trained_run).best_checkpoint}"))


@pytest.mark.slow
def test_two_processes_log_the_same_numbers_as_one_evaluation(shapes_run: list[str], tmp_path: Path) -> None:
    code = "import sys, torch; from rexnet.cli import main; torch.set_num_threads(1); sys.exit(main())"
    arguments = ["train", "--config", "detect/finetune", *shapes_run, "trainer.devices=2", "trainer.run_name=two"]
    (tmp_path / "go.py").write_text(code)
    subprocess.run([sys.executable, str(tmp_path / "go.py"), *arguments], check=True)
    run = tmp_path / "runs" / "two"
    trained = load_trained_detector(run / "checkpoints" / "last.ckpt", "raw")
    for name, value in evaluate_detector(trained).scores.values.items():
        assert trained.metrics[f"val/{name}"] == torch.tensor(value).item()
