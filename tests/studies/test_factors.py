"""Tests of studies/factors.py."""

from pathlib import Path

import pytest
from conftest import write_images

from rexnet.cli import main
from rexnet.errors import ConfigError
from rexnet.studies import factors
from rexnet.studies.candidates import count_plan
from rexnet.studies.factors import FACTORS, plan_factor


def test_the_inferred_networks_cost_nearly_what_the_paper_says() -> None:
    plans = [plan_factor(factor, 103e6) for factor in FACTORS]
    blocks = [
        [(block.in_channels, block.expanded_channels, block.out_channels) for block in plan.blocks] for plan in plans
    ]
    assert [plan.stem_channels for plan in plans] == [16, 26, 88, 88]
    assert blocks[0] == [(16, 320, 73), (73, 1460, 331)]
    assert blocks[2] == [(88, 528, 110), (110, 660, 137)]
    assert [round(count_plan(plan).macs / 1e6, 1) for plan in plans] == [
        98.6,
        100.1,
        102.1,
        102.1,
    ]  # paper: 103, 99, 105, 105


def test_a_cost_that_no_network_has_is_one_sentence() -> None:
    message = "--macs 1,000: the nearest network of the baseline has 4,670,976 multiply-adds"
    with pytest.raises(ConfigError, match=message):
        plan_factor(FACTORS[0], 1000)


def test_a_study_resumes_where_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val"):
        for hue, name in enumerate(("ant", "bee")):
            write_images(tmp_path / "images" / split / name, 8, hue, (32, 32))
    seeds = []
    whole = factors.train_briefly

    def train(*arguments: object) -> tuple[float, float]:
        if len(seeds) == 2:
            raise KeyboardInterrupt
        seeds.append(arguments[-1])
        return whole(*arguments)

    monkeypatch.setattr(factors, "train_briefly", train)
    command = ["study", "factors", "--data", str(tmp_path / "images"), "--out", str(tmp_path / "out")]
    command += ["--macs", "5000000", "--seeds", "1", "--epochs", "1", "--batch-size", "8"]
    assert main(command) == 130
    kept = (tmp_path / "out" / "factors.csv").read_text()
    monkeypatch.setattr(factors, "train_briefly", whole)
    assert main(command) == 0
    lines = (tmp_path / "out" / "factors.csv").read_text().splitlines()
    assert "\n".join(lines).startswith(kept.strip())
    assert [line.split(",")[:2] for line in lines[1:]] == [[factor.name, "0"] for factor in FACTORS]
    assert "48.0" in capsys.readouterr().out
    assert main([*command, "--lr", "0.2"]) == 2
    assert "lr=0.1" in capsys.readouterr().err
