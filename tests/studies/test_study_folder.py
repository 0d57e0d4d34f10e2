import json
import subprocess
import sys
from pathlib import Path

import pytest

from rexnet.errors import ConfigError
from rexnet.studies.study_folder import STUDY_FILE, locked_study, read_table, write_table

HOLDER = (
    "import sys; from pathlib import Path; from rexnet.studies.study_folder import locked_study\n"
    "with locked_study(Path(sys.argv[1]), {'study': 'x'}): print('begun', flush=True); sys.stdin.read()"
)


def test_a_study_resumes_with_the_same_assumptions_only(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "study"
    with pytest.raises(RuntimeError), locked_study(folder, {"study": "x", "widths": (1, 2)}):
        raise RuntimeError("killed")
    content = json.loads((folder / STUDY_FILE).read_text())
    assert content["assumptions"] == {"study": "x", "widths": [1, 2]}
    assert "seconds" not in content
    with locked_study(folder, {"study": "x", "widths": (1, 2)}):
        pass
    assert json.loads((folder / STUDY_FILE).read_text())["seconds"] > 0
    message = r"study: has a study with widths=\[1, 2\]; choose another folder or the same values"
    with pytest.raises(ConfigError, match=message), locked_study(folder, {"study": "x", "widths": (1, 3)}):
        pass
    (folder / STUDY_FILE).write_text("{")
    with pytest.raises(ConfigError, match=r"json: cannot be read; choose"), locked_study(folder, {"study": "x"}):
        pass


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "begun\n"
    message = f"is in use by process {holder.pid} on .*; wait for it or stop it"
    with pytest.raises(ConfigError, match=message), locked_study(tmp_path, {"study": "x"}):
        pass
    holder.kill()
    holder.communicate()
    with locked_study(tmp_path, {"study": "x"}):
        pass


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigError, match="file/study: cannot be written to"),
        locked_study(tmp_path / "file/study", {}),
    ):
        pass


def test_tables_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    assert read_table(path, lambda a, b: (a, float(b))) == []
    write_table(path, ("a", "b"), [("x, y", 0.1), ("z", 2)])
    assert read_table(path, lambda a, b: (a, float(b))) == [("x, y", 0.1), ("z", 2.0)]
    for damage in ("a,b\nx", "a,b\nx,y", "a,b\nx,\0"):
        path.write_text(damage)
        with pytest.raises(ConfigError, match=r"table\.csv: cannot be read; remove it to compute it again"):
            read_table(path, lambda a, b: (a, float(b)))
