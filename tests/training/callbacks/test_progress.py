import io
import logging

import pytest
from tqdm import tqdm

from rexnet.system.terminal import logging_above_bar, progress_bar
from rexnet.training.callbacks.progress import FORMAT


@pytest.mark.parametrize("width", [60, 80, 90])
def test_the_bar_fits_into_the_terminal_and_what_matters_most_stays(width: int) -> None:
    values = "loss 0.726, best 90.28, 78 img/s, wait 2%"
    state = {"n": 128, "total": 352, "elapsed": 50.0, "ncols": width, "prefix": "epoch 3/8", "ascii": True}
    shown = tqdm.format_meter(**state, postfix=values, bar_format=FORMAT)
    assert len(shown) <= width
    assert shown.startswith("epoch 3/8 36%|")
    assert "| 128/352 01:27 left, loss 0.726, best 90" in shown
    assert ("wait 2%" in shown) == (width >= 80)


def test_what_is_logged_stands_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("tqdm.tqdm.monitor_interval", 0)  # else a thread outlives the test
    handler = logging.StreamHandler(terminal)
    logging.getLogger().addHandler(handler)
    try:
        with progress_bar(9, " images", disable=False, file=terminal) as bar, logging_above_bar(bar):
            logging.getLogger("rexnet").warning("step 3 was skipped")
    finally:
        logging.getLogger().removeHandler(handler)
    before, _, after = terminal.getvalue().partition("step 3 was skipped\n")
    assert before.endswith("\r")
    assert "0/9" in after
    with progress_bar(9, " images") as silent:
        assert silent.disable
