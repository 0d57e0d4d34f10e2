"""The model card of a published network: results, data, recipe, use and limits."""

import re
from importlib.resources import files
from pathlib import Path

import jinja2

from rexnet import __version__
from rexnet.checkpoints.checkpoint import Trained
from rexnet.checkpoints.temperature import describe_temperature
from rexnet.metrics.predictions import Predictions
from rexnet.metrics.statistics import class_scores, most_confused, summarize

HARDEST = 5  # classes on the card


def write_card(
    title: str, epochs: int, trained: Trained, predictions: Predictions, architecture: str | None, path: Path
) -> None:
    """Writes the card as Markdown, with the header that the Hugging Face hub reads; `architecture` is timm's name."""
    template = jinja2.Environment(  # noqa: S701 - Markdown, which `markdown` below escapes
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    template.filters["markdown"] = markdown
    decay = trained.config.ema and trained.config.ema.decay
    text = template.from_string(files("rexnet.publishing").joinpath("card.md.jinja").read_text("utf-8")).render(
        title=title,
        version=__version__,
        config=trained.config,
        view=trained.preprocessing,
        network=_describe_network(trained),
        params=sum(p.numel() for p in trained.model.parameters()) / 1e6,
        weights="raw" if trained.weights == "raw" else "EMA" if decay else "averaged",
        checkpoint=trained.path.name,
        classes=trained.class_names,
        temperature=trained.temperature,
        fitted=trained.temperature and describe_temperature(trained.path, trained.weights),
        rows=_metric_rows(predictions, trained.temperature),
        n=len(predictions.labels),
        epochs=epochs,
        hardest=sorted((s for s in class_scores(predictions) if s.support), key=lambda s: s.recall)[:HARDEST],
        confused=most_confused(predictions, most=3),
        architecture=architecture,
    )
    path.write_text(text, encoding="utf-8")


def markdown(text: str) -> str:
    """Returns text on one line, escaped for Markdown, tables and HTML."""
    line = " ".join(str(text).split()).replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#!~])", r"\\\1", line)


def _describe_network(trained: Trained) -> str:
    model = trained.config.model
    if model.name != "rexnet":
        return model.name
    family = {"v1": "ReXNet", "lite": "ReXNet-lite", "r": "ReXNet-R"}[model.variant]
    return f"{family} {model.width_mult!r}x"


def _metric_rows(predictions: Predictions, temperature: float | None) -> list[tuple[str, str, str]]:
    """Returns name, value and 95 % interval of each metric."""
    plain = summarize(predictions)
    rows = [("top-1", f"{plain.top1:.2f} %", "{:.2f} to {:.2f} %".format(*plain.top1_interval))]
    if predictions.has_top5:
        rows.append(("top-5", f"{plain.top5:.2f} %", "{:.2f} to {:.2f} %".format(*plain.top5_interval)))
    rows += [
        ("mean of the class accuracies", f"{plain.balanced_accuracy:.2f} %", ""),
        ("cross-entropy", f"{plain.loss:.4f}", ""),
        ("calibration error (ECE, 15 bins)", f"{plain.ece:.2f} %", ""),
    ]
    if temperature is not None:
        calibrated = summarize(predictions, temperature)
        label = f"the same at temperature {temperature:.3f} (fitted on some of these images)"
        rows.append((label, f"{calibrated.ece:.2f} %", ""))
    return rows
