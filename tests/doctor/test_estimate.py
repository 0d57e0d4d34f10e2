import pytest

from rexnet.config import load_config
from rexnet.data.datamodule import ImageData
from rexnet.doctor.estimate import compare_speeds, estimate_time, mean_pixels, measure_loading


@pytest.mark.parametrize(
    ("loader", "model", "cores", "level", "words"),
    [
        (900, 2400, 16, "warning", "use data.num_workers=11 or data.cache=disk (about "),
        (900, 2400, 8, "warning", "that needs 11 cores, and 8 are here, so use data.cache=disk (about "),
        (2500, 2400, 16, "ok", "loader 2,500 images/s with 4 workers, model 2,400"),
    ],
)
def test_the_slower_side_is_named_with_a_remedy(
    loader: float, model: float, cores: int, level: str, words: str,
    small_run: list[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("rexnet.doctor.estimate.count_cores", lambda: cores)
    data = ImageData(load_config("finetune/folder.yaml", [*small_run, "data.num_workers=4"]))
    finding = compare_speeds(data, loader, model)
    assert finding.level == level
    assert words in finding.text
    if level == "warning":  # 24 images of 40 x 48 pixels
        assert finding.text.endswith(" images/s, 138.2 kB)")


def test_a_cache_makes_up_for_a_slow_loader(small_run: list[str]) -> None:
    data = ImageData(load_config("finetune/folder.yaml", [*small_run, "data.cache=disk"]))
    finding = compare_speeds(data, 900, 2400)
    assert (finding.level, "data.cache=disk is faster once it is filled" in finding.text) == ("ok", True)


def test_the_time_covers_training_and_validation_by_both_networks(small_run: list[str]) -> None:
    overrides = ["schedule.epochs=300", "data.num_workers=2"]
    data = ImageData(load_config("finetune/folder.yaml", [*small_run, *overrides]))
    # 300 x 3 steps of 8 images and 300 x 15 images in two networks at a third: 10,200 at 1 / (1 / 40 + 1 / 10) = 8
    assert estimate_time(data, 40, 10).text == "about 21 min for 900 steps at 8 images/s and 300 validations"
    data = ImageData(load_config("finetune/folder.yaml", [*small_run, *overrides, "trainer.max_steps=5", "ema=null"]))
    assert estimate_time(data, 40, 10).text == "about 6 s for 5 steps at 8 images/s and 1 validations"


def test_smaller_training_images_make_the_run_shorter_and_validation_relatively_longer(small_run: list[str]) -> None:
    growing = ["schedule.epochs=300", "data.image_size=64", "augmentation.image_size={start: 32, end: 64}", "ema=null"]
    config = load_config("finetune/folder.yaml", [*small_run, *growing])
    assert mean_pixels(config.training_sizes) == 2560  # of 32 x 32 and 64 x 64
    # 300 x 3 steps of 8 images, and 300 x 15 images, each of which takes a third of 4096 / 2560: 9,600 at 8 images/s
    assert estimate_time(ImageData(config), 40, 10).text == (
        "about 20 min for 900 steps at 8 images/s and 300 validations"
    )


def test_the_loader_is_measured_with_and_without_workers(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rexnet.doctor.estimate.SECONDS", 0.05)
    for workers in (0, 2):
        data = ImageData(load_config("finetune/folder.yaml", [*small_run, f"data.num_workers={workers}"]))
        assert measure_loading(data) > 0
