import shutil
from pathlib import Path

import numpy as np

from rexnet.metrics.predictions import Predictions
from rexnet.report.side_by_side import COLUMNS, compare_runs
from rexnet.runs.run import KeptPredictions, Run


def kept(right: int, names: str = "abcdefgh") -> KeptPredictions:
    logits = np.where(np.arange(8) < right, 3.0, -3.0)[:, None] * np.float32([1, -1])
    return KeptPredictions("last", "ema", "val", Predictions(logits, np.zeros(8, int), tuple(names), ("x", "y")), True)


def test_runs_on_the_same_images_are_tested_and_seeds_averaged(trained_run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(trained_run, tmp_path / "other"))
    (other / "config.yaml").write_text((other / "config.yaml").read_text().replace("seed: 0", "seed: 7"))
    runs = [Run(trained_run), Run(other)]
    comparison = compare_runs(runs, [kept(8), kept(2)])
    assert comparison["differences"] == [("seed", [0, 7])]
    assert comparison["tests"][0].startswith("Mean ± standard deviation over 2 seeds: top-1 62.50 ± 53.03 %, loss ")
    assert comparison["tests"][1] == (
        f"Only {runs[0].name} is right on 6 images, only other on 0: McNemar's test gives p = 0.031."  # 2 / 2^6
    )
    assert [row["line"] for row in comparison["rows"]] == ["solid", "solid"]
    assert {len(row["cells"]) for row in comparison["rows"]} == {len(COLUMNS)}
    assert comparison["rows"][0]["cells"][2] == "100.00 [67.6 to 100.0]"
    assert compare_runs(runs, [kept(8), kept(2, "other123")])["tests"][1:] == []
    assert compare_runs(runs, [kept(8), None])["tests"] == []
    assert compare_runs(runs, [kept(8), None])["rows"][1]["cells"][2:6] == ["", "", "", ""]
