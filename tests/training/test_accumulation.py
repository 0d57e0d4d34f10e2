import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import assert_same_tensors, final_state

from rexnet.config import Config, load_config
from rexnet.errors import ConfigError
from rexnet.training import accumulation, classification
from rexnet.training.accumulation import SameMicroBatches, settle_accumulation, try_step
from rexnet.training.classification import build_classifier, train
from rexnet.training.classifier import Classifier

CPU, GPU = torch.device("cpu"), torch.device("cuda")
MODULE: Any = None  # a stand-in for `try_step` needs none


def configured(small_run: list[str], *overrides: str) -> Config:
    return load_config("finetune/folder.yaml", [*small_run, *overrides])


@pytest.mark.parametrize(("fitting", "number"), [(99, 1), (24, 1), (23, 2), (6, 4), (5, 8)])
def test_the_number_is_doubled_until_a_micro_batch_fits(
    fitting: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def trial(module: Any, device: torch.device, images: int) -> None:
        tried.append(images)
        if images > fitting:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(accumulation, "try_step", trial)
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
    trainer: Any = SimpleNamespace(accumulate_grad_batches=2, global_rank=1, strategy=strategy)
    SameMicroBatches().on_fit_start(trainer, trainer)
    trainer.accumulate_grad_batches = 4
    message = r"^trainer\.accumulate: auto settled on 2 micro-batches in process 0 and on 4 in process 1; set .*=4$"
    with pytest.raises(ConfigError, match=message):
        SameMicroBatches().on_fit_start(trainer, trainer)


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
