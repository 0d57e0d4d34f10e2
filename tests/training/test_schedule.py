import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from rexnet.config import load_config
from rexnet.training.schedule import build_schedule, released_layers

SCHEDULE = load_config(
    "imagenet",
    [
        "schedule.epochs=10",
        "schedule.warmup_epochs=2",
        "schedule.warmup_lr=0.1",
        "schedule.min_lr=0.05",
        "schedule.cooldown_epochs=2",
    ],
).schedule


@pytest.mark.parametrize(
    ("step", "lr"),
    [
        (0, 0.1),  # warm-up begins
        (4, 0.3),  # half of its 8 steps
        (8, 0.5),  # the peak
        (24, 0.275),  # half of the cosine's 32 steps: (0.5 + 0.05) / 2
        (16, 0.434099),  # a quarter: 0.05 + 0.45 (1 + cos 45 degrees) / 2
        (40, 0.05),  # the end
        (47, 0.05),  # cool-down
        (99, 0.05),
    ],
)
def test_the_learning_rate_is_the_written_one(step: int, lr: float) -> None:
    schedule = build_schedule(SCHEDULE, peak_lr=0.5, steps_per_epoch=4)
    assert 0.5 * schedule(step) == pytest.approx(lr, abs=1e-6)


def test_milestones_take_the_place_of_the_cosine() -> None:
    config = SCHEDULE.model_copy(update={"milestones": (4, 8), "warmup_epochs": 0.5})
    schedule = build_schedule(config, peak_lr=0.5, steps_per_epoch=4)
    rates = [0.5 * schedule(step) for step in (0, 2, 15, 16, 31, 32, 39, 40)]
    assert rates == pytest.approx([0.1, 0.5, 0.5, 0.05, 0.05, 0.005, 0.005, 0.05])


def test_a_late_decay_leaves_the_peak_until_then_and_falls_as_one_minus_the_root() -> None:
    config = SCHEDULE.model_copy(update={"decay_epochs": 4})
    schedule = build_schedule(config, peak_lr=0.5, steps_per_epoch=4)
    rates = [0.5 * schedule(step) for step in (4, 8, 23, 24, 25, 28, 33, 39, 40, 47)]
    assert rates == pytest.approx([0.3, 0.5, 0.5, 0.5, 0.3875, 0.275, 0.1625, 0.064289, 0.05, 0.05], abs=1e-6)


def test_without_warm_up_the_first_step_has_the_peak() -> None:
    config = SCHEDULE.model_copy(update={"warmup_epochs": 0})
    assert build_schedule(config, peak_lr=0.5, steps_per_epoch=4)(0) == 1.0


def test_torchs_scheduler_follows_it_step_by_step() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.5)
    scheduler = LambdaLR(optimizer, build_schedule(SCHEDULE, peak_lr=0.5, steps_per_epoch=4))
    rates = []
    for _ in range(9):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5])


@pytest.mark.parametrize(
    ("frozen", "unfreezing", "released"),
    [
        (0, 0, [18, 18, 18]),
        (2, 0, [0, 0, 18, 18]),
        (1, 4, [0, 4, 8, 11, 15, 18, 18]),  # fifths of 18, rounded up
        (0, 1, [9, 18, 18]),
        (0, 35, [1, 1, 2, 2, 3]),
    ],
)
def test_layers_are_released_evenly(frozen: int, unfreezing: int, released: list[int]) -> None:
    keys = [f"optimizer.freeze_backbone_epochs={frozen}", f"optimizer.unfreeze_epochs={unfreezing}"]
    config = load_config("imagenet", keys).optimizer
    assert [released_layers(config, epoch, 18) for epoch in range(len(released))] == released
