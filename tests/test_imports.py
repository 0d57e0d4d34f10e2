"""Holds the direction of imports: what a room may use, inside the package and of third parties."""

import ast
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import rexnet

SOURCE = Path(rexnet.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

# From the bottom to the top: a file imports only its own room and those listed before it.
ORDER = (
    "errors",
    "class_names",
    "config",
    "preprocessing",
    "system",
    "models",
    "metrics",
    "data/keys",
    "data/sources",
    "data/datasets/index",
    "data/remote",
    "data/datasets",
    "data/augment",
    "data/sampling",
    "data/workers",
    "data/dataset",
    "data/loaders",
    "data/cache",
    "data/datamodule",
    "figures",
    "dataset_tools",
    "runs",
    "checkpoints",
    "export",
    "evaluation",
    "training/losses",
    "training/distillation",
    "training/ema",
    "training/optim",
    "training/schedule",
    "training/nonfinite",
    "training/loss_window",
    "training/compiling",
    "training/training_module",
    "training/classifier",
    "training/signals",
    "training/callbacks",
    "training/checkpoint_io",
    "training/loggers",
    "training/resume",
    "engines/ray_plugins",
    "training/trainer",
    "training/accumulation",
    "training/run_training",
    "training/classification",
    "doctor",
    "prediction",
    "engines",
    "report",
    "detection",
    "publishing",
    "studies",
    "api",
    "cli",
)

# Where a third party may be imported; whatever is not named here may be imported anywhere.
DOORS = {
    "pydantic": ["config"],
    "yaml": ["config"],
    "albumentations": ["data/augment", "detection/box_transforms.py"],
    "cv2": [
        "data/augment",
        "data/cache",
        "detection/box_transforms.py",
        "data/sources/decode.py",
        "data/datasets/digits.py",
    ],
    "PIL": ["api.py", "data/sources/decode.py", "data/augment/transforms.py", "dataset_tools/preview.py", "figures"],
    "jinja2": ["report/report.py", "publishing/card.py"],
    "matplotlib": ["figures", "studies", "training/callbacks/validation_images.py"],
    "obstore": ["data/remote"],
    "optuna": ["studies"],
    "tensorboard": ["runs/run.py"],
    "scipy": ["data/datasets/list_files.py", "metrics"],
    "sklearn": ["data/datasets/digits.py"],
    "timm": [
        "models",
        "class_names.py",
        "evaluation/timm_networks.py",
        "detection/backbones.py",
        "training/trainer.py",
    ],
    "huggingface_hub": ["models/fetching.py"],
    "faster_coco_eval": ["detection"],
    "torchmetrics": ["metrics/classification_metrics.py"],
    "onnx": ["export"],
    "onnxscript": ["export", "detection/export_detector.py"],
    "onnxruntime": ["export"],
    "torchvision": ["training", "data/datasets", "detection", "studies/brief_training.py"],
    "tqdm": ["system/terminal.py"],
    "ray": ["engines"],
    "pytorch_lightning": [
        "api.py",
        "engines",
        "training",
        "data/datamodule.py",
        "detection",
        "doctor/dry_run.py",
        "system/lightning_internals.py",
    ],
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


def modules_imported(path: Path) -> set[str]:
    """The package's own modules that a file imports, as paths without suffix such as `data/keys`."""
    names = {name.removeprefix("rexnet.").replace(".", "/") for name in imported(path) if name.startswith("rexnet.")}
    places = {
        name if (SOURCE / f"{name}.py").exists() or (SOURCE / name).is_dir() else name.rpartition("/")[0]
        for name in names
    }
    return {place for place in places if place and place != place_of(path)}


def place_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix().removesuffix(".py").removesuffix("/__init__")


def level_of(place: str) -> int:
    rooms = [number for number, room in enumerate(ORDER) if place == room or place.startswith(f"{room}/")]
    assert rooms, f"{place} belongs to no room of ORDER"
    return rooms[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_imports_only_its_own_room_and_rooms_below(path: Path) -> None:
    place = place_of(path)
    if place in ("__init__", "data"):
        return
    above = {name for name in modules_imported(path) if level_of(name) > level_of(place)}
    assert above == set()


def test_no_file_imports_itself_through_others() -> None:
    graph = {place_of(path): modules_imported(path) for path in FILES}
    TopologicalSorter(graph).prepare()  # raises CycleError


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
        allowed = {"rexnet", "rexnet.errors", "rexnet.system.launcher", "rexnet.system.child_process"}
        outside = {name for name in top_level if name.partition(".")[0] not in sys.stdlib_module_names}
        assert {name for name in outside if not name.startswith("rexnet.cli")} <= allowed


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_threads_spin_briefly_unless_the_user_says_otherwise(given: dict[str, str], spins: str) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    code = "import os, rexnet; print(os.environ.get('GOMP_SPINCOUNT'))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=kept | given)
    assert done.stdout.strip() == spins


def names_of(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.ImportFrom):
        return {node.module or ""}
    return {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
