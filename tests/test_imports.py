"""Holds the direction of imports: what a room may use, inside the package and of third parties."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rexnet

SOURCE = Path(rexnet.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

# A room may import the rooms named behind it, and itself.
ROOMS = {
    "errors": set(),
    "durable": {"errors"},
    "untrusted": {"errors"},
    "terminal": {"launch"},
    "cores": set(),
    "class_names": set(),
    "counts": set(),
    "config": {"errors"},
    "launch": {"errors"},
    "hardware": {"config", "errors", "launch"},
    "models": {"class_names", "config", "durable", "errors", "files", "terminal", "untrusted"},
    "timm_models": {"models"},
    "data": {"class_names", "config", "cores", "errors", "files", "hardware", "terminal"},
    "runs": {"config", "errors", "files", "launch"},
    "checkpoint": {"config", "durable", "errors", "models", "runs", "temperature", "untrusted"},
    "files": {"errors"},
    "temperature": {"durable", "errors", "files"},
    "export": {"checkpoint", "config", "data", "errors", "files", "hardware", "models", "runs"},
    "evaluation": {
        "checkpoint",
        "class_names",
        "config",
        "counts",
        "data",
        "errors",
        "export",
        "files",
        "hardware",
        "launch",
        "models",
        "runs",
        "temperature",
        "terminal",
    },
    "training": {
        "checkpoint",
        "config",
        "counts",
        "data",
        "durable",
        "errors",
        "files",
        "hardware",
        "launch",
        "models",
        "runs",
        "terminal",
        "untrusted",
    },
    "doctor": {"config", "cores", "data", "errors", "hardware", "models", "training"},
    "prediction": {"checkpoint", "class_names", "cores", "data", "errors", "evaluation", "files", "terminal"},
    "report": {
        "checkpoint",
        "class_names",
        "config",
        "data",
        "errors",
        "evaluation",
        "files",
        "models",
        "runs",
        "temperature",
    },
    "publishing": {
        "checkpoint",
        "config",
        "data",
        "errors",
        "evaluation",
        "export",
        "files",
        "models",
        "report",
        "runs",
    },
    "cli": {
        "config",
        "data",
        "doctor",
        "errors",
        "evaluation",
        "export",
        "files",
        "launch",
        "models",
        "prediction",
        "publishing",
        "report",
        "runs",
        "training",
    },
}

# Where a third party may be imported; whatever is not named here may be imported anywhere.
DOORS = {
    "pydantic": ["config"],
    "yaml": ["config"],
    "albumentations": ["data/transforms.py", "data/randaugment.py"],
    "cv2": [f"data/{name}.py" for name in ("transforms", "randaugment", "operations", "cache", "decode", "digits")],
    "PIL": ["data/decode.py", "data/sheet.py", "data/transforms.py", "report/pictures.py"],
    "jinja2": ["report/report.py", "publishing/card.py"],
    "matplotlib": [
        "report/plots.py",
        "report/pictures.py",
        "training/validation_pictures.py",
        "evaluation/heatmaps.py",
    ],
    "tensorboard": ["report/record.py"],
    "scipy": ["data/datasets/listing.py", "evaluation/statistics.py", "evaluation/calibration.py"],
    "sklearn": ["data/digits.py"],
    "timm": [
        "models/factory.py",
        "class_names.py",
        "timm_models.py",
        "evaluation/timm_networks.py",
    ],
    "huggingface_hub": ["models/fetching.py"],
    "torchmetrics": ["training/metrics.py"],
    "captum": ["evaluation/heatmaps.py"],
    "onnx": ["export"],
    "onnxscript": ["export"],
    "onnxruntime": ["export"],
    "torchvision": ["training/pictures.py", "data/download.py", "data/datasets/flowers102.py"],
    "tqdm": ["terminal.py"],
    "pytorch_lightning": ["training", "data/datamodule.py", "doctor/rehearsal.py"],
}


def imported(path: Path) -> set[str]:
    """Every module that a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_of(name: str) -> str:
    return name.split(".")[1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_room_imports_only_what_lies_below_it(path: Path) -> None:
    if path == SOURCE / "__init__.py":
        return
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    inside = {room_of(name) for name in imported(path) if name.startswith("rexnet.")} - {"__version__"}
    assert inside <= ROOMS[room] | {room}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_third_parties_come_in_through_their_doors(path: Path) -> None:
    place = path.relative_to(SOURCE).as_posix()
    for package in {name.split(".")[0] for name in imported(path)} & DOORS.keys():
        assert any(place == door or place.startswith(f"{door}/") for door in DOORS[package]), f"{package} in {place}"


def test_importing_the_package_imports_no_heavy_library() -> None:
    code = "import sys, rexnet; sys.exit(bool(sys.modules.keys() & {'torch', 'numpy', 'pydantic'}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    for path in (SOURCE / "cli").glob("*.py"):
        top_level = {name for node in ast.parse(path.read_text()).body for name in names_of(node)}
        allowed = {"rexnet", "rexnet.errors", "rexnet.cli", "rexnet.cli.arguments", "rexnet.launch"}
        assert {name for name in top_level if name.partition(".")[0] not in sys.stdlib_module_names} <= allowed


def names_of(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.ImportFrom):
        return {node.module or ""}
    return {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
