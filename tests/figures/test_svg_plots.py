import re

from rexnet.figures.svg_plots import Line, draw_lines


def test_curves_are_reproducible_and_take_their_colors_from_the_page() -> None:
    line = Line("a < b", [(1.0, 2.0), (2.0, 1.5)], series=1)
    svg = draw_lines("Loss", [line, Line("empty", [])])
    assert svg == draw_lines("Loss", [line])
    assert "var(--series-1)" in svg
    assert 'aria-label="Loss. a &lt; b: from 2 to 1.5"' in svg
    assert not re.findall(r"#[0-9a-f]{6}\b", svg)
    assert draw_lines("Nothing", []) == ""
    single = draw_lines("Speed", [Line("Speed", [(1.0, 2.0)])], "images/s")
    assert 'aria-label="Speed (images/s): 2"' in single
    assert "1.02" not in single  # a single epoch has no fractional ticks
