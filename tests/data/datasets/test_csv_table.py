from pathlib import Path

import pytest
from conftest import write_images

from rexnet.data.datasets.csv_table import index_csv, table_splits
from rexnet.errors import DataError

ROWS = "path,label,split\nx/000.png,dog,train\nx/001.png,cat,train\nx/002.png,cat,test\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "x", 3, hue=0, size=(4, 4))
    return tmp_path


def table(folder: Path, text: str, name: str = "all.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8", errors="surrogateescape")
    return folder / name


def test_one_table_with_a_split_column(folder: Path) -> None:
    root = table(folder, ROWS)
    train, test = index_csv(root, "train"), index_csv(root, "test")
    assert train.class_names == test.class_names == ("cat", "dog")
    assert (list(train.paths), train.labels.tolist()) == (["x/000.png", "x/001.png"], [1, 0])
    assert train.read(0).startswith(b"\x89PNG")
    assert list(index_csv(root, "val").paths) == list(test.paths) == ["x/002.png"]
    assert table_splits(root) == ("train", "test")


def test_a_table_for_each_split(folder: Path) -> None:
    table(folder, "label,path,more\n10,x/000.png,1\n9,x/001.png,2\n", "train.csv")
    table(folder, "\ufeffpath,label\nx/002.png,10\n", "val.csv")
    assert index_csv(folder, "train").class_names == ("9", "10")
    assert index_csv(folder, "val").labels.tolist() == [1]
    assert table_splits(folder) == ("train", "val")
    assert table_splits(table(folder, "path,label,split\n", "none.csv")) == ("train", "val")
    with pytest.raises(DataError, match="has no images of the split 'test'; it has train, val"):
        index_csv(folder, "test")


@pytest.mark.parametrize("name", ["val", "Valid", "validation", "DEV"])
def test_splits_may_have_any_of_their_names(name: str, folder: Path) -> None:
    table(folder, "path,label\nx/000.png,dog\n", "training.csv")
    table(folder, "path,label\nx/001.png,dog\n", f"{name}.csv")
    table(folder, "path,label\nx/002.png,dog\n", "Test.csv")
    lines = f"x/000.png,dog,Training\nx/001.png,dog,{name}\nx/002.png,dog,test\n"
    for root in (folder, table(folder, f"path,label,split\n{lines}")):
        assert table_splits(root) == ("train", "val", "test")
        assert list(index_csv(root, "val").paths) == ["x/001.png"]


def test_a_table_to_measure_on_needs_no_training_images(folder: Path) -> None:
    root = table(folder, "path,label,split\nx/000.png,dog,val\nx/001.png,cat,val\n")
    assert index_csv(root, "val").class_names == ("cat", "dog")
    with pytest.raises(DataError, match="has no images of the split 'train'; it has val"):
        index_csv(root, "train")


def test_absolute_paths_may_lie_below_the_table(folder: Path) -> None:
    root = table(folder, ROWS.replace("x/000.png", str(folder / "x" / "000.png")))
    assert list(index_csv(root, "train").paths) == ["x/000.png", "x/001.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\nx/000.png,dog\n", "its first line should name the columns path, label, split; found path, label"),
        ("path,label,split\n", "has no images of the split 'val'; it has none"),
        (ROWS.replace(",test", ",train"), "has no images of the split 'val'; it has train"),
        ("\0\x1b[2J\udcff,x\n", r"found \\x00\\x1b\[2j\\xff, x$"),
        ("", "its first line should name the columns path, label, split; found nothing"),
        ("path,label,split\nx/000.png,,train\n", r"line 2: should have path, label, split; found \['x/000\.png', ''"),
        ("path,label,split\nx/000.png,dog\n", "line 2: should have path, label, split"),
        ("path,label,split\nx/000.png,dog,holdout\n", "a split should be train, val or test, found 'holdout'"),
        (ROWS + "x/001.png,cat,Valid\nx/002.png,cat,val\n", "all.csv: has both Valid and val, which are names of one"),
        (ROWS + "./x/000.png,cat,test\n", "all.csv: lists ./x/000.png as 'dog' and as 'cat'; keep one of them"),
        (ROWS.replace("cat,test", "cow,test"), "the label 'cow' of the split 'val' has no training image"),
        (ROWS.replace("x/002.png", "x/009.png"), r"x/009\.png is listed in all\.csv but missing; 1 of 1"),
        (ROWS.replace("x/002.png", "/none/x.png"), r"/none/x\.png is listed in all\.csv but missing"),
        (
            ROWS.replace("x/002.png", "x/caf\udce9.png"),
            r"caf\\xe9\.png is listed .* missing; all\.csv should be in UTF-8$",
        ),
        (
            ROWS.replace("cat,test", "caf\udce9,test"),
            r"line 4: the label caf\\xe9 is not UTF-8 text; save it as 'CSV UTF-8'",
        ),
        (ROWS.replace("cat,test", '"two\nlines",test'), "line 5: the label two.nlines contains control characters"),
        (
            ROWS.replace("x/002.png", "x/a,b.png"),
            "line 4: has 4 values for 3 columns; put those with a comma in quotes",
        ),
    ],
)
def test_a_table_that_is_not_as_it_should_be_is_named(text: str, message: str, folder: Path) -> None:
    with pytest.raises(DataError, match=message):
        index_csv(table(folder, text), "val")


