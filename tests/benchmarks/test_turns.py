import functools
import os
import sys
import time
from pathlib import Path

import pytest

from rexnet.errors import ConfigError, ProcessError

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import turns


def busy(batch: int, seconds_per_image: float) -> None:
    end = time.perf_counter() + batch * seconds_per_image
    while time.perf_counter() < end:
        pass


def prepare_busy(seconds_per_image: float) -> turns.Run:
    return functools.partial(busy, seconds_per_image=seconds_per_image)


def prepare_note(path: Path) -> turns.Run:
    """Notes the process and the batch of each computation."""

    def run(batch: int) -> None:
        with path.open("a") as file:
            file.write(f"{os.getpid()} {batch}\n")

    return run


def prepare_failure() -> turns.Run:
    raise ConfigError("the network: is not there")


def prepare_death() -> turns.Run:
    return lambda batch: os._exit(7)


def test_the_rates_are_images_a_second_for_each_batch_size() -> None:
    makers = {"slow": functools.partial(prepare_busy, 0.01), "fast": functools.partial(prepare_busy, 0.001)}
    speeds = turns.measure_in_turns(makers, [1, 4], 0.02)
    assert list(speeds) == ["slow", "fast"]
    rates = {name: speed.images_per_s for name, speed in speeds.items()}
    for batch in (1, 4):
        assert 0 < rates["slow"][batch] <= 100  # at most: this machine may be busy with something else
        assert rates["slow"][batch] < rates["fast"][batch] <= 1000


def test_each_program_has_a_process_of_its_own_and_they_take_turns(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    turns.measure_in_turns({name: functools.partial(prepare_note, notes) for name in "ab"}, [3], 0.0)
    processes = [line.split()[0] for line in notes.read_text().splitlines()]
    first, second = processes[:2]
    assert len({first, second, str(os.getpid())}) == 3
    assert processes == [first, second] * 4  # once to warm up, and three rounds


def prepare_meeting(folder: Path, name: str) -> turns.Run:
    """Waits in the first batch until every other program has begun its own."""
    (folder / name).touch()

    def run(batch: int) -> None:
        deadline = time.monotonic() + 30
        while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(list(folder.iterdir())) == 2

    return run


def test_compiled_programs_start_at_the_same_time(tmp_path: Path) -> None:
    makers = {name: functools.partial(prepare_meeting, tmp_path, name) for name in "ab"}
    speeds = turns.measure_in_turns(makers, [1], 0.0, compiled="ab")
    assert all(0 < speed.start_s < 30 for speed in speeds.values())


def test_what_goes_wrong_in_a_process_is_said_here() -> None:
    with pytest.raises(ConfigError, match=r"^the network: is not there$"):
        turns.measure_in_turns({"broken": prepare_failure}, [1], 0.0)
    with pytest.raises(ProcessError, match=r"^mortal: the process that measures it ended with code 7$"):
        turns.measure_in_turns({"mortal": prepare_death}, [1], 0.0)
