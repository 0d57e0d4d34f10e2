"""Two processes on the CPU (gloo), started as a user starts them: Lightning launches the second."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL_RUN, assert_same_tensors, final_state
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rexnet.evaluation.evaluate import Request, evaluate
from rexnet.metrics.statistics import confusion_matrix
from rexnet.training.callbacks.validation_images import draw_confusion

PROBE = '''
import json, os, sys
from pathlib import Path
import torch
from pytorch_lightning.callbacks import Callback
from rexnet.config import load_config
from rexnet.training.classification import train

torch.set_num_threads(1)

class SignalAt(Callback):
    """Sends a signal to one process, as an operator would."""
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        step, rank, number = json.loads(os.environ["SIGNAL_AT"])
        if (trainer.global_step, trainer.global_rank) == (step, rank):
            os.kill(os.getpid(), number)

class Probe(Callback):
    """Writes down what this process saw and what it ended with."""
    def on_train_start(self, trainer, module):
        self.epochs = [[] for _ in range(trainer.max_epochs)]
        self.sizes = []
        dataset = trainer.train_dataloader.dataset
        plain = dataset.__class__.__getitem__
        def noted(dataset, key):
            if dataset is trainer.train_dataloader.dataset:
                self.epochs[key.epoch].append(key.position)
            return plain(dataset, key)
        dataset.__class__.__getitem__ = noted
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.sizes.append(list(batch[0].shape[2:]))
    def on_train_end(self, trainer, module):
        sums = {name: value.double().sum().item() for name, value in module.state_dict().items()}
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        seen = {"epochs": self.epochs, "sizes": self.sizes, "sums": sums, "metrics": metrics}
        Path(sys.argv[1], f"rank{trainer.global_rank}.json").write_text(json.dumps(seen))

if __name__ == "__main__":
    callbacks = [Probe()] if "SIGNAL_AT" not in os.environ else [SignalAt()]
    resume = Path(os.environ["RESUME"]) if "RESUME" in os.environ else None
    result = train(load_config("finetune/folder.yaml", sys.argv[2:]), resume, callbacks=callbacks)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        Path(sys.argv[1], "run.txt").write_text(str(result.run))
'''


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory, image_root: Path, trained_run: Path) -> Path:
    """A folder with what both processes of one training wrote down."""
    folder = tmp_path_factory.mktemp("ddp")
    done = train_on_two(folder, image_root, *taught_by(trained_run))
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def taught_by(run: Path) -> tuple[str, str]:
    return f"distillation.teacher={run}", "distillation.feature_weight=2"


def train_on_two(
    folder: Path, image_root: Path, *overrides: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    (folder / "probe.py").write_text(PROBE)
    settings = [
        *SMALL_RUN,
        f"data.root={image_root}",
        f"trainer.runs_dir={folder / 'runs'}",
        "trainer.devices=2",
        "schedule.epochs=3",
        "optimizer.freeze_backbone_epochs=1",
        "optimizer.unfreeze_epochs=1",
        "optimizer.layer_decay=0.9",
        "data.cache=disk",
        f"data.cache_folder={folder}/image-cache",
        "trainer.pictures_every_epochs=2",
        "trainer.accumulate=auto",
        "trainer.pad_channels=8",
        "augmentation.image_size={start: 32, end: 64, epochs: 2}",
        *overrides,
    ]
    inherited = {name: value for name, value in os.environ.items() if name != "REXNET_RUN_FOLDER"}
    return subprocess.run(
        [sys.executable, str(folder / "probe.py"), str(folder), *settings],
        env=inherited | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def ranks(folder: Path) -> list[dict]:
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


def test_both_processes_end_with_the_same_network(two_processes: Path) -> None:
    first, second = ranks(two_processes)
    assert {name: value for name, value in first["sums"].items() if not name.startswith(("val", "window"))} == {
        name: value for name, value in second["sums"].items() if not name.startswith(("val", "window"))
    }
    assert first["metrics"] == second["metrics"]


def test_each_image_is_seen_once_an_epoch_by_one_of_them(two_processes: Path) -> None:
    first, second = ranks(two_processes)
    for mine, theirs in zip(first["epochs"], second["epochs"], strict=True):
        assert len(mine) == len(theirs) == 12
        assert sorted(mine + theirs) == list(range(24))


def test_both_processes_change_the_image_size_at_the_same_step(two_processes: Path) -> None:
    for rank in ranks(two_processes):
        assert rank["sizes"] == [[32, 32]] * 6 + [[64, 64]] * 3


def test_one_process_evaluates_to_the_very_numbers_that_two_logged(two_processes: Path) -> None:
    run = Path((two_processes / "run.txt").read_text())
    result = evaluate([run / "checkpoints" / "last.ckpt"], Request(weights=("raw",)))[0].as_json()
    metrics = ranks(two_processes)[0]["metrics"]
    assert result["n"] == 15  # odd: a padded sampler would count one image twice
    assert (result["top1"], result["loss"]) == (metrics["val/top1"], metrics["val/loss"])
    assert result["balanced_accuracy"] == pytest.approx(metrics["val/mean_class_top1"], rel=1e-6)


def test_pictures_of_validation_are_drawn_every_second_epoch_from_each_answer_once(two_processes: Path) -> None:
    run = Path((two_processes / "run.txt").read_text())
    events = EventAccumulator(str(run))
    events.Reload()
    for tag in ("val_ema/confusion", "val_ema/most_wrong"):
        assert [event.step for event in events.Images(tag)] == [6, 9]  # epochs 2 and 3, which is the last
    predictions = evaluate([run / "checkpoints" / "last.ckpt"], Request(weights=("ema",)))[0].predictions
    counts = confusion_matrix(predictions)
    assert counts.sum(1).tolist() == [5, 5, 5]
    drawn = Image.open(io.BytesIO(events.Images("val_ema/confusion")[-1].encoded_image_string))
    assert np.array_equal(np.asarray(drawn), draw_confusion(counts, ("ant", "bee", "cow")))


def test_there_is_one_run_folder_and_its_checkpoints_are_whole(two_processes: Path) -> None:
    (run,) = (two_processes / "runs").iterdir()
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] == 9
    assert content["state_dict"]["ema_model.features.5.conv_pwl.conv.weight"].shape == (46, 240, 1, 1)
    assert len((run / "metrics.csv").read_text().splitlines()) == 4


@pytest.mark.slow
def test_a_signal_to_the_second_process_stops_both_and_they_resume_to_the_same_bits(
    two_processes: Path, image_root: Path, trained_run: Path, tmp_path: Path
) -> None:
    taught = taught_by(trained_run)
    stopped = train_on_two(tmp_path, image_root, *taught, SIGNAL_AT=json.dumps([4, 1, signal.SIGTERM]))
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr[-3000:]
    assert "Traceback" not in stopped.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert final_state(run)["global_step"] == 5
    assert train_on_two(tmp_path, image_root, *taught, RESUME=str(run)).returncode == 0
    whole, resumed = (final_state(next((root / "runs").iterdir())) for root in (two_processes, tmp_path))
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        assert_same_tensors(whole[key], resumed[key])
    assert whole["loss_window"] == resumed["loss_window"]  # the logged loss, of both processes


@pytest.mark.slow
def test_sharpness_aware_minimization_is_that_of_the_whole_batch(image_root: Path, tmp_path: Path) -> None:
    """Two processes move the weights by the gradient of all eight images, as one process does."""
    settings = [
        "model.name=timm/test_convnext",  # LayerNorm has no statistics that depend on the processes
        "model={width_mult: 1.0, depth_mult: 1.0, dropout: 0, drop_path: 0}",
        "augmentation={mixup: 0, cutmix: 0, image_size: null}",
        "optimizer={freeze_backbone_epochs: 0, unfreeze_epochs: 0, sam_rho: 0.5}",
        "trainer.accumulate=1",
        "schedule.warmup_epochs=0",
        "trainer.max_steps=2",  # rounding grows
    ]
    states = []
    for devices in (1, 2):
        (tmp_path / str(devices)).mkdir()
        done = train_on_two(tmp_path / str(devices), image_root, *settings, f"trainer.devices={devices}")
        assert done.returncode == 0, done.stderr[-3000:]
        (run,) = (tmp_path / str(devices) / "runs").iterdir()
        states.append(final_state(run)["state_dict"])
    torch.testing.assert_close(states[0], states[1], rtol=1e-4, atol=1e-6)
