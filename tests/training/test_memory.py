from collections.abc import Iterator
from typing import Any

import pytest
import torch
from conftest import assert_same_tensors, final_state

from rexnet.config import Config, load_config
from rexnet.errors import ConfigError
from rexnet.models.factory import rexnet
from rexnet.models.rexnet import ReXNet
from rexnet.training.fit import fit
from rexnet.training.module import Classifier


def configured(small_run: list[str], *overrides: str) -> Config:
    plain = ["model.dropout=0", "augmentation.erase_prob=0", "ema.decay=0.9"]
    return load_config("finetune/folder.yaml", [*small_run, *plain, *overrides])


def weights(run: dict[str, Any]) -> dict[str, torch.Tensor]:
    """All of the final state but how many batches BatchNorm saw, those of the failed attempt included."""
    return {name: value for name, value in final_state(run)["state_dict"].items() if "tracked" not in name}


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A network that runs out of memory in training as a GPU does: above some number of images, in one place."""
    limit: dict[str, Any] = {"images": 4, "place": "forward", "from_call": 0, "calls": 0}
    forward, backward = ReXNet.forward, torch.Tensor.backward

    def exhausted(images: int) -> bool:
        limit["calls"] += 1
        return images > limit["images"] and limit["calls"] > limit["from_call"]

    def limited_forward(self: ReXNet, images: torch.Tensor) -> torch.Tensor:
        limit["last"] = images.shape[0]
        if self.training and limit["place"] == "forward" and exhausted(images.shape[0]):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, images)

    def limited_backward(self: torch.Tensor, *arguments: Any, **keywords: Any) -> None:
        backward(self, *arguments, **keywords)  # gradients are added before memory runs out
        if limit["place"] == "backward" and exhausted(limit["last"]):
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ReXNet, "forward", limited_forward)
    monkeypatch.setattr(torch.Tensor, "backward", limited_backward)
    return limit


@pytest.mark.parametrize("place", ["forward", "backward"])
def test_a_step_without_memory_is_repeated_as_with_more_accumulation(
    place: str, small_run: list[str], little_memory: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    little_memory["images"] = 99
    accumulated = fit(configured(small_run, "trainer.accumulate=2"))
    little_memory.update(images=4, place=place)
    repeated = fit(configured(small_run))
    assert_same_tensors(weights(accumulated), weights(repeated))
    assert caplog.text.count("out of memory at step 1: it is repeated, and all others follow, in 2 parts of 4") == 1
    assert "To have that from the beginning: trainer.accumulate=2" in caplog.text
    assert final_state(repeated)["step_log"]["parts"] == 2  # a resumed run goes on so


def test_earlier_batches_of_an_accumulated_step_are_repeated_too(
    small_run: list[str], little_memory: dict[str, Any]
) -> None:
    """Memory runs out in the second half of a step, in its backward pass, with gradients half added."""
    little_memory["images"] = 99
    quarters = fit(configured(small_run, "trainer.accumulate=4", "trainer.max_steps=1"))
    little_memory.update(images=2, place="backward", from_call=little_memory["calls"] + 1)
    repeated = fit(configured(small_run, "trainer.accumulate=2", "trainer.max_steps=1"))
    assert_same_tensors(weights(quarters), weights(repeated))


def test_no_part_is_of_a_single_image(small_run: list[str], little_memory: dict[str, Any]) -> None:
    """13 images in 4 parts are 4, 3, 3 and 3; BatchNorm cannot train on the last of 4, 4, 4 and 1."""
    run = fit(configured(small_run, "data.batch_size=13", "trainer.max_steps=1"))
    assert final_state(run)["step_log"]["parts"] == 4


def test_what_does_not_fit_at_all_is_said_so(small_run: list[str], little_memory: dict[str, Any]) -> None:
    little_memory["images"] = 1
    with pytest.raises(ConfigError, match=r"out of memory even with 2 images at once; lower data\.image_size"):
        fit(configured(small_run))


def test_one_process_of_several_does_not_repeat_alone(small_run: list[str]) -> None:
    config = configured(small_run)
    module = Classifier(config, rexnet(0.2, num_classes=3), ["a", "b", "c"], 3)
    trainer: Any = type("Trainer", (), {"world_size": 2, "global_rank": 1, "accumulate_grad_batches": 2})()
    with pytest.raises(ConfigError, match=r"on process 1; go on .* trainer\.accumulate=4 and --allow-change"):
        module.parted._halve(8, trainer)
