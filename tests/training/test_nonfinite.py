import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import assert_same_tensors
from pytorch_lightning.callbacks import Callback
from torch import nn

from rexnet.config import Config, load_config
from rexnet.errors import DivergenceError
from rexnet.runs.run import Run
from rexnet.training.classification import train
from rexnet.training.nonfinite import NonFiniteGuard, propagate_nonfinite


def configured(small_run: list[str], *overrides: str) -> Config:
    return load_config("finetune/folder.yaml", [*small_run, *overrides])


class Poison(Callback):
    """Makes the images of some steps NaN, and keeps the state around them."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps
        self.states: dict[int, dict[str, Any]] = {}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step + 1 in self.steps:
            batch[0].fill_(float("nan"))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        state = {name: value.clone() for name, value in pl_module.state_dict().items()}
        optimizer = {place: dict(value) for place, value in trainer.optimizers[0].state_dict()["state"].items()}
        momentum = {place: value["momentum_buffer"].clone() for place, value in optimizer.items()}
        self.states[trainer.global_step] = {"state": state, "momentum": momentum}


@pytest.mark.parametrize("rho", ["null", "0.05"])
def test_a_bad_step_changes_nothing_and_is_reported_with_its_images(
    rho: str, small_run: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    poison_at = Poison(4)
    run = train(configured(small_run, "schedule.epochs=3", f"optimizer.sam_rho={rho}"), callbacks=[poison_at])
    before, after = poison_at.states[3], poison_at.states[4]
    for name, value in before["state"].items():
        if not name.endswith("num_batches_tracked"):  # a count, which nothing is computed from
            assert torch.equal(value, after["state"][name]), name
    assert_same_tensors(before["momentum"], after["momentum"])
    assert not torch.equal(after["state"]["model.head.fc.weight"], poison_at.states[5]["state"]["model.head.fc.weight"])
    assert run.step == 9
    (line,) = (run.run / "skipped_steps.jsonl").read_text().splitlines()
    noted = json.loads(line)
    assert (noted["step"], noted["epoch"], len(noted["images"])) == (4, 2, 8)
    assert all(Path(path).is_file() for path in noted["images"])
    assert "step 4 was skipped: its loss or gradient is NaN or infinite" in caplog.text
    assert [float(row["train/loss"]) > 0 for row in Run(run.run).rows] == [True] * 3


def test_the_first_step_can_be_the_bad_one(small_run: list[str]) -> None:
    """PyTorch's fused SGD would continue with uninitialized memory as its momentum."""
    poison_at = Poison(1)
    train(configured(small_run), callbacks=[poison_at])
    assert all(not value.any() for value in poison_at.states[1]["momentum"].values())
    assert all(torch.isfinite(value).all() for value in poison_at.states[6]["momentum"].values())


def test_the_mean_of_the_last_epochs_is_that_of_their_final_weights_even_after_a_bad_step(small_run: list[str]) -> None:
    more = ["schedule.epochs=3", "ema.decay=null", "ema.last_epochs=2", "trainer.keep_best=3"]
    run = train(configured(small_run, *more), callbacks=[Poison(9)]).run
    first, second, third = (
        torch.load(path, weights_only=True)["state_dict"] for path in sorted((run / "checkpoints").glob("epoch*.ckpt"))
    )
    for name in (name.removeprefix("model.") for name in first if name.startswith("model.")):
        assert torch.equal(first[f"ema_model.{name}"], first[f"model.{name}"])
        if second[f"model.{name}"].is_floating_point():
            mean = (second[f"model.{name}"].double() + third[f"model.{name}"].double()) / 2
            torch.testing.assert_close(third[f"ema_model.{name}"].double(), mean, rtol=1e-6, atol=1e-7)


def test_several_bad_steps_in_a_row_stop_the_run_and_name_the_images(small_run: list[str]) -> None:
    config = configured(small_run, "schedule.epochs=3", "trainer.max_bad_steps=3")
    with pytest.raises(DivergenceError, match=r"infinite in 3 steps in a row, lastly in step 7 with /.* and 5 more"):
        train(config, callbacks=[Poison(1, 2, 5, 6, 7)])
    (run,) = config.trainer.runs_dir.iterdir()
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 6
    assert saved["guard"] == {"streak": 2}  # a resumed run continues to count
    for file in (run / "checkpoints").glob("*.ckpt"):
        state = torch.load(file, weights_only=True)["state_dict"]
        assert all(torch.isfinite(value).all() for value in state.values())


def test_an_infinite_loss_with_a_finite_gradient_is_bad_too() -> None:
    logits = torch.tensor([[-3e38, 3e38]], requires_grad=True)
    loss = nn.functional.cross_entropy(logits, torch.tensor([0]))
    assert torch.isinf(loss)
    propagate_nonfinite(loss).backward()
    assert logits.grad is not None
    assert torch.isnan(logits.grad).any()
    value = torch.tensor(0.7, requires_grad=True)
    propagate_nonfinite(value * value).backward()
    assert value.grad == torch.tensor(0.7) * 2  # a finite one is left as it is


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop])
def test_the_guard_keeps_every_kind_of_state(kind: Any) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    options |= {"fused": True} if kind is not torch.optim.RMSprop else {}  # which has no fused form
    optimizer, guard = kind(network.parameters(), 0.1, **options), NonFiniteGuard()
    guard.start(network)
    snapshots = []
    for bad in (True, False, False, True, False):
        optimizer.zero_grad()
        images = torch.full((5, 3), float("nan")) if bad else torch.randn(5, 3)
        network(images).mean().backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in network.parameters()])
        guard.check(norm, optimizer)
        optimizer.step()
        guard.rollback(optimizer)
        weights = {name: value.clone() for name, value in network.state_dict().items() if "tracked" not in name}
        memory = [value.clone() for state in optimizer.state.values() for value in state.values()]
        snapshots.append((weights, memory))
    assert guard.pop() == [1, 0, 0, 1, 0]
    assert guard.pop() == []
    assert_same_tensors(snapshots[2], snapshots[3])
    for index in (1, 2, 4):
        assert not torch.equal(snapshots[index][0]["0.weight"], snapshots[index - 1][0]["0.weight"])
    assert all(torch.isfinite(value).all() for value in snapshots[4][1])
