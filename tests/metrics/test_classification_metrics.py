import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed
from torch.multiprocessing.spawn import start_processes

from rexnet.data.sampling import EvalBatchSampler
from rexnet.metrics.classification_metrics import ClassificationMetrics


def test_top1_top5_and_loss_are_those_counted_by_hand() -> None:
    metrics = ClassificationMetrics(6)
    logits = torch.tensor([[6.0, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]])
    metrics.update(logits[:3], torch.tensor([0, 4, 5]))
    metrics.update(logits[3:], torch.tensor([5]))
    values = metrics.compute()
    normaliser = math.log(sum(math.exp(value) for value in range(1, 7)))
    assert values["top1"].item() == 50.0
    assert values["top5"].item() == 75.0
    assert values["loss"].item() == pytest.approx(normaliser - (6 + 2 + 6 + 1) / 4, rel=1e-6)
    assert values["class_images"].tolist() == [1, 0, 0, 0, 1, 2]
    assert values["class_correct"].tolist() == [1, 0, 0, 0, 0, 1]
    assert values["mean_class_top1"].item() == 50.0  # of 1, 0 and 1/2


def test_a_rare_class_counts_as_much_as_a_frequent_one_in_the_mean_over_classes() -> None:
    metrics = ClassificationMetrics(3)
    metrics.update(torch.eye(3)[[0, 0, 0, 0]], torch.tensor([0, 0, 0, 1]))  # class 2 has no image
    values = metrics.compute()
    assert (values["top1"].item(), values["mean_class_top1"].item()) == (75.0, 50.0)


def test_top5_is_complete_with_five_classes_or_fewer() -> None:
    metrics = ClassificationMetrics(3)
    metrics.update(torch.randn(7, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0]))
    assert metrics.compute()["top5"].item() == 100.0


def test_how_images_are_batched_changes_no_count() -> None:
    logits, labels = torch.randn(20, 10), torch.randint(0, 10, (20,))
    results = []
    for size in (1, 3, 20):
        metrics = ClassificationMetrics(10)
        for start in range(0, 20, size):
            metrics.update(logits[start : start + size], labels[start : start + size])
        results.append({name: value.tolist() for name, value in metrics.compute().items()})
    for name, value in results[0].items():
        assert value == pytest.approx(results[1][name])
        assert value == pytest.approx(results[2][name])


def test_what_two_processes_counted_adds_up() -> None:
    parts = [ClassificationMetrics(6) for _ in range(2)]
    parts[0].update(torch.eye(6)[:5], torch.arange(5))
    parts[1].update(torch.eye(6)[5:], torch.tensor([0]))
    total = ClassificationMetrics(6)
    total.update(torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64))
    for name in ("class_images", "class_correct", "correct5", "loss"):
        setattr(total, name, sum(getattr(part, name) for part in parts))
    assert total.compute()["top1"].item() == pytest.approx(100 * 5 / 6)


SIZES = range(1, 17)


def logits_and_labels(images: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(images)
    return torch.randn(images, 7, generator=generator), torch.randint(0, 7, (images,), generator=generator)


def measure_share(rank: int, world_size: int, folder: str) -> None:
    """One process of an evaluation: its share of the images, in batches of 3."""
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=world_size)
    results = []
    for size in SIZES:
        logits, labels = logits_and_labels(size)
        metrics = ClassificationMetrics(7)
        for batch in EvalBatchSampler(size, 3, rank, world_size):
            places = torch.tensor([key.position for key in batch], dtype=torch.int64)
            metrics.update(logits[places], labels[places])
        results.append([value.tolist() for value in metrics.compute().values()])
    torch.save(results, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_any_number_of_processes_measures_the_same_even_with_fewer_images(world_size: int, tmp_path: Path) -> None:
    start_processes(measure_share, (world_size, str(tmp_path)), world_size, start_method="fork")
    for rank in range(world_size):
        for size, (top1, top5, loss, mean_class_top1, images, correct) in zip(
            SIZES, torch.load(tmp_path / f"{rank}.pt", weights_only=True), strict=True
        ):
            logits, labels = (values.double().numpy() for values in logits_and_labels(size))
            order = (-logits).argsort(1)
            right = order[:, 0] == labels
            assert images == [(labels == number).sum() for number in range(7)]
            assert correct == [(right & (labels == number)).sum() for number in range(7)]
            recalls = [right[labels == number].mean() for number in range(7) if images[number]]
            assert mean_class_top1 == pytest.approx(100 * np.mean(recalls), rel=1e-6)
            assert top1 == pytest.approx(100 * (order[:, 0] == labels).sum() / size, rel=1e-6)
            assert top5 == pytest.approx(100 * (order[:, :5] == labels[:, None]).sum() / size, rel=1e-6)
            shares = -logits[range(size), labels.astype(int)] + np.log(np.exp(logits).sum(1))
            assert loss == pytest.approx(shares.mean(), rel=1e-6)
