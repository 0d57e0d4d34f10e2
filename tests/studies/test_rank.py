import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from rexnet.cli import main
from rexnet.studies import rank_sensitivity
from rexnet.studies.random_layers import LAYERS, NONLINEARITIES, compute_outputs, draw_layers
from rexnet.studies.rank import RATIOS, Point, compute_points, count_rank
from rexnet.studies.rank_assumptions import RankAssumptions
from rexnet.studies.rank_figure import PUBLISHED, PUBLISHED_RATIOS
from rexnet.studies.rank_sensitivity import compare

CPU = torch.device("cpu")
SMALL = RankAssumptions(draws=3, widths=(10, 12))


def rank_command(folder: Path, *options: str) -> list[str]:
    return ["study", "rank", "--draws", "2", "--widths", "4", "6", "--out", str(folder), *options]


def test_ranks_of_matrices_made_by_hand() -> None:
    matrices = torch.zeros(3, 3, 4, dtype=torch.float64)
    matrices[1, 0, 0], matrices[1, 1, 1] = 1, 1e-3
    matrices[2] = torch.tensor([[1, 2, 3, 4], [2, 4, 6, 8], [1, 0, 0, 0]])
    assert count_rank(matrices).tolist() == [0, 2, 2]
    assert count_rank(matrices, tolerance=1e-2).tolist() == [0, 1, 2]


@pytest.mark.parametrize("tolerance", [None, 1e-4, 1e-5, 1e-9])
def test_ranks_of_gram_matrices_equal_those_of_the_svd(tolerance: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(30, *size, generator=generator, dtype=torch.float64) for size in ((40, 25), (25, 80)))
    decaying = left * torch.logspace(0, -12, 25, dtype=torch.float64) @ right
    relative = 80 * 1.1920929e-07 if tolerance is None else tolerance
    assert torch.equal(count_rank(decaying, tolerance), torch.linalg.matrix_rank(decaying, rtol=relative))


@pytest.mark.parametrize("layer", LAYERS)
def test_ranks_of_random_layers_equal_those_of_the_svd(layer: str) -> None:
    drawn = draw_layers(layer, 12, 60, [np.random.default_rng(seed) for seed in range(4)], RankAssumptions())
    for nonlinearity in NONLINEARITIES.values():
        outputs = compute_outputs(drawn, nonlinearity, RankAssumptions())
        assert outputs.shape == (4, 60, 120)
        assert torch.equal(count_rank(outputs), torch.linalg.matrix_rank(outputs, rtol=120 * 1.1920929e-07))


def test_layers_equal_those_of_pytorch() -> None:
    assumptions = RankAssumptions(samples=3, spatial=3, norm="none", expansion=2, weights="kaiming")
    x, expand, depthwise, project = (t[0] for t in draw_layers("ib_dw", 2, 6, [np.random.default_rng(0)], assumptions))
    assert x.shape == (2, 18)  # two images of 3x3 pixels
    images = x.reshape(2, 2, 3, 3).transpose(0, 1)
    hidden = torch.nn.functional.conv2d(images, expand[..., None]).relu()
    hidden = torch.nn.functional.conv2d(hidden, depthwise.reshape(4, 1, 3, 3), padding=1, groups=4).relu()
    expected = torch.nn.functional.conv2d(hidden, project[..., None])
    expected[:, :2] += images
    batch = [tensor[None] for tensor in (x, expand, depthwise, project)]
    found = compute_outputs(batch, torch.nn.ReLU(), assumptions)[0].reshape(6, 2, 3, 3).transpose(0, 1)
    assert torch.allclose(found, expected, atol=1e-12)
    x, weight = (tensor[0] for tensor in draw_layers("conv3x3", 2, 6, [np.random.default_rng(0)], assumptions))
    expected = torch.nn.functional.conv2d(x.reshape(2, 2, 3, 3).transpose(0, 1), weight.reshape(6, 2, 3, 3), padding=1)
    found = compute_outputs([x[None], weight[None]], torch.nn.Identity(), assumptions)[0]
    assert torch.allclose(found.reshape(6, 2, 3, 3).transpose(0, 1), expected, atol=1e-12)


def test_batchnorm_is_that_of_pytorch() -> None:
    x, weight = draw_layers("conv1x1", 2, 5, [np.random.default_rng(0)], RankAssumptions())
    expected = torch.nn.BatchNorm1d(5, affine=False).double()((weight[0, :, :, 0] @ x[0]).relu().T).T
    assert torch.allclose(compute_outputs([x, weight], torch.nn.ReLU(), RankAssumptions())[0], expected)


