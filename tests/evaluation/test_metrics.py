import math

import pytest
import torch

from rexnet.evaluation.metrics import ClassificationMetrics


def test_top1_top5_and_loss_are_those_counted_by_hand() -> None:
    metrics = ClassificationMetrics()
    logits = torch.tensor([[6.0, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]])
    metrics.update(logits[:3], torch.tensor([0, 4, 5]))
    metrics.update(logits[3:], torch.tensor([5]))
    values = metrics.compute()
    normaliser = math.log(sum(math.exp(value) for value in range(1, 7)))
    assert values["top1"].item() == 50.0
    assert values["top5"].item() == 75.0
    assert values["loss"].item() == pytest.approx(normaliser - (6 + 2 + 6 + 1) / 4, rel=1e-6)
    assert values["n"].item() == 4


def test_top5_is_complete_with_five_classes_or_fewer() -> None:
    metrics = ClassificationMetrics()
    metrics.update(torch.randn(7, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0]))
    assert metrics.compute()["top5"].item() == 100.0


def test_how_images_are_batched_changes_no_count() -> None:
    logits, labels = torch.randn(20, 10), torch.randint(0, 10, (20,))
    results = []
    for size in (1, 3, 20):
        metrics = ClassificationMetrics()
        for start in range(0, 20, size):
            metrics.update(logits[start : start + size], labels[start : start + size])
        results.append({name: value.item() for name, value in metrics.compute().items()})
    assert results[0] == pytest.approx(results[1])
    assert results[1] == pytest.approx(results[2])


def test_what_two_processes_counted_adds_up() -> None:
    parts = [ClassificationMetrics() for _ in range(2)]
    parts[0].update(torch.eye(6)[:5], torch.arange(5))
    parts[1].update(torch.eye(6)[5:], torch.tensor([0]))
    total = ClassificationMetrics()
    total.update(torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64))
    for name in ("correct1", "correct5", "loss", "n"):
        setattr(total, name, sum(getattr(part, name) for part in parts))
    assert total.compute()["top1"].item() == pytest.approx(100 * 5 / 6)
