"""The metadata of exported files, sufficient to use them without this program."""

import hashlib
import json

from rexnet import __version__
from rexnet.checkpoints.checkpoint import Trained, build_description
from rexnet.models.weights import ENTRY


def describe_export(trained: Trained) -> dict[str, str]:
    """Returns text entries for the header of a file; this program reads the entry `rexnet` back."""
    model, view = trained.config.model, trained.preprocessing
    entry = build_description(trained.config, view.class_names, trained.metrics) | {"weights": trained.weights}
    calibrated = {} if trained.temperature is None else {"temperature": trained.temperature}
    network = (
        {"family": f"rexnet-{model.variant}", "width_mult": f"{model.width_mult:g}"}
        if model.name == "rexnet"
        else {"family": model.name}
    )
    return {
        **network,
        "num_classes": str(len(view.class_names)),
        "class_names": json.dumps(view.class_names),
        "image_size": str(view.image_size),
        "mean": json.dumps(view.mean),
        "std": json.dumps(view.std),
        "interpolation": view.interpolation,
        "crop_pct": f"{view.crop_pct:g}",
        "weights": trained.weights,
        **{key: str(value) for key, value in calibrated.items()},
        "config_sha256": hashlib.sha256(entry["config"].encode()).hexdigest(),
        "written_by": f"rexnet-lightning {__version__}",
        ENTRY: json.dumps(entry | calibrated),
    }
