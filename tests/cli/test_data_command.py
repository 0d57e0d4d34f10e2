import signal
import threading
from pathlib import Path

import pytest
from PIL import Image

from rexnet.cli import main
from rexnet.data.datasets.index import Index
from rexnet.dataset_tools import check
from rexnet.dataset_tools.check import Examined


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
    assert capsys.readouterr().out.split(maxsplit=1) == ["Picture", f"{output}\n"]


def test_caching_says_where_and_how_much(small_run: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # the second time everything is there
        assert main(["data", "cache", "finetune/folder", *small_run]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line[:13] for line in lines] == ["Cache        ", "Cache        "]
        assert all(line.endswith(" kB") and Path(line[13:].rpartition("  ")[0]).is_file() for line in lines)


@pytest.mark.parametrize("action", ["show", "cache"])
def test_a_missing_data_set_is_one_sentence(action: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = tmp_path / "nowhere"
    assert main(["data", action, "finetune/folder", f"data.root={nowhere}"]) == 2
    assert capsys.readouterr().err.startswith(f"error: data.root: {nowhere} does not exist")


@pytest.mark.parametrize("action", ["check", "pack", "index"])
def test_an_unknown_layout_is_one_sentence(action: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = {"check": [f"{tmp_path}"], "pack": [f"{tmp_path}", f"{tmp_path}/new"], "index": [f"file://{tmp_path}"]}
    assert main(["data", action, *words[action], "--dataset", "birds"]) == 2
    assert capsys.readouterr().err.startswith(
        "error: --dataset birds: should be one of folder, csv, webdataset, cub200"
    )


def test_ctrl_c_ends_a_check_and_its_threads_with_one_word_and_code_130(
    small_run: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pressed = threading.Lock()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores the signal

    def examine(index: Index, position: int) -> Examined:
        if pressed.acquire(blocking=False):  # once: a second one would hit the main thread while it cleans up
            signal.raise_signal(signal.SIGINT)  # Python hands it to the main thread
        return seen(index, position)

    seen, root = check.examine, next(key for key in small_run if key.startswith("data.root=")).partition("=")[2]
    monkeypatch.setattr(check, "examine", examine)
    try:
        assert main(["data", "check", root]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "interrupted\n")
    assert not any("worker" in str(thread.name) or "Pool" in thread.name for thread in threading.enumerate())
    assert not (Path(root) / "rexnet-manifest.csv").exists()
