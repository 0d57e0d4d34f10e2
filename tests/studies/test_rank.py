import pytest
import torch

from rexnet.studies.rank import count_rank


def test_the_rank_of_matrices_made_by_hand() -> None:
    matrices = torch.zeros(3, 3, 4, dtype=torch.float64)
    matrices[1, 0, 0], matrices[1, 1, 1] = 1, 1e-3
    matrices[2] = torch.tensor([[1, 2, 3, 4], [2, 4, 6, 8], [1, 0, 0, 0]])
    assert count_rank(matrices).tolist() == [0, 2, 2]
    assert count_rank(matrices, tolerance=1e-2).tolist() == [0, 1, 2]


@pytest.mark.parametrize("tolerance", [None, 1e-5, 1e-9])
def test_ranks_equal_those_of_numpy(tolerance: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(20, *size, generator=generator, dtype=torch.float64) for size in ((40, 25), (25, 80)))
    singular = torch.logspace(0, -12, 25, dtype=torch.float64)
    matrices = left * singular @ right
    relative = 80 * 1.1920929e-07 if tolerance is None else tolerance
    assert torch.equal(count_rank(matrices, tolerance), torch.linalg.matrix_rank(matrices, rtol=relative))