def test_linear_layers_keep_the_rank_of_their_inputs_and_others_raise_it(tmp_path: Path) -> None:
    points = compute_points(tmp_path / "points.csv", RankAssumptions(draws=4, widths=(20, 20)), (0.1, 0.5), 1, CPU)
    means = {(point.layer, point.ratio, point.nonlinearity): point.mean for point in points}
    assert [means["conv1x1", ratio, "Linear"] for ratio in (0.1, 0.5)] == [0.1, 0.5]
    assert means["ib_conv", 0.1, "Linear"] == pytest.approx(0.15)  # BatchNorm does not center the shortcut
    assert means["conv1x1", 0.5, "SiLU"] == 1
    assert means["conv1x1", 0.5, "ReLU"] < 1  # dead units


def test_workers_do_not_change_the_numbers_and_finished_points_are_kept(tmp_path: Path) -> None:
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    points = compute_points(one, SMALL, (0.5, 1.0), 1, CPU)
    assert compute_points(two, SMALL, (0.5, 1.0), 2, CPU) == points
    assert one.read_bytes() == two.read_bytes()
    lines = two.read_text().splitlines(keepends=True)
    changed = [line.replace(",3", ",333") if "Softplus" in line else line for line in lines[:17]]  # two points finished
    two.write_text("".join(changed))
    resumed = compute_points(two, SMALL, (0.5, 1.0), 1, CPU)
    assert resumed[16:] == points[16:]
    assert [point.networks for point in resumed[:16] if point.nonlinearity == "Softplus"] == [333, 333]


def test_the_command_writes_figure_table_and_assumptions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "rank"
    assert main(rank_command(folder)) == 0
    assert "conv1x1      distance from the paper: 0." in capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} >= {"rank.png", "rank.svg", "points.csv", "study.json"}
    assert "inverted bottleneck, depthwise 3x3" in (folder / "rank.svg").read_text()
    assert (folder / "points.csv").read_text().count("\n") == 1 + 4 * len(RATIOS) * 8
    study = json.loads((folder / "study.json").read_text())
    assert study["assumptions"]["widths"] == [4, 6]
    assert study["environment"]["packages"]["torch"]
    assert study["seconds"] > 0
    assert main(rank_command(folder)) == 0  # draws again, computes nothing


def test_the_sensitivity_is_a_table_of_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = rank_sensitivity.CHANGES
    assert {"inputs": "relu", "weights": "pytorch", "norm": "before"} in changes
    assert {"expansion": 6} in changes
    monkeypatch.setattr(rank_sensitivity, "CHANGES", ({}, {"norm": "none"}, {"norm": "after"}, {"spatial": 3}))
    assert main(rank_command(tmp_path / "rank", "--sensitivity", "--norm", "none")) == 0
    printed = re.findall(r"^(\S+(?: \S+)?) +\d\.\d\d\d \(", capsys.readouterr().out, re.MULTILINE)
    assert printed == ["as given", "norm=after", "spatial=3"]  # norm=none changes nothing
    assert (tmp_path / "rank" / "sensitivity.csv").read_text().count("\n") == 4
    assert (tmp_path / "rank" / "points" / "spatial=3.csv").read_text().count("\n") == 1 + 4 * 4 * 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--widths", "9", "8"], "--widths 9 8: the smallest width comes first"),
        (["--tolerance", "1.5"], "--tolerance 1.5: should be between 0 and 1"),
        (["--device", "gpu"], "--device gpu: PyTorch finds no CUDA device; use cpu"),
        (["--draws", "0"], "argument --draws: should be 1 or more, not 0"),
        (["--norm", "never"], "argument --norm: invalid choice: 'never'"),
    ],
)
def test_wrong_options_are_refused(
    options: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    try:
        code: object = main(rank_command(tmp_path / "rank", *options))
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "rank").exists()


def points_of(layer: str, change: float = 0) -> list[Point]:
    """The published values as points, `change` added to those of SiLU."""
    values = {"Linear": PUBLISHED_RATIOS, **PUBLISHED[layer]}
    means = {name: [value + change * (name == "SiLU") for value in each] for name, each in values.items()}
    return [
        Point(layer, ratio, name, mean, mean, mean, 1)
        for name, each in means.items()
        for ratio, mean in zip(PUBLISHED_RATIOS, each, strict=True)
    ]


def test_the_agreement_with_the_published_values() -> None:
    assert PUBLISHED["conv1x1"]["SiLU"] == (0.958, 0.985, 0.99, 1)
    assert PUBLISHED["ib_dw"]["ReLU"] == (0.19, 0.36, 0.68, 1)
    assert compare(points_of("ib_dw"), "ib_dw") == "0.000 (order holds)"
    # lowered by 0.1, SiLU is still above Linear, but below ReLU
    assert compare(points_of("ib_dw", -0.1), "ib_dw") == "0.050 (6 of 9 pairs hold, 3 are reversed)"
