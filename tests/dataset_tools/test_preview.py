from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rexnet.cli import main
from rexnet.config import load_config
from rexnet.data.datasets.class_folders import index_folders
from rexnet.dataset_tools.preview import _caption, choose_images, draw_preview
from rexnet.figures.image_grid import GAP, LEGEND, LINE, MARGIN, TILE


def tile(sheet: Image.Image, top: int, column: int) -> np.ndarray:
    left = MARGIN + LEGEND + column * (TILE + GAP)
    return np.asarray(sheet)[top : top + TILE, left : left + TILE].astype(int)


def test_a_sheet_has_originals_views_and_the_evaluation_view(small_run: list[str]) -> None:
    config = load_config("finetune/folder.yaml", [*small_run, "augmentation.erase_prob=0"])
    sheet = draw_preview(config, columns=3, views=2)
    first = MARGIN + 30
    assert sheet.width == 2 * MARGIN + LEGEND + 3 * (TILE + GAP) - GAP
    tops = [first, first + TILE + GAP + LINE]
    tops += [tops[-1] + TILE + GAP, tops[-1] + 2 * (TILE + GAP)]
    assert sheet.height == tops[-1] + TILE + MARGIN
    tiles = [tile(sheet, top, 0) for top in tops]
    for number, picture in enumerate(tiles):
        assert picture.std() > 1  # something is drawn
        assert all(np.abs(picture - other).mean() > 1 for other in tiles[:number])
    colours = [tile(sheet, tops[-1], column).mean((0, 1)).argmax() for column in range(3)]
    assert sorted(colours) == [0, 1, 2]  # one image of each class


def test_erasing_and_mixing_have_rows_of_their_own_where_they_are_on(small_run: list[str]) -> None:
    def height(*overrides: str) -> int:
        config = load_config("finetune/folder.yaml", [*small_run, "augmentation.erase_prob=0", *overrides])
        return draw_preview(config, columns=2, views=1).height

    bare = height()
    assert height("augmentation.erase_prob=0.5") == bare + TILE + GAP
    assert height("augmentation.mixup=1") == bare + TILE + GAP + 2 * LINE
    assert height("augmentation.mixup=0.2", "augmentation.cutmix=1") == bare + 2 * (TILE + GAP + 2 * LINE)


def test_the_labels_of_a_mixed_image_are_its_caption() -> None:
    import torch

    assert _caption(torch.tensor([0.25, 0.0, 0.75]), ["cat", "dog", "eel"]) == "75% eel\n25% cat"
    assert _caption(torch.tensor([0.25, 0.0, 0.75]), ["cat", "dog", "cat"]) == "100% cat"


def test_images_come_from_different_classes_first(image_root: Path) -> None:
    index = index_folders(image_root, "train")
    chosen = choose_images(index, 7)
    assert len(set(chosen)) == 7
    assert {int(index.labels[position]) for position in chosen[:3]} == {0, 1, 2}
    assert choose_images(index, 100) != list(range(24))
    assert sorted(choose_images(index, 100)) == list(range(24))


def test_a_preview_that_cannot_be_written_is_one_sentence(
    small_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    output = str(tmp_path / "file" / "grid.png")
    assert main(["data", "show", "finetune/folder", *small_run, "--output", output, "--images", "2"]) == 2
    assert f"error: {output}: cannot be written: " in capsys.readouterr().err
