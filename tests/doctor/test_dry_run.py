import math

import pytest
import torch

from rexnet.config import Config, load_config
from rexnet.data.datamodule import ImageData
from rexnet.doctor.dry_run import check_losses, check_memory, checkpoint_bytes, dry_run_config, load_batch, run_steps
from rexnet.errors import ConfigError
from rexnet.training.classification import build_classifier, train


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rexnet.doctor.dry_run.STEPS", 5)


def test_a_dry_run_fits_one_batch_on_one_device(small_run: list[str]) -> None:
    schedule = ["schedule.epochs=9", "schedule.decay_epochs=8", "trainer.val_every_epochs=3"]
    config = load_config("finetune/folder.yaml", [*small_run, *schedule])
    data = ImageData(config)
    images, labels = load_batch(data, 4)
    assert images.shape == (4, 3, 32, 32)
    assert labels.shape == (4,)
    steps = run_steps(build_classifier(dry_run_config(config), data.class_names, [8, 8, 8], 4), (images, labels))
    assert len(steps.losses) == 5
    assert min(steps.seconds) > 0
    assert steps.peak_bytes > 1e8
    config = load_config(
        "finetune/folder.yaml", [*small_run, "augmentation.image_size={start: 32, end: 96, epochs: 1}"]
    )
    assert load_batch(ImageData(config), 2)[0].shape == (2, 3, 96, 96)
    assert set(dry_run_config(config).training_sizes) == {96}


def test_a_learning_rate_that_breaks_the_network_is_an_error(small_run: list[str]) -> None:
    config = load_config("finetune/folder.yaml", [*small_run, "optimizer.lr=1e30"])
    data = ImageData(config)
    module = build_classifier(dry_run_config(config), data.class_names, [8, 8, 8], 4)
    finding = check_losses(run_steps(module, load_batch(data, 8)).losses, config.optimizer.lr)
    assert (finding.level, finding.subject) == ("error", "learning")


def test_a_step_that_does_not_fit_names_the_key(small_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ImageData(small_config)
    module = build_classifier(dry_run_config(small_config), data.class_names, [8, 8, 8], 4)

    def run_out_of_memory(batch: object, batch_idx: int) -> torch.Tensor:
        raise torch.OutOfMemoryError("planted")

    monkeypatch.setattr(module, "training_step", run_out_of_memory)
    with pytest.raises(ConfigError, match=r"out of GPU memory after step 0 .* set trainer\.accumulate=2"):
        run_steps(module, load_batch(data, 8))


def test_the_size_of_a_checkpoint_is_estimated(small_run: list[str]) -> None:
    config = load_config("finetune/folder.yaml", [*small_run, "trainer.max_steps=1"])
    run = train(config).run
    predicted = checkpoint_bytes(build_classifier(config, ("ant", "bee", "cow"), (8, 8, 8), 3))
    assert predicted == pytest.approx((run / "checkpoints" / "last.ckpt").stat().st_size, rel=0.15)
    adamw = [
        "optimizer.name=adamw",
        "optimizer.lr=0.001",
        "schedule.warmup_lr=0",
        "ema=null",
    ]
    config = load_config("finetune/folder.yaml", [*small_run, *adamw])
    other = checkpoint_bytes(build_classifier(config, ("ant", "bee", "cow"), (8, 8, 8), 3))
    assert other == pytest.approx(predicted, rel=0.05)


def test_losses_must_be_finite_and_fall() -> None:
    falling = [2.0 - 0.05 * number for number in range(5)]
    assert check_losses(falling, 0.1).text.startswith(
        "loss on one batch from 1.975 to 1.825 in 5 steps, up to learning rate 0.1"
    )
    assert [check_losses(losses, 0.1).level for losses in (falling, falling[::-1], falling[::-1][:4])] == [
        "ok",
        "error",
        "warning",
    ]
    assert "NaN or infinite at step 3" in check_losses([2.0, 1.9, math.nan, 1.0], 0.1).text
    assert "NaN or infinite at step 1" in check_losses([math.inf, 1.9, 1.8, 1.0], 0.1).text


def test_memory_is_compared_with_what_was_free() -> None:
    assert check_memory(9.5e9, 32, free=10 * 10**9).level == "warning"
    assert check_memory(9.5e9, 32, free=11 * 10**9).text == (
        "9.5 GB at the peak of a step with 32 images; 11.0 GB were free"
    )
