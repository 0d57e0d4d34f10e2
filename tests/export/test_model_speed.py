import copy

import pytest

from rexnet import rexnet
from rexnet.cli import main
from rexnet.export import speed


def test_every_form_is_measured_for_both_networks_and_both_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SECONDS", 0.0)
    monkeypatch.setattr(
        speed, "measure_in_turns", lambda steps, device: {name: step() is not None for name, step in steps.items()}
    )
    network = rexnet(0.2, num_classes=3, depth_mult=0.1).eval()
    speeds = speed.measure_network(network, copy.deepcopy(network), image_size=32)
    assert list(speeds) == [
        "eager", "folded", "timm eager", "timm folded", "onnx", "int8", "timm onnx", "timm int8"
    ]  # fmt: skip
    assert all(rates == {1: 1, 32: 32} for rates in speeds.values())


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
