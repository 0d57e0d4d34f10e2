"""Tests of studies/singular_values.py."""

import pytest
import torch

from rexnet.studies.singular_values import GramMatrix, effective_rank, rank_ratio


def singular_values(*batches: torch.Tensor) -> torch.Tensor:
    gram = GramMatrix()
    for batch in batches:
        gram.add(batch)
    return gram.singular_values()


def test_singular_values_of_a_matrix_known_by_hand() -> None:
    features = torch.tensor([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    values = singular_values(features)
    assert values.tolist() == [4.0, 3.0, 0.0]
    assert rank_ratio(values, 3, 0.0) == pytest.approx(2 / 3)
    assert rank_ratio(values, 3, 0.8) == pytest.approx(1 / 3)


def test_batches_give_the_values_of_a_singular_value_decomposition() -> None:
    features = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    values = singular_values(*features.split(16))
    assert torch.allclose(values, torch.linalg.svdvals(features.double()), rtol=1e-10)


def test_fewer_samples_than_channels_have_as_many_values_as_samples() -> None:
    features = torch.randn(5, 20, generator=torch.Generator().manual_seed(0))
    values = singular_values(features)
    assert torch.allclose(values, torch.linalg.svdvals(features.double()), rtol=1e-10)
    assert rank_ratio(values, 20, 0.0) == 0.25


def test_the_effective_rank_counts_equal_values() -> None:
    assert effective_rank(torch.tensor([2.0, 2.0, 2.0, 0.0])) == pytest.approx(3)
    assert effective_rank(torch.tensor([5.0, 0.0])) == pytest.approx(1)
    assert effective_rank(torch.tensor([3.0, 1.0])) == pytest.approx(1.7548, abs=1e-4)
