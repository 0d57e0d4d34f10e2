"""What runs that differ in nothing but their seed reach on average."""

from collections.abc import Sequence

from rexnet.metrics.statistics import mean_and_deviation, summarise
from rexnet.report.measured import Measured
from rexnet.report.recipe import compare_recipes
from rexnet.report.record import RunRecord


def describe_seeds(records: Sequence[RunRecord], firsts: Sequence[Measured | None]) -> str:
    """Mean and standard deviation in a sentence; empty where more than the seed differs, or a run is not measured."""
    measured = [one for one in firsts if one is not None]
    alike = {(one.weights, one.images) for one in measured}
    if len(measured) < len(records) or len(alike) > 1 or [key for key, _ in compare_recipes(list(records))] != ["seed"]:
        return ""
    summaries = [summarise(one.predictions) for one in measured]
    spreads = [
        f"{label} {mean:.{digits}f} ± {deviation:.{digits}f}{unit}"
        for label, name, digits, unit in (("top-1", "top1", 2, " %"), ("loss", "loss", 4, ""))
        for mean, deviation in [mean_and_deviation([getattr(summary, name) for summary in summaries])]
    ]
    return f"Mean ± standard deviation over {len(measured)} seeds: {', '.join(spreads)}."
