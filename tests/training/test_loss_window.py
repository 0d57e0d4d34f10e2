import math

import pytest
import torch

from rexnet.training.loss_window import LossWindow


def test_the_mean_is_that_of_the_finite_losses_since_the_last_call_and_over_the_epoch() -> None:
    window = LossWindow()
    for loss in (1.0, math.nan, 2.0):
        window.add(torch.tensor(loss))
    assert window.pop() == 1.5
    window.add(torch.tensor(6.0))
    assert (window.pop(), window.epoch_mean) == (6.0, 3.0)
    window.add(torch.tensor(math.inf))
    assert math.isnan(window.pop())
    assert window.epoch_mean == 3.0
    window.start_epoch()
    window.add(torch.tensor(4.0))
    assert (window.pop(), window.epoch_mean) == (4.0, 4.0)


def test_a_restored_window_continues_as_if_nothing_had_happened() -> None:
    whole, first, second = LossWindow(), LossWindow(), LossWindow()
    losses = torch.tensor([0.1, 0.7, 0.3, 0.9])
    for number, loss in enumerate(losses):
        whole.add(loss)
        (first if number < 3 else second).add(loss)
        if number == 1:
            whole.pop()
            first.pop()
        if number == 2:
            second.load_state_dict(first.state_dict())
    assert (whole.pop(), whole.epoch_mean) == (second.pop(), second.epoch_mean)


@pytest.mark.parametrize("later", [("a",), ("a", "b", "c"), ()], ids=str)
def test_a_resumed_run_may_have_other_parts(later: tuple[str, ...]) -> None:
    window, resumed = LossWindow(), LossWindow()
    window.add(torch.tensor(3.0), {"a": torch.tensor(1.0), "b": torch.tensor(2.0)})
    resumed.load_state_dict(window.state_dict())
    resumed.add(torch.tensor(5.0), dict.fromkeys(later, torch.tensor(3.0)))
    assert resumed.pop() == 4.0
    assert list(resumed.parts) == list(later)


@pytest.mark.parametrize(("rank", "expected"), [(0, [4.0, 3.0]), (1, [0.0, 0.0])])
def test_with_another_number_of_processes_the_first_takes_all(
    rank: int, expected: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"is_initialized": True, "get_rank": rank, "get_world_size": 2}.items():
        monkeypatch.setattr(f"torch.distributed.{name}", lambda value=value: value)
    window = LossWindow()
    window.load_state_dict({"sums": [[1.0, 1.0], [2.0, 1.0], [1.0, 1.0]], "epoch": [0.0, 0.0, 0.0]})
    assert window.sums.tolist() == expected
