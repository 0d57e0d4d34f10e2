from pathlib import Path

import pytest

from rexnet.system.resources import available_memory, busy_cores


def test_a_container_may_leave_less_memory_than_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("rexnet.system.resources.CGROUP", tmp_path)
    free = available_memory()
    assert free > 0
    contents = {"max": "max\n", "current": "700\n", "stat": "anon 300\ninactive_file 400\n"}
    for name, content in contents.items():
        (tmp_path / f"memory.{name}").write_text(content)
    assert available_memory() > 10_000  # no bound
    (tmp_path / "memory.max").write_text("1000\n")
    assert available_memory() == 700  # 1000 - 700, and 400 of files that can be read again


def test_the_cores_of_this_process_that_others_use_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("rexnet.system.resources.CPU_TIMES", tmp_path / "stat")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {1, 2})
    monkeypatch.setattr("os.sysconf", lambda _: 100)
    assert busy_cores() == 0  # unknown
    start = "cpu 9 9 9 9 9 9 9 9 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\ncpu1 5 0 0 7 7 0 0 0 0 0\ncpu2 0 0 0 0 0 0 0 0 0 0\n"
    (tmp_path / "stat").write_text(start + "intr 1 2 3\n")
    later = (
        start.replace("cpu0 0", "cpu0 900")
        .replace("cpu1 5 0 0 7", "cpu1 45 0 0 77")
        .replace("cpu2 0 0 0 0 0", "cpu2 0 5 5 9 9")
    )
    monkeypatch.setattr("time.sleep", lambda _: (tmp_path / "stat").write_text(later))
    assert busy_cores(0.5) == 1.0  # 40 + 10 ticks in 50
