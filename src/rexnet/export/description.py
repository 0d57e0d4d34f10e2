"""What an exported file says of itself: all that is needed to use it without this program."""

import hashlib
import json

from rexnet import __version__
from rexnet.checkpoints.checkpoint import Trained, build_description
from rexnet.models.weights import ENTRY


def describe_export(trained: Trained) -> dict[str, str]:
    """Text entries for a file's header; `rexnet` holds what this program reads back."""
    config = trained.config
    model, data, measuring = config.model, config.data, config.eval_transform
    entry = build_description(config, trained.class_names, trained.metrics) | {"weights": trained.weights}
    calibrated = {} if trained.temperature is None else {"temperature": trained.temperature}
    network = (
        {"family": f"rexnet-{model.variant}", "width_mult": f"{model.width_mult:g}"}
        if model.name == "rexnet"
        else {"family": model.name}
    )
    return {
        **network,
        "num_classes": str(len(trained.class_names)),
        "class_names": json.dumps(trained.class_names),
        "image_size": str(data.image_size),
        "mean": json.dumps(data.mean),
        "std": json.dumps(data.std),
        "interpolation": measuring.interpolation,
        "crop_pct": f"{measuring.crop_pct:g}",
        "weights": trained.weights,
        **{key: str(value) for key, value in calibrated.items()},
        "config_sha256": hashlib.sha256(entry["config"].encode()).hexdigest(),
        "written_by": f"rexnet-lightning {__version__}",
        ENTRY: json.dumps(entry | calibrated),
    }
