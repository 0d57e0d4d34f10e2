"""What `pip install .` installs works without the checkout."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_wheel_carries_the_recipes_and_finds_them_from_anywhere(tmp_path: Path) -> None:
    checkout, installed, elsewhere = tmp_path / "checkout", tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("src", "configs"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, checkout / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=checkout, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(installed)
    names = {path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*.yaml")}
    assert {path.relative_to(installed / "rexnet").as_posix() for path in installed.rglob("*.yaml")} == names
    assert {path.name for path in installed.rglob("*") if path.suffix in (".jinja", ".css", ".typed")} == {
        "card.md.jinja",
        "report.html.jinja",
        "report.css",
        "py.typed",
    }
    find = "from rexnet.config.load import find_config, load_config; load_config('quickstart')"
    find += "; print(find_config('finetune/folder'))"
    environment = {"PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", find], cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert done.stdout == f"{installed}/rexnet/configs/finetune/folder.yaml\n", done.stderr
