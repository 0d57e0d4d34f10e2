from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import assert_same_tensors, final_state

from rexnet.config import load_config
from rexnet.runs.run import Run
from rexnet.training.classification import build_classifier, train
from rexnet.training.classifier import Classifier


def build(small_run: list[str], *overrides: str, rank: int = 0, epoch: int = 0) -> Classifier:
    config = load_config("finetune/folder.yaml", [*small_run, *overrides])
    module = build_classifier(config, ("ant", "bee", "cow"), (8, 8, 8), 3)
    trainer: Any = SimpleNamespace(
        current_epoch=epoch, global_rank=rank, world_size=1, precision_plugin=None, callback_metrics={}
    )
    module._trainer = trainer
    return module


def test_dropout_is_a_function_of_seed_epoch_batch_and_rank(small_run: list[str]) -> None:
    def drawn(batch: int, *overrides: str, **place: int) -> int:
        build(small_run, *overrides, **place).on_train_batch_start(None, batch)
        return int(torch.randint(1 << 62, ()))

    places = [drawn(0), drawn(1), drawn(0, epoch=1), drawn(0, rank=1), drawn(0, "seed=1")]
    assert len(set(places)) == 5
    assert drawn(1) == places[1]


def test_the_mean_loss_of_an_epoch_starts_with_its_first_batch(small_run: list[str]) -> None:
    module = build(small_run)
    for epoch, losses in enumerate([[1.0, 3.0], [5.0, 7.0]]):
        for batch, loss in enumerate(losses):
            module.on_train_batch_start(None, batch)
            module.record_loss(torch.tensor(loss))
            module.window.pop()
        assert module.window.epoch_mean == (2.0, 6.0)[epoch]


def test_a_loss_that_is_not_finite_has_a_gradient_that_is_not_finite(small_run: list[str]) -> None:
    value = torch.tensor(3e38, requires_grad=True)
    module = build(small_run)
    module.record_loss(value * 2).backward()
    assert torch.isnan(value.grad)  # type: ignore[arg-type]


@pytest.mark.parametrize(("epoch", "frozen"), [(0, True), (1, True), (2, False)])
def test_the_backbone_is_frozen_with_its_statistics_in_the_first_epochs(
    epoch: int, frozen: bool, small_run: list[str]
) -> None:
    module = build(small_run, "optimizer.freeze_backbone_epochs=2", epoch=epoch).train()
    module.on_train_epoch_start()
    trainable = {name for name, parameter in module.model.named_parameters() if parameter.requires_grad}
    assert (trainable == {"head.fc.weight", "head.fc.bias"}) == frozen
    norms = {part.training for part in module.model.modules() if isinstance(part, torch.nn.BatchNorm2d)}
    assert norms == {not frozen}
    assert module.ema_model is not None
    assert not module.ema_model.training


@pytest.mark.parametrize(
    ("epoch", "trained"),
    [
        (0, []),
        (1, ["features.4", "features.5", "features.6"]),  # three of eight layers: a stem, six blocks, a convolution
        (2, [f"features.{number}" for number in range(1, 7)]),
        (3, ["stem", *(f"features.{number}" for number in range(7))]),
    ],
)
def test_layers_are_released_from_the_classifier_down(epoch: int, trained: list[str], small_run: list[str]) -> None:
    keys = ["optimizer.freeze_backbone_epochs=1", "optimizer.unfreeze_epochs=2", "schedule.epochs=4"]
    module = build(small_run, *keys, epoch=epoch).train()
    module.on_train_epoch_start()
    for name, parameter in module.model.named_parameters():
        assert parameter.requires_grad == name.startswith((*(f"{layer}." for layer in trained), "head")), name
    for name, part in module.model.named_modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            assert part.training == name.startswith(tuple(f"{layer}." for layer in trained)), name


def test_sharpness_aware_minimization_is_the_written_one(small_run: list[str]) -> None:
    module = build(small_run)
    module.model = torch.nn.Linear(2, 1, bias=False)
    weights = module.model.weight
    weights.data = torch.tensor([[1.5, 1.0]])
    optimizer = torch.optim.SGD([weights], 0.1)

    def closure() -> torch.Tensor:  # a^2 + 2 b^2
        optimizer.zero_grad()
        loss = module.record_loss((weights**2 * torch.tensor([1.0, 2.0])).sum())
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    loss = optimizer.step(lambda: module.pass_twice(closure, 0, rho=0.5))
    # The gradient (3, 4) has the norm 5, so the second one is that at (1.5, 1) + 0.5 (3, 4) / 5 = (1.8, 1.4).
    assert weights.grad is not None
    assert weights.grad.tolist() == [pytest.approx([3.6, 5.6])]
    assert weights.tolist() == [pytest.approx([1.14, 0.44])]
    assert (loss, module.window.pop()) == (4.25, 4.25)


def test_the_second_pass_repeats_the_first_where_rho_vanishes(
    small_run: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Dropout, statistics of BatchNorm and the logged loss count once; in float32, this rho moves nothing."""
    caplog.set_level("INFO", "rexnet")
    keys = [*small_run, "model.dropout=0.3", "model.drop_path=0.2", "optimizer.clip_grad=1"]
    plain = train(load_config("finetune/folder.yaml", keys)).run
    assert "SAM" not in caplog.text
    twice = train(load_config("finetune/folder.yaml", [*keys, "optimizer.sam_rho=1e-60"])).run
    assert "SAM (optimizer.sam_rho) computes each gradient twice" in caplog.text
    for key in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert_same_tensors(final_state(plain)[key], final_state(twice)[key])
    losses = [[row["train/loss"] for row in Run(run).rows] for run in (plain, twice)]
    assert losses[0] == losses[1]


def test_the_schedule_starts_at_the_warm_up_rate(small_run: list[str]) -> None:
    module = build(small_run, "optimizer.lr=0.5", "schedule.warmup_lr=0.1", "optimizer.backbone_lr_factor=0.1")
    configured: Any = module.configure_optimizers()
    rates = [group["lr"] for group in configured["optimizer"].param_groups]
    assert rates == pytest.approx([0.01, 0.01, 0.1, 0.1])
    assert configured["lr_scheduler"]["interval"] == "step"


def test_guard_and_window_are_saved_and_restored_with_the_module(small_run: list[str]) -> None:
    before, after = build(small_run), build(small_run)
    before.record_loss(torch.tensor(2.5))
    before.guard.streak = 2
    checkpoint: dict[str, Any] = {}
    before.on_save_checkpoint(checkpoint)
    assert checkpoint.pop("rexnet")["class_names"] == ["ant", "bee", "cow"]
    assert checkpoint == {"guard": {"streak": 2}, "loss_window": {"sums": [[2.5, 1.0]], "epoch": [0.0, 0.0, 0.0]}}
    after.on_load_checkpoint(checkpoint)
    assert (after.guard.streak, after.window.pop()) == (2, 2.5)


def test_cudnn_is_told_how_many_images_a_device_still_trains_on(
    small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, bool]] = []
    monkeypatch.setattr("rexnet.training.training_module.tune_convolutions", lambda *values: told.append(values))
    run = train(load_config("finetune/folder.yaml", [*small_run, "trainer.max_steps=3"])).run
    train(load_config("finetune/folder.yaml", small_run), resume=run)
    assert told == [(24, False), (24, False)]  # steps of 8 images: the first 3, then the other 3 of 6
    assert not torch.backends.cudnn.benchmark
