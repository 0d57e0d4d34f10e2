import io
import logging

import pytest
from tqdm import tqdm

from rexnet.system.terminal import logging_above_bar, progress_bar
from rexnet.training.callbacks.progress import choose_format

PARTS = ["loss 0.726", "best 90.28", "78 img/s", "wait 2%", "0.8 GB"]
AT_80 = "epoch 3/8 36% 128/352 01:27 left loss 0.726 best 90.28 78 img/s wait 2% 0.8 GB"


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (60, "epoch 3/8 36% 128/352 01:27 left loss 0.726 best 90.28"),
        (80, AT_80),
        (
            120,
            "epoch 3/8  36%|######5           | step 128/352 [00:50, 01:27 left], loss 0.726, best 90.28, 78 img/s, "
            "wait 2%, 0.8 GB",
        ),
    ],
)
def test_what_matters_less_leaves_a_narrow_terminal_first_and_no_number_is_cut(width: int, line: str) -> None:
    state = {"n": 128, "total": 352, "elapsed": 50.0, "ncols": width, "prefix": "epoch 3/8", "ascii": True}
    shown = tqdm.format_meter(**state | {"bar_format": choose_format(state, PARTS)})
    assert shown.rstrip() == line
    assert len(shown) <= width - 2  # Ctrl-C is echoed there


def test_before_the_first_numbers_there_are_step_and_time_alone() -> None:
    state = {"n": 0, "total": 352, "elapsed": 0.0, "ncols": 50, "prefix": "epoch 1/8", "ascii": True}
    assert choose_format(state, []).startswith("{desc} {percentage:.0f}%")
    assert choose_format({**state, "ncols": 80}, []).endswith("left]")


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
