import errno
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rexnet.cli import main

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a refused command prints: exit code 2, nothing on stdout, no traceback."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err.removeprefix("error: ").strip()


@pytest.mark.parametrize(
    "arguments",
    [["train.py", "--help"], ["evaluate.py", "--help"], ["train.py", "--config", "quickstart", "optimizer.lrr=1"]],
)
def test_help_and_config_errors_import_no_torch(arguments: list[str]) -> None:
    done = run("-X", "importtime", *arguments)
    assert done.returncode == (2 if "--config" in arguments else 0)
    assert not re.search(r"\|\s+(torch|cv2|numpy|pytorch_lightning)\s*$", done.stderr, re.MULTILINE)


@pytest.mark.parametrize(("network", "mean"), [("rexnet", 0.485), ("timm/tf_efficientnet_lite0", 0.5)])
def test_the_printed_config_runs_again_as_it_is(
    network: str, mean: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"model.name={network}"
    assert main(["train", "--config", "rexnet_1.0x", "--print-config", "data.root=/data", name]) == 0
    text = capsys.readouterr().out
    assert f"mean:\n  - {mean}\n" in text  # a network of timm brings its own
    (tmp_path / "again.yaml").write_text(text)
    assert main(["train", "--config", str(tmp_path / "again.yaml"), "--print-config"]) == 0
    assert capsys.readouterr().out == text


def test_training_evaluating_and_resuming_through_the_doors(
    small_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--config", "finetune/folder.yaml", *small_run]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert main(["evaluate", str(folder), "--weights", "raw", "--json", str(tmp_path / "r.json")]) == 0
    assert (tmp_path / "r.json").is_file()
    before = (folder / "metrics.csv").read_text()
    assert main(["train", "--resume", str(folder)]) == 0  # all epochs are done already
    assert (folder / "metrics.csv").read_text() == before
    capsys.readouterr()
    message = refused(capsys, "train", "--resume", str(folder), "optimizer.lr=1")
    assert "resumes with its own recipe, but optimizer.lr goes from 0.05 to 1.0; to allow it, add --allow-" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--config", "nowhere.yaml"], r"nowhere\.yaml: no such configuration file"),
        (
            ["train", "--config", "quickstart", "optimizer.lrr=1"],
            r"optimizer\.lrr: no such key; nearest: optimizer\.lr",
        ),
        (["train", "--config", "quickstart", "augmentation.flip=7"], r"augmentation\.flip: .*found 7"),
        (["train", "--config", "rexnet_1.0x", "data.root={tmp}/nowhere"], r"data\.root: .*/nowhere does not exist"),
        (
            ["train", "--config", "quickstart", "--seeds", "2", "trainer.run_name=x"],
            r"^--seeds: .* leave out trainer\.run_",
        ),
        (["train", "--config", "quickstart", "trainer.run_name=a/b"], r"trainer\.run_name: .*, found 'a/b'"),
        (["train"], r"give IMAGES or --config CONFIG for a new run, or --resume RUN"),
        (
            ["train", "--resume", "{tmp}/nowhere"],
            r"can be resumed: .*/nowhere/config\.yaml is missing$",
        ),
        (["evaluate", "{tmp}/nowhere"], r"/nowhere: no such run folder or checkpoint"),
        (["evaluate", str(ROOT / "README.md")], r"README\.md: cannot be read as a checkpoint"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = [argument.format(tmp=tmp_path) for argument in arguments]
    arguments = [*arguments, f"trainer.runs_dir={tmp_path / 'runs'}"] if "--config" in arguments else arguments
    assert re.search(message, refused(capsys, *arguments))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named_even_from_a_loader_process(
    workers: int, small_run: list[str], image_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    root = shutil.copytree(image_root, tmp_path / "images")
    (root / "train" / "bee" / "003.png").write_text("not an image")
    arguments = [
        "train",
        "--config",
        "finetune/folder.yaml",
        *small_run,
        f"data.root={root}",
        f"data.num_workers={workers}",
    ]
    message = refused(capsys, *arguments)
    assert message.endswith("003.png: is not an image that can be decoded (12 bytes)")
    assert message.startswith("/")


def test_the_board_says_when_its_port_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            ["make", "-o", ".venv/ready", "board", f"BOARD_PORT={port}", f"BIN={Path(sys.executable).parent}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert f"error: port {port} is in use; choose another: make board BOARD_PORT=6007" in done.stderr


def test_overrides_may_stand_behind_options_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", "rexnet_1.0x", "data.root=/a", "--print-config", "data.image_size=64"]) == 0
    printed = capsys.readouterr().out
    assert "  root: /a\n" in printed
    assert "  image_size: 64\n" in printed


@pytest.mark.parametrize("arguments", [["train", "--print-config", "--nonsense=1"], ["runs", "a", "data.root=b"]])
def test_arguments_that_no_command_knows_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert f"unrecognized arguments: {arguments[-1]}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("redirection", "code", "error"),
    [
        (">&- 2>&- <&-", 0, ""),
        (">/dev/full", 2, "error: standard output: No space left on device\n"),
        ("| true", 0, ""),
        ("data.rot=1 2>&1 | true", 2, ""),
    ],
)
def test_closed_and_full_streams_end_in_no_traceback(redirection: str, code: int, error: str) -> None:
    command = f"set -o pipefail; {sys.executable} train.py --config quickstart --print-config data.root=é {redirection}"
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}  # as by default
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, env=buffered
    )
    assert (done.returncode, done.stderr) == (code, error)


def test_what_a_terminal_cannot_show_is_escaped() -> None:
    command = [sys.executable, "train.py", "--config", "quickstart", "--print-config", "data.root=é/字"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, env=environment, timeout=60, check=False)
    assert done.returncode == 0
    assert b"root: \\xe9/\\u5b57" in done.stdout


def test_a_package_that_is_not_installed_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert refused(capsys, "study", "rank").startswith("a package is missing: import of torch halted")


def test_a_folder_whose_name_is_no_text_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["data", "check", "caf\udce9"])
    assert capsys.readouterr().err.endswith("should be UTF-8 text; rename the folder, or make a link to it\n")


def test_a_folder_that_may_not_be_looked_into_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **_: bool) -> None:  # stands in for the file system, which refuses nothing to root
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    message = refused(capsys, "data", "check", str(tmp_path))
    assert message == f"{tmp_path}: Permission denied"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_seen_enough_is_no_error(unbuffered: str) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [
        sys.executable,
        "-c",
        "from rexnet.cli import main; raise SystemExit(main(['train', '--config', 'quickstart', '--print-config']))",
    ]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
