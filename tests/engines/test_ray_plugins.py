"""Messages of `rexnet ray` before Ray is needed."""

import importlib.machinery
import threading

import pytest
from conftest import SMALL_RUN

from rexnet.cli import main
from rexnet.data.workers import kill_workers
from rexnet.engines import ray_plugins

COMMAND = ["ray", "--config", "finetune/folder.yaml", *SMALL_RUN, "data.root=x", "--workers", "2"]


def pretend_installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    spec = importlib.machinery.ModuleSpec("x", None)
    monkeypatch.setattr(ray_plugins, "find_spec", lambda name: spec if name in names else None)


def test_what_is_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pretend_installed(monkeypatch)
    assert main(COMMAND) == 2
    assert capsys.readouterr().err == (
        "error: rexnet ray: Ray is not installed; run pip install 'rexnet-lightning[ray]'\n"
    )
    pretend_installed(monkeypatch, "ray", "lightning")
    assert main(COMMAND) == 2
    assert "the package lightning is installed next to pytorch_lightning" in capsys.readouterr().err
    assert main([*COMMAND, "--min-workers", "3"]) == 2
    assert capsys.readouterr().err == "error: --min-workers: 3 is more than --workers 2\n"


def test_loader_processes_are_ended_in_a_thread_too() -> None:
    faults: list[BaseException] = []

    def end() -> None:
        try:
            kill_workers()
        except BaseException as error:
            faults.append(error)

    thread = threading.Thread(target=end)
    thread.start()
    thread.join()
    assert faults == []
