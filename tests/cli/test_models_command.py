import pytest

from rexnet.cli import main


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


def test_a_redesign_names_its_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "mobilenet_v2_rex"]) == 0
    row = capsys.readouterr().out.splitlines()[2]
    assert row == "mobilenet_v2_rex    3.513   0.297     7.10      -      -  - (redesign of timm/mobilenetv2_100)"


def test_a_network_that_is_not_of_the_family_names_the_family(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "rexnet100"]) == 2
    assert capsys.readouterr().err.startswith("error: no network 'rexnet100' in the list; known: rexnet_090, ")
