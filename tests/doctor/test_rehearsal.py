import math

import pytest
import torch
from torch import nn

from rexnet.config import Config, load_config
from rexnet.data.datamodule import ImageData
from rexnet.doctor.rehearsal import (
    Rehearsal,
    checkpoint_bytes,
    fixed_batch,
    foresee_memory,
    judge_losses,
    judge_memory,
    kept_bytes,
    rehearse,
    rehearsed,
)
from rexnet.errors import ConfigError
from rexnet.training.classification import build_classifier, train


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rexnet.doctor.rehearsal.STEPS", 5)


def test_a_learning_rate_that_breaks_the_network_is_an_error(small_run: list[str]) -> None:
    config = load_config("finetune/folder.yaml", [*small_run, "optimizer.lr=1e30"])
    data = ImageData(config)
    small = rehearsed(config, data.device_batch)
    seen = rehearse(small, build_classifier(small, data.class_names, [8, 8, 8], 4), fixed_batch(small, data))
    finding = judge_losses(seen.losses, config.optimizer.lr)
    assert (finding.level, finding.subject) == ("error", "learning")


def test_a_step_that_does_not_fit_is_said_with_the_key(small_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ImageData(small_config)
    small = rehearsed(small_config, data.device_batch)
    module = build_classifier(small, data.class_names, [8, 8, 8], 4)

    def run_out_of_memory(batch: object, batch_idx: int) -> torch.Tensor:
        raise torch.OutOfMemoryError("planted")

    monkeypatch.setattr(module, "training_step", run_out_of_memory)
    with pytest.raises(ConfigError, match=r"out of GPU memory after step 0 .* set trainer\.accumulate=2"):
        rehearse(small, module, fixed_batch(small, data))


def test_what_the_backward_pass_needs_is_counted() -> None:
    """12 inputs and 8 activations of 4 bytes for each of 2 images; weights, views and ReLU's inputs take nothing."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2))
    autocast = torch.autocast("cpu", enabled=False)
    assert kept_bytes(network, torch.zeros(2, 3, 2, 2), autocast) == 2 * (12 + 8) * 4


def test_a_batch_that_a_cpu_cannot_hold_is_not_tried(small_config: Config) -> None:
    data = ImageData(small_config)
    module = build_classifier(small_config, data.class_names, [8, 8, 8], 4)
    assert foresee_memory(rehearsed(small_config, 8), module, free=10**9) is None
    refusal = foresee_memory(rehearsed(small_config, 8_000_000), module, free=10**9)
    assert refusal is not None
    assert refusal.text.startswith("8000000 images at once need about ")
    assert "trainer.accumulate" in refusal.text


def test_the_size_of_a_checkpoint_is_foretold(small_run: list[str]) -> None:
    config = load_config("finetune/folder.yaml", [*small_run, "trainer.max_steps=1"])
    run = train(config).run
    predicted = checkpoint_bytes(config, build_classifier(config, ("ant", "bee", "cow"), (8, 8, 8), 3))
    assert predicted == pytest.approx((run / "checkpoints" / "last.ckpt").stat().st_size, rel=0.15)
    adamw = [
        "optimizer.name=adamw",
        "optimizer.lr=0.001",
        "schedule.warmup_lr=0",
        "ema=null",
    ]
    config = load_config("finetune/folder.yaml", [*small_run, *adamw])
    other = checkpoint_bytes(config, build_classifier(config, ("ant", "bee", "cow"), (8, 8, 8), 3))
    assert other == pytest.approx(predicted, rel=0.05)


def test_losses_are_judged() -> None:
    falling = [2.0 - 0.05 * number for number in range(5)]
    assert judge_losses(falling, 0.1).text.startswith(
        "loss on one batch from 1.975 to 1.825 in 5 steps, up to learning rate 0.1"
    )
    assert [judge_losses(losses, 0.1).level for losses in (falling, falling[::-1], falling[::-1][:4])] == [
        "ok",
        "error",
        "warning",
    ]
    assert "NaN or infinite at step 3" in judge_losses([2.0, 1.9, math.nan, 1.0], 0.1).text
    assert "NaN or infinite at step 1" in judge_losses([math.inf, 1.9, 1.8, 1.0], 0.1).text


def test_memory_is_judged() -> None:
    seen = Rehearsal(memory_gb=9.5)
    assert judge_memory(seen, 32, free=10 * 10**9).level == "warning"
    assert judge_memory(seen, 32, free=11 * 10**9).level == "ok"
