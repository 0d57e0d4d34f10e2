from pathlib import Path

import pytest
from PIL import Image

from rexnet.cli import main


def test_showing_writes_a_picture(small_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new" / "sheet.png"
    arguments = [
        "data",
        "show",
        "finetune/folder",
        *small_run,
        "--output",
        str(output),
        "--images",
        "2",
        "--views",
        "1",
    ]
    assert main(arguments) == 0
    with Image.open(output) as picture:
        assert picture.format == "PNG"
    assert capsys.readouterr().out.split() == ["Picture", str(output)]


def test_caching_says_where_and_how_much(small_run: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # the second time everything is there
        assert main(["data", "cache", "finetune/folder", *small_run]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == ["Cache", "Cache"]
        assert all(line.endswith("0.000 GB") and Path(line.split()[1]).is_file() for line in lines)
    assert main(["data", "cache", "finetune/folder", *small_run, "data.cache=ram"]) == 2
    assert "only disk can be filled beforehand" in capsys.readouterr().err


def test_speed_prints_a_table_and_a_recommendation(small_run: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "speed", "finetune/folder", *small_run, "--workers", "0", "--seconds", "0.05"]) == 0
    head, row, last = capsys.readouterr().out.splitlines()
    assert head.split() == ["workers", "images/s"]
    assert row.split()[0] == "0"
    assert float(row.split()[1]) > 10
    assert last.startswith("Recommended  data.num_workers=0")


@pytest.mark.parametrize("action", ["show", "cache", "speed"])
def test_a_missing_data_set_is_one_sentence(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", action, "finetune/folder", "data.root=/nowhere"]) == 2
    assert capsys.readouterr().err.startswith("error: data.root: /nowhere does not exist")
