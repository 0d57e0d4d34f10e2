import os
from pathlib import Path

from rexnet.prediction.inputs import find_files


def test_a_folder_is_walked_in_order_of_name(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.png", "a.png", "c/__MACOSX/x.png", "c/.git/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [os.path.relpath(found.path, tmp_path) for found in find_files([str(tmp_path), f"{tmp_path}/**/1.png"])]
    assert found == ["a.png", "b/1.png", "b/2.png", "b/1.png"]