@pytest.mark.parametrize(
    "content",
    [
        b" Path , LABEL, split \r\nx/000.png, caf\xc3\xa9, train\r\nx/001.png, dog, train\r\n , ,\r\n",
        b"\xef\xbb\xbfpath;label;split;;\r\nx/000.png;caf\xc3\xa9;train;;\r\nx/001.png;dog;train;;\r\n;;;;\r\n",
        b"path\tlabel\tsplit\nx/000.png\tcafe\xcc\x81\ttrain\nx\\001.png\tdog\ttrain\n",
        "path\tlabel\tsplit\r\nx/000.png\tcaf\xe9\ttrain\r\nx/001.png\tdog\ttrain\r\n".encode("utf-16"),
        b'path,label,split\n"x/000.png", "caf\xc3\xa9","train"\n\n"x/001.png",dog,train,,\n',
    ],
)
def test_a_table_as_people_type_it_or_excel_saves_it_is_read(content: bytes, folder: Path) -> None:
    (folder / "all.csv").write_bytes(content)
    index = index_csv(folder / "all.csv", "train")
    assert (list(index.paths), index.labels.tolist()) == (["x/000.png", "x/001.png"], [0, 1])
    assert index.class_names == ("caf\xe9", "dog")


@pytest.mark.parametrize("label", ["no", "null", "1e5", "2024-05-01", "12", "~", "true", "=1+1", "字" * 80])
def test_a_label_is_the_text_of_its_cell(label: str, folder: Path) -> None:
    root = table(folder, ROWS.replace("dog", label))
    assert label in index_csv(root, "train").class_names


def test_labels_that_are_the_same_number_keep_one_order(folder: Path) -> None:
    root = table(folder, ROWS.replace("dog", "01").replace("cat", "1"))
    assert index_csv(root, "train").class_names == ("01", "1")


def test_a_table_may_lie_outside_of_the_images(folder: Path) -> None:
    rows = ROWS.replace("x/000.png", str(folder / "x" / "000.png")).replace("x/00", "../x/00")
    (folder / "lists").mkdir()
    root = table(folder, rows.replace(f"{folder}/../x", f"{folder}/x"), "lists/all.csv")
    train = index_csv(root, "train")
    assert (train.root, list(train.paths)) == (folder / "x", ["000.png", "001.png"])
    assert list(index_csv(root, "test").paths) == ["002.png"]
    assert train.read(0).startswith(b"\x89PNG")


def test_a_name_is_found_in_composed_and_in_decomposed_letters(folder: Path) -> None:
    (folder / "x" / "000.png").rename(folder / "x" / "caf\xe9.png")
    root = table(folder, ROWS.replace("000", "cafe\u0301"))
    assert list(index_csv(root, "train").paths) == ["x/caf\xe9.png", "x/001.png"]


def test_a_folder_without_tables_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"has no train\.csv; data\.root may also be one CSV file"):
        index_csv(folder, "train")
