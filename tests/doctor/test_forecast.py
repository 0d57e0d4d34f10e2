import pytest

from rexnet.config import Config, load_config
from rexnet.doctor.forecast import combine_speeds, compare_speeds, duration


@pytest.mark.parametrize(
    ("loader", "model", "workers", "cores", "level", "words"),
    [
        (900, 2400, 4, 16, "warning", "use data.num_workers=11 or data.cache"),
        (900, 2400, 4, 8, "warning", "8 cores do not deliver more, so use data.cache"),
        (2500, 2400, 4, 16, "ok", "loader 2,500 img/s with 4 processes, model 2,400"),
    ],
)
def test_the_slower_side_is_named_with_a_remedy(
    loader: float, model: float, workers: int, cores: int, level: str, words: str, small_config: Config
) -> None:
    finding = compare_speeds(small_config, loader, model, workers, cores)
    assert finding.level == level
    assert words in finding.text


def test_a_cache_makes_up_for_a_slow_loader(small_run: list[str]) -> None:
    config = load_config("finetune/folder.yaml", [*small_run, "data.cache=ram"])
    finding = compare_speeds(config, 900, 2400, 4, 16)
    assert (finding.level, "once it is filled, images load faster" in finding.text) == ("ok", True)


def test_sides_that_share_cores_add_up() -> None:
    assert combine_speeds(900, 2400, workers=4, threads=0, cores=16) == 900
    assert combine_speeds(400, 100, workers=2, threads=2, cores=2) == pytest.approx(80)  # 1 / (1 / 400 + 1 / 100)
    assert combine_speeds(400, 100, workers=1, threads=1, cores=2) == 100  # each has a core of its own


def test_times_are_for_people() -> None:
    seconds = (90, 150, 3600 * 1.5, 3600 * 20, 3600 * 100)
    assert [duration(some) for some in seconds] == ["90 s", "2 min", "90 min", "20 h", "4.2 days"]
