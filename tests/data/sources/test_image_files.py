import pytest

from rexnet.data.sources.image_files import size_text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0.0 kB"), (999_000, "999.0 kB"), (3_610_000, "3.6 MB"), (1_500_000_000, "1.5 GB"), (2e12, "2,000.0 GB")],
)
def test_sizes_are_printed_in_the_unit_that_fits(size: float, text: str) -> None:
    assert size_text(size) == text
