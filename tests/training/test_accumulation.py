import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import assert_same_tensors, final_state

from rexnet.config import Config, load_config
from rexnet.config.load import resolve_batch_size
from rexnet.errors import ConfigError
from rexnet.runs.resume_rules import load_run_config
from rexnet.training import accumulation, classification
from rexnet.training.accumulation import (
    SameInAllProcesses,
    find_batch_size,
    settle_accumulation,
    try_step,
)
from rexnet.training.classification import build_classifier, train
from rexnet.training.classifier import Classifier

CPU, GPU = torch.device("cpu"), torch.device("cuda")
MODULE: Any = None  # a stand-in for `try_step` needs none


def configured(small_run: list[str], *overrides: str) -> Config:
    return load_config("finetune/folder.yaml", [*small_run, *overrides])


def fit_only(fitting: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lets only so many images fit into memory; returns the list of the numbers that will be tried."""
    tried: list[int] = []

    def trial(module: Any, device: torch.device, images: int) -> None:
        tried.append(images)
        if images > fitting:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(accumulation, "try_step", trial)
    return tried


@pytest.mark.parametrize(("fitting", "number"), [(99, 1), (24, 1), (23, 2), (6, 4), (5, 8)])
def test_the_number_is_doubled_until_a_micro_batch_fits(
    fitting: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = fit_only(fitting, monkeypatch)
    assert settle_accumulation(MODULE, 24, GPU) == number
    assert tried == [24, 12, 6, 3][: len(tried)]


@pytest.mark.parametrize(("images", "smallest"), [(8, 2), (24, 3), (25, 25), (6, 3)])
def test_no_micro_batch_is_of_one_image_or_of_another_size_than_the_others(
    images: int, smallest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trial(module: Any, device: torch.device, images: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    message = rf"^trainer\.accumulate: auto finds no number, since {smallest} images do not fit into GPU memory"
    monkeypatch.setattr(accumulation, "try_step", trial)
    with pytest.raises(ConfigError, match=message):
        settle_accumulation(MODULE, images, GPU)


def test_a_trial_changes_neither_the_network_nor_random_states(small_run: list[str]) -> None:
    config = configured(small_run, "model.dropout=0.2", "loss.class_weights=[1,2,3]")
    module = build_classifier(config, "abc", (8, 8, 8), 3)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    random = torch.get_rng_state()
    try_step(module, CPU, 4)
    assert_same_tensors(before, module.state_dict())
    assert torch.equal(random, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert module.training


def test_a_trial_makes_steps_of_the_size_asked_for(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    config, seen = configured(small_run), []
    module = build_classifier(config, "abc", (8, 8, 8), 3)

    def trial_loss(self: Classifier, images: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(images.shape))
        return self.model(images).mean()

    monkeypatch.setattr(Classifier, "trial_loss", trial_loss)
    try_step(module, CPU, 6)
    module.config = configured(small_run, "augmentation.image_size={start: 32, end: 64}")
    try_step(module, CPU, 6)
    assert seen == [(6, 3, 32, 32)] * 2 + [(6, 3, 64, 64)] * 2


def test_a_cpu_needs_no_trial(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classifier, "trial_loss", None)
    config = configured(small_run, "trainer.accumulate=auto")
    module = build_classifier(config, "abc", (8, 8, 8), 3)
    assert settle_accumulation(module, 8, CPU) == 1


def test_the_settled_number_is_that_of_the_run_from_its_first_step_and_stays_when_it_resumes(
    small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = train(configured(small_run, "trainer.accumulate=2"))
    numbers = iter([2])
    monkeypatch.setattr(classification, "settle_accumulation", lambda *_: next(numbers))
    stopped = train(configured(small_run, "trainer.accumulate=auto", "trainer.max_steps=6"))
    assert load_config(stopped.run / "config.yaml").trainer.accumulate == 2
    state = final_state(stopped.run)
    assert json.loads(state["rexnet"]["config"])["trainer"]["accumulate"] == 2
    assert_same_tensors(final_state(fixed.run)["state_dict"], state["state_dict"])
    longer = configured(small_run, "trainer.accumulate=auto", "schedule.cooldown_epochs=1")
    assert train(longer, stopped.run).step == 9  # without another trial
    assert load_config(stopped.run / "config.yaml").trainer.accumulate == 2


def test_processes_that_settle_on_different_numbers_stop() -> None:
    strategy = SimpleNamespace(broadcast=lambda _: 2)
    trainer: Any = SimpleNamespace(global_rank=1, strategy=strategy)
    SameInAllProcesses("trainer.accumulate", 2, max).on_fit_start(trainer, trainer)
    message = r"^trainer\.accumulate: auto settled on 2 in process 0 and on 4 in process 1; set trainer\.accumulate=4$"
    with pytest.raises(ConfigError, match=message):
        SameInAllProcesses("trainer.accumulate", 4, max).on_fit_start(trainer, trainer)
    with pytest.raises(ConfigError, match=r"^data\.batch_size: .* set data\.batch_size=2$"):
        SameInAllProcesses("data.batch_size", 4, min).on_fit_start(trainer, trainer)


@pytest.mark.parametrize(
    ("images", "parts", "fitting", "batch", "first_trial"),
    [
        (720, 1, 999, 32, 32),  # 22 steps an epoch
        (720, 1, 31, 16, 32),
        (24, 1, 999, 8, 8),  # 3 steps, of 8 images
        (1_000_000, 8, 2048, 16384, 4096),  # 50,000 / 8 = 6,250 images each at most
        (10_000, 3, 300, 384, 128),  # three devices
        (30, 8, 999, 16, 2),  # BatchNorm needs two images
    ],
)
def test_the_batch_is_a_power_of_two_on_each_device_that_fits_and_leaves_steps_to_an_epoch(
    images: int, parts: int, fitting: int, batch: int, first_trial: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = fit_only(fitting, monkeypatch)
    assert find_batch_size(MODULE, images, parts, GPU) == batch
    assert tried[0] == first_trial


def test_a_batch_that_never_fits_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def trial(module: Any, device: torch.device, images: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(accumulation, "try_step", trial)
    with pytest.raises(
        ConfigError, match=r"^data\.batch_size: auto finds no number, since 2 images do not fit into GPU"
    ):
        find_batch_size(MODULE, 720, 1, GPU)


@pytest.mark.parametrize(("images", "parts", "batch"), [(100_000, 1, 32), (100_000, 3, 24), (400, 1, 16), (24, 2, 8)])
def test_on_a_cpu_the_batch_has_at_most_32_images(images: int, parts: int, batch: int) -> None:
    assert find_batch_size(MODULE, images, parts, CPU) == batch


def test_the_settled_batch_and_learning_rates_are_those_of_the_run_and_stay_when_it_resumes(
    small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    automatic = ["data.batch_size=auto", "optimizer.lr=1.6", "schedule.warmup_lr=0.32", "schedule.min_lr=0.032"]
    fixed = ["optimizer.lr=0.05", "schedule.warmup_lr=0.01", "schedule.min_lr=0.001"]  # 8 / 256 of these
    whole = train(configured(small_run, *fixed))
    stopped = train(configured(small_run, *automatic, "trainer.max_steps=4"))
    config = load_config(stopped.run / "config.yaml")
    assert (config.data.batch_size, config.optimizer.lr, config.schedule.min_lr) == (8, 0.05, 0.001)
    monkeypatch.setattr(classification, "find_batch_size", None)  # no other trial
    rest = train(configured(small_run, *automatic), stopped.run)
    assert_same_tensors(final_state(whole.run)["state_dict"], final_state(rest.run)["state_dict"])
    wanted = load_run_config(rest.run, automatic)
    assert (wanted.data.batch_size, wanted.optimizer.lr) == (8, 0.05)


def test_adamw_scales_by_the_square_root(small_run: list[str]) -> None:
    more = ["data.batch_size=auto", "optimizer.name=adamw", "optimizer.lr=0.004", "schedule.warmup_lr=0"]
    config = resolve_batch_size(configured(small_run, *more, "schedule.min_lr=0"), 64)
    assert config.optimizer.lr == pytest.approx(0.002)
    assert resolve_batch_size(config, 32) is config


def test_memory_that_runs_out_later_is_one_sentence(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    step = Classifier.training_step

    def limited(self: Classifier, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", limited)
    message = r"^trainer\.accumulate: process 0 ran out of GPU memory after step 4 .* set trainer\.accumulate=2, and"
    with pytest.raises(ConfigError, match=message):
        train(configured(small_run))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_settles_before_the_first_step(small_run: list[str]) -> None:
    keys = ["trainer.accelerator=gpu", "trainer.devices=1", "trainer.accumulate=auto"]
    result = train(configured(small_run, *keys))
    assert result.step == 6
    assert load_config(result.run / "config.yaml").trainer.accumulate == 1
