import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import assert_same_tensors, final_state
from pytorch_lightning.callbacks import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rexnet.config import Config, load_config
from rexnet.errors import CheckpointError, ConfigError, DataError
from rexnet.models.depthwise import Float32Depthwise
from rexnet.runs.checkpoint_files import find_checkpoint
from rexnet.runs.run import Run
from rexnet.system.device import resolve_devices, resolve_nodes
from rexnet.training.classification import build_classifier, train


def configured(small_run: list[str], *overrides: str) -> Config:
    return load_config("finetune/folder.yaml", [*small_run, *overrides])


class Watch(Callback):
    """Keeps what a test wants to see of a run."""

    def __init__(self) -> None:
        self.batches: list[tuple[tuple[int, ...], torch.dtype]] = []
        self.rates: list[float] = []
        self.module: Any = None
        self.trainer: Any = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.module, self.trainer = pl_module, trainer
        self.batches.append((tuple(batch[1].shape), batch[1].dtype))
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_a_run_leaves_everything_in_its_folder(small_run: list[str]) -> None:
    result = train(configured(small_run))
    run, metrics = result.run, result.metrics
    assert {path.name for path in run.iterdir()} >= {"config.yaml", "metrics.csv", "environment.json", "checkpoints"}
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert result.step == 6
    assert load_config(run / "config.yaml") == configured(small_run)

    rows = Run(run).rows
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [row["step"] for row in rows] == ["3", "6"]
    assert float(rows[1]["val/top1"]) == pytest.approx(metrics["val/top1"], rel=1e-5)
    assert 0 <= float(rows[1]["train/data_wait_share"]) <= 1

    environment = json.loads((run / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert "commit" in environment["git"]

    events = EventAccumulator(str(run))
    events.Reload()
    names = ("top1", "top5", "loss", "mean_class_top1")
    scalars = {f"{prefix}/{name}" for prefix in ("val", "val_ema") for name in names}
    scalars |= {"train/loss", "train/lr", "train/grad_norm", "train/images_per_s", "train/data_wait_share"}
    assert scalars | {"system/memory_gb"} <= set(events.Tags()["scalars"])
    assert "train/augmented" in events.Tags()["images"]
    assert "recipe/text_summary" in events.Tags()["tensors"]
    assert [event.step for event in events.Scalars("train/loss")] == [2, 3, 4, 6]
    assert [event.step for event in events.Scalars("val/top1")] == [3, 6]
    assert events.Scalars("val/top1")[-1].value == pytest.approx(metrics["val/top1"], rel=1e-5)


def test_it_learns_and_repeats_itself(small_run: list[str]) -> None:
    plain = ["augmentation.randaugment=null", "augmentation.erase_prob=0"]
    config = configured(small_run, "schedule.epochs=12", "optimizer.lr=0.02", *plain)
    first, second = train(config), train(config)
    assert first.metrics["val/top1"] > 60  # chance is 33; six seeds reached 66 to 100
    assert first.run != second.run
    assert_same_tensors(final_state(first.run)["state_dict"], final_state(second.run)["state_dict"])


def test_another_seed_ends_elsewhere(small_run: list[str]) -> None:
    """The control of the two tests above: equality is not automatic."""
    one, other = (train(configured(small_run, f"seed={seed}", "schedule.epochs=1")) for seed in (1, 2))
    weights = [final_state(run.run)["state_dict"]["model.features.3.conv_pwl.conv.weight"] for run in (one, other)]
    assert not torch.equal(*weights)


def test_accumulation_steps_the_schedule_by_optimizer_steps(small_run: list[str]) -> None:
    whole, parts = Watch(), Watch()
    train(configured(small_run), callbacks=[whole])
    run = train(configured(small_run, "trainer.accumulate=2"), callbacks=[parts])
    assert run.step == 6
    assert [shape for shape, _ in parts.batches] == [(4,)] * 12
    assert parts.rates[::2] == pytest.approx(whole.rates)


def test_mixed_labels_arrive_as_soft_targets(small_run: list[str]) -> None:
    watch = Watch()
    train(configured(small_run, "augmentation.mixup=1.0", "schedule.epochs=1"), callbacks=[watch])
    assert watch.batches == [((8, 3), torch.float32)] * 3


def test_label_smoothing_and_clipping_act(small_run: list[str]) -> None:
    norms: list[float] = []

    class Norms(Callback):
        def on_before_zero_grad(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
            grads = [p.grad for p in pl_module.parameters() if p.grad is not None]
            norms.extend([float(torch.nn.utils.get_total_norm(grads))] if grads else [])

    watch = Watch()
    settings = ["optimizer.clip_grad=0.01", "loss.label_smoothing=0.9", "schedule.epochs=1"]
    train(configured(small_run, *settings), callbacks=[Norms(), watch])
    assert norms
    assert max(norms) <= 0.0101
    module = watch.module
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    module.eval()
    soft = 0.1 * torch.nn.functional.one_hot(labels, 3) + 0.9 / 3
    expected = -(soft * module.model(images).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(module.training_step((images, labels), 0), expected)


def test_a_frozen_backbone_stays_as_it_was_statistics_included(small_run: list[str]) -> None:
    class Snapshots(Callback):
        def __init__(self) -> None:
            self.states: list[dict[str, torch.Tensor]] = []

        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.states.append({name: value.clone() for name, value in pl_module.model.state_dict().items()})

    snapshots = Snapshots()
    train(configured(small_run, "optimizer.freeze_backbone_epochs=2", "schedule.epochs=3"), callbacks=[snapshots])
    first, second, third = snapshots.states
    changed = {name for name in first if not torch.equal(first[name], second[name])}
    assert changed == {"head.fc.weight", "head.fc.bias"}
    assert sum(not torch.equal(second[name], third[name]) for name in first) > 140  # of 152


def test_the_last_checkpoint_is_the_last_even_when_it_is_not_among_the_best(small_run: list[str]) -> None:
    plateau = ["optimizer.lr=1e-12", "schedule.warmup_lr=0", "schedule.min_lr=0", "trainer.keep_best=1"]
    run = train(configured(small_run, *plateau, "schedule.epochs=4"))
    assert final_state(run.run)["global_step"] == 12
    assert run.best_checkpoint.name.startswith("epoch001-top1_")


def test_torchrun_decides_how_many_processes_there_are(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    trainer = configured(small_run, "trainer.devices=3", "trainer.num_nodes=3").trainer
    assert (resolve_devices(trainer), resolve_nodes(trainer)) == (2, 1)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert (resolve_devices(trainer), resolve_nodes(trainer)) == (2, 2)


def test_one_command_starts_and_continues_a_named_run(small_run: list[str], tmp_path: Path) -> None:
    named = [*small_run, "trainer.run_name=mine"]
    (tmp_path / "runs" / "mine").mkdir(parents=True)  # of a start that was killed before its first checkpoint
    steps = []
    for limit in (3, 6, 6):
        result = train(configured(named, f"trainer.max_steps={limit}"))
        steps.append((result.run, result.step))
    mine = tmp_path / "runs" / "mine"
    assert steps == [(mine, 3), (mine, 6), (mine, 6)]
    whole = train(configured(small_run))
    assert_same_tensors(final_state(result.run)["state_dict"], final_state(whole.run)["state_dict"])
    with pytest.raises(ConfigError, match=r"runs/mine: optimizer\.name goes from sgd to adamw cannot change"):
        train(configured(named, "optimizer.name=adamw"))


def test_the_network_is_compiled_where_asked(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    monkeypatch.setattr("torch.nn.Module.compile", lambda self, **_: compiled.append(type(self).__name__))
    train(configured(small_run, "trainer.compile=true", "trainer.max_steps=1"))
    train(configured(small_run, "trainer.max_steps=1"))
    assert compiled == ["ReXNet"]


def test_early_stopping_ends_a_run_that_does_not_improve(small_run: list[str]) -> None:
    settings = ["schedule.epochs=9", "optimizer.lr=1e-12", "schedule.warmup_lr=0", "schedule.min_lr=0"]
    run = train(configured(small_run, *settings, "ema=null", "trainer.early_stopping_patience=2"))
    assert run.step < 27


def test_the_best_checkpoints_are_kept_with_the_last(small_run: list[str]) -> None:
    run = train(configured(small_run, "schedule.epochs=4", "trainer.keep_best=2"))
    files = sorted(path.name for path in (run.run / "checkpoints").iterdir())
    assert len(files) == 4
    assert files[-2:] == ["last.ckpt", "previous.ckpt"]
    assert run.best_checkpoint == find_checkpoint(run.run)  # also among equals


def test_an_existing_run_folder_is_never_touched(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.strftime", lambda *_: "20260101-000000")
    config = configured(small_run, "schedule.epochs=1")
    assert train(config).run.name == "small-20260101-000000"
    assert train(config).run.name == "small-20260101-000000-2"


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["data.batch_size=25"], DataError, "has 24 images, fewer than one batch of 25"),
        (["trainer.accumulate=3"], ConfigError, r"data\.batch_size: 8 should be a multiple of 3"),
        (["trainer.accumulate=8"], ConfigError, "with at least 2 images each"),
        (["trainer.precision=fp16"], ConfigError, r"trainer\.precision: fp16 needs a GPU"),
        (["trainer.sync_batchnorm=true"], ConfigError, r"trainer\.sync_batchnorm: .* on GPUs only"),
        pytest.param(
            ["trainer.accelerator=gpu"],
            ConfigError,
            r"trainer\.accelerator: gpu is asked for, but PyTorch finds no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
        (["model.pretrained=nowhere.pth"], CheckpointError, r"nowhere\.pth: no such weight file"),
        (["data.root={tmp}/nowhere"], DataError, r"data\.root: .*/nowhere does not exist"),
    ],
)
def test_what_cannot_be_trained_is_reported_before_a_folder_is_made(
    overrides: list[str], error: type[Exception], message: str, small_run: list[str], tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        train(configured(small_run, *(override.format(tmp=tmp_path) for override in overrides)))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("precision", "in_fp32"), [("bf16", True), ("fp32", False)])
def test_bf16_on_a_cpu_trains_depthwise_convolutions_in_fp32(
    precision: str, in_fp32: bool, small_run: list[str]
) -> None:
    config = configured(small_run, f"trainer.precision={precision}", "trainer.accelerator=cpu")
    module = build_classifier(config, "abc", (8, 8, 8), 3)
    assert any(isinstance(layer, Float32Depthwise) for layer in module.model.modules()) == in_fp32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_trains_in_every_precision(precision: str, small_run: list[str]) -> None:
    run = train(configured(small_run, "trainer.accelerator=gpu", "trainer.devices=1", f"trainer.precision={precision}"))
    assert run.step == 6
