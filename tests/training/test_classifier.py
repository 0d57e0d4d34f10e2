from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - the common name

from rexnet.config import load_config
from rexnet.errors import DivergenceError
from rexnet.training.classification import build_classifier
from rexnet.training.classifier import Classifier

IMAGES, LABELS = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])


def build(small_run: list[str], *overrides: str) -> Classifier:
    torch.manual_seed(0)
    config = load_config("finetune/folder.yaml", [*small_run, "loss.label_smoothing=0.1", *overrides])
    return build_classifier(config, ("ant", "bee", "cow"), (8, 8, 8), 3)


def attach(module: Classifier, images: int) -> list[dict[str, float]]:
    """Gives a module a trainer of `images` validation images, and returns what it logs."""
    logged: list[dict[str, float]] = []
    logger = SimpleNamespace(log_metrics=lambda metrics, step: logged.append(metrics))
    trainer: Any = SimpleNamespace(
        datamodule=SimpleNamespace(val_index=range(images)), loggers=[logger], global_step=7, current_epoch=2
    )
    module._trainer = trainer
    module.log = module.log_dict = lambda *_, **__: None  # type: ignore[method-assign,assignment]
    return logged


def test_a_step_is_the_loss_of_the_raw_network_and_is_logged(small_run: list[str]) -> None:
    module = build(small_run).eval()
    loss = module.training_step((IMAGES, LABELS), 0)
    assert torch.equal(loss, F.cross_entropy(module.model(IMAGES), LABELS, label_smoothing=0.1))
    assert module.window.pop() == loss.item()


def test_validation_measures_both_networks_and_returns_the_logits_of_the_monitored_one(small_run: list[str]) -> None:
    module = build(small_run).eval()
    assert (module.monitored, build(small_run, "ema=null").monitored) == ("val_ema/top1", "val/top1")
    assert module.ema_model is not None
    with torch.no_grad():
        module.model.head.fc.bias += torch.tensor([0.0, 0.0, 99.0])  # type: ignore[union-attr,operator]
    logged = attach(module, images=4)
    logits = module.validation_step((IMAGES, LABELS), 0)
    assert torch.equal(logits, module.ema_model(IMAGES))
    assert module.validation_step((IMAGES[:0], LABELS[:0]), 1).shape == (0, 3)  # fewer images than processes
    module.on_validation_epoch_end()
    metrics = logged[0] | logged[1]
    assert metrics["val/top1"] == 25.0  # all are taken for the last class
    assert metrics["val/mean_class_top1"] == pytest.approx(100 / 3)
    assert metrics["val_ema/loss"] == pytest.approx(F.cross_entropy(logits, LABELS).item(), rel=1e-6)
    names = ("top1", "top5", "loss", "mean_class_top1")
    assert set(metrics) == {f"{prefix}/{name}" for prefix in ("val", "val_ema") for name in names}


def test_the_worst_class_of_the_monitored_network_has_its_english_name(small_run: list[str]) -> None:
    config = load_config("finetune/folder.yaml", small_run)
    module = build_classifier(config, ("n01440764", "n01443537", "n01491361"), (8, 8, 8), 3).eval()
    assert module.ema_model is not None
    with torch.no_grad():
        module.ema_model.head.fc.bias += torch.tensor([99.0, 0.0, 0.0])  # type: ignore[union-attr,operator]
    attach(module, images=3)
    module.validation_step((IMAGES[:3], torch.tensor([0, 0, 1])), 0)  # the third class has no image
    module.on_validation_epoch_end()
    assert module.worst_class == "goldfish: 0.00 % of 1 images in the last validation"


def test_a_lost_validation_image_is_noticed(small_run: list[str]) -> None:
    module = build(small_run).eval()
    attach(module, images=5)
    module.validation_step((IMAGES, LABELS), 0)
    with pytest.raises(AssertionError, match="validation saw 4 of 5 images"):
        module.on_validation_epoch_end()


def test_a_validation_loss_that_is_not_finite_stops_the_run(small_run: list[str]) -> None:
    module = build(small_run).eval()
    attach(module, images=4)
    module.validation_step((IMAGES * torch.nan, LABELS), 0)
    with pytest.raises(DivergenceError, match=r"the validation loss is nan after step 7; .* lower optimizer\.lr"):
        module.on_validation_epoch_end()
