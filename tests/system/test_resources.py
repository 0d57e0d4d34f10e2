from pathlib import Path

import pytest

from rexnet.system.resources import available_memory


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
