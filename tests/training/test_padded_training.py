"""A run with padded channels: its files, random numbers and outcome are those of a run without."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import final_state

from rexnet.config import Config, load_config
from rexnet.data.augment.batch import normalize
from rexnet.models.factory import build_model
from rexnet.training import classification
from rexnet.training.classification import build_classifier, train

NAMES = ("ant", "bee", "cow")


def configured(small_run: list[str], *overrides: str) -> Config:
    return load_config(
        "finetune/folder.yaml", [*small_run, "schedule.epochs=4", "schedule.cooldown_epochs=0", *overrides]
    )


@pytest.fixture
def float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets runs compute in float64; in float32 rounding errors would grow too fast to compare them."""
    monkeypatch.setattr(classification, "build_model", lambda *values, **named: build_model(*values, **named).double())
    monkeypatch.setattr("rexnet.data.datamodule.normalize", lambda *values: normalize(*values).double())


def test_weights_and_random_numbers_begin_as_without_padding(small_run: list[str]) -> None:
    numbers, states = [], []
    for padding in ("none", 8, 16):
        module = build_classifier(configured(small_run, f"trainer.pad_channels={padding}"), NAMES, (8, 8, 8), 3)
        numbers.append(torch.rand(2).tolist())
        states.append(module.state_dict())
    assert numbers[1] == numbers[2] == numbers[0]
    for state in states[1:]:
        assert all(torch.equal(state[name], value) for name, value in states[0].items())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_run_resumed_with_other_paddings_ends_where_one_without_does(name: str, small_run: list[str]) -> None:
    options = [f"optimizer.name={name}", "optimizer.lr=0.002", "optimizer.clip_grad=1", "model.drop_path=0.2"]
    whole = train(configured(small_run, *options))
    run: Path | None = None
    for padding, epochs in (("none", 1), (8, 2), (16, 3), ("none", 4)):
        padded = configured(small_run, *options, f"trainer.pad_channels={padding}", f"trainer.max_steps={3 * epochs}")
        result = train(padded, resume=run)
        run = result.run
    for key in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(
            tensors(final_state(result.run)[key]), tensors(final_state(whole.run)[key]), rtol=0, atol=1e-9
        )
    assert result.metrics == pytest.approx(whole.metrics, abs=1e-9)


def tensors(tree: Any) -> list[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        return [tree]
    branches = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return [tensor for branch in branches for tensor in tensors(branch)]
