import functools
from collections.abc import Mapping, Sequence

import pytest

from rexnet import rexnet
from rexnet.cli import main
from rexnet.export import speed
from rexnet.export.turns import Maker


def run_here(makers: Mapping[str, Maker], batches: Sequence[int], seconds: float) -> dict[str, dict[int, float]]:
    """Runs each form once in this process and says so by the rate 1."""
    rates: dict[str, dict[int, float]] = {}
    for name, make in makers.items():
        run = make()
        for batch in batches:
            run(batch)
            rates.setdefault(name, {})[batch] = 1.0
    return rates


def test_every_form_is_measured_for_both_networks_and_both_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    settings: list[str] = []
    monkeypatch.setattr(speed, "measure_in_turns", run_here)
    monkeypatch.setattr(speed, "keep_freed_memory", lambda: settings.append("kept"))
    build = functools.partial(rexnet, 0.2, num_classes=3, depth_mult=0.1)
    speeds = speed.measure_network(build, build, image_size=32)
    assert list(speeds) == [
        "eager", "folded", "onnx", "int8", "timm eager", "timm folded", "timm onnx", "timm int8"
    ]  # fmt: skip
    assert all(rates == {1: 1, 32: 1} for rates in speeds.values())
    assert len(settings) == 2  # not for timm's, which is measured as timm runs it


def test_the_table_shows_cost_accuracy_and_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "rexnet_100", "rexnetr_100"]) == 0
    first, second = capsys.readouterr().out.splitlines()[2:4]
    assert first.split() == [
        "rexnet_100",
        "4.797",
        "0.398",
        "7.44",
        "77.9",
        "93.9",
        "huggingface.co/timm/rexnet_100.nav_in1k",
    ]
    assert second.split()[0] == "rexnetr_100"
    assert second.split()[-3:] == ["-", "-", "-"]


def test_a_network_that_is_not_of_the_family_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "rexnet100"]) == 2
    assert capsys.readouterr().err == "error: no network 'rexnet100' in the family; nearest: rexnet_100\n"
