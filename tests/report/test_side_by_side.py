import shutil
from pathlib import Path

import numpy as np

from rexnet.metrics.predictions import Predictions
from rexnet.report.side_by_side import COLUMNS, compare_runs
from rexnet.runs.run import KeptPredictions, Run


def test_runs_are_compared_by_numbers_and_recipes(trained_run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(trained_run, tmp_path / "other"))
    (other / "config.yaml").write_text((other / "config.yaml").read_text().replace("seed: 0", "seed: 7"))
    runs = [Run(trained_run), Run(other)]
    logits = np.tile(np.float32([3, -3]), (8, 1))
    right = Predictions(logits, np.zeros(8, int), tuple("abcdefgh"), ("x", "y"))
    comparison = compare_runs(runs, [KeptPredictions("last", "ema", "val", right, True), None])
    assert comparison["differences"] == [("seed", [0, 7])]
    assert [row["line"] for row in comparison["rows"]] == ["solid", "solid"]
    assert {len(row["cells"]) for row in comparison["rows"]} == {len(COLUMNS)}
    assert comparison["rows"][0]["cells"][2] == "100.00 [67.6 to 100.0]"
    assert comparison["rows"][1]["cells"][2:6] == ["", "", "", ""]
