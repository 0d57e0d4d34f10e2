"""Runs the commands that a detector shares with a classifier: `evaluate`, `predict` and `export`."""

import argparse
from pathlib import Path


def is_detector(source: str | Path) -> bool:
    """Returns True for a run, checkpoint or exported weights of a detector, and False for what cannot be read."""
    from rexnet.checkpoints.checkpoint import parse_entry, read_state
    from rexnet.config import DetectionConfig
    from rexnet.errors import RexnetError
    from rexnet.runs.checkpoint_files import run_of
    from rexnet.runs.run import Run
    from rexnet.runs.run_folder import is_run

    path = Path(source)
    run = path if path.is_dir() else run_of(path)
    try:
        if run is not None and is_run(run):
            return isinstance(Run(run).any_config, DetectionConfig)
        if path.suffix not in (".ckpt", ".safetensors"):
            return False
        return isinstance(parse_entry(read_state(path).entry, path).config, DetectionConfig)
    except RexnetError:
        return False


def refuse(source: str | Path, options: dict[str, object], kind: str) -> None:
    """Raises ConfigError if one of the options, by name, is given for a source of a kind that does not support it."""
    from rexnet.errors import ConfigError

    for name, value in options.items():
        if value:
            raise ConfigError(f"{name}: is not for a {kind}, which {source} is")


def run_evaluate(options: argparse.Namespace, detectors: list[str]) -> int:
    """Runs `rexnet evaluate`."""
    from rexnet.detection.evaluate_detector import evaluate_and_print
    from rexnet.errors import ConfigError

    if others := [source for source in options.sources if source not in detectors]:
        raise ConfigError(f"{others[0]}: is not a detector, but {detectors[0]} is; evaluate them separately")
    given = {"--tta": options.tta, "--calibrate": options.calibrate, "--image-size": options.image_size}
    given |= {"--split": options.split != "val", "--workers": options.workers}
    given |= {"--coverage-at-error": options.max_risk, "--ood": options.unknown, "--slices": options.slices is not None}
    given |= {"--suite": options.suite, "--weights soup": "soup" in options.weights, "several --data": options.data[1:]}
    refuse(detectors[0], given, "detector")
    evaluate_and_print(detectors, options.weights, options.data[0] if options.data else None, options.json)
    return 0


def run_predict(options: argparse.Namespace) -> int:
    """Runs `rexnet predict`."""
    from rexnet.detection.predict_boxes import predict_boxes

    source = options.source
    refuse(source, {"--top": options.top, "--batch": options.batch, "--workers": options.workers}, "detector")
    score = 0.3 if options.min_score is None else options.min_score
    predict_boxes(source, options.inputs, options.out, options.format, options.draw, score, options.weights)
    return 0


def run_export(options: argparse.Namespace) -> int:
    """Runs `rexnet export`."""
    from rexnet.detection.export_detector import export_detector

    source = options.run_or_checkpoint
    refuse(source, {"--input float": options.input == "float"}, "detector")
    export_detector(source, options.to, options.output, options.data, options.weights, options.images)
    return 0
