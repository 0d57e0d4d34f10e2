"""Evaluates ImageNet networks with `rexnet evaluate` and with timm's validate.py, and compares the wall time.

    python benchmarks/evaluate_vs_timm.py IMAGES --weights lite0.safetensors --timm-script /path/to/timm/validate.py

IMAGES holds files named as in ImageNet (n01440764_tench.JPEG); each is used four times. Both sides get the same
network (tf_efficientnet_lite0 with the given weights, then rexnet_100 with random ones), images, batch size and number
of loader processes. Wall time is that of the whole command, including start-up; the sides alternate for `--rounds`
rounds, and the median counts.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NETWORKS = ("tf_efficientnet_lite0", "rexnet_100")


def main() -> None:
    """Prints one line per side and network, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="of tf_efficientnet_lite0; see lite0_weights.py")
    parser.add_argument("--timm-script", type=Path, required=True)
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, class_map = link_images(options.images, Path(folder), options.copies)
        for network in NETWORKS:
            weights = options.weights if network == NETWORKS[0] else write_random(network, Path(folder))
            ours, theirs = [], []
            for _ in range(options.rounds):
                ours.append(run_ours(network, weights, root, options.workers))
                theirs.append(run_timm(network, weights, root, options, class_map))
            ratio = statistics.median(ours) / statistics.median(theirs)
            print(f"{network}: wall time, ours / timm: {ratio:.2f}\n", flush=True)


def link_images(images: Path, folder: Path, copies: int) -> tuple[Path, Path]:
    """Creates class folders with links to the images, and the file from which timm reads the 1,000 classes."""
    from timm.data import ImageNetInfo

    for image in sorted(images.glob("n*_*")):
        target = folder / "images" / image.name.partition("_")[0]
        target.mkdir(parents=True, exist_ok=True)
        for copy in range(copies):
            (target / f"{copy}_{image.name}").symlink_to(image.resolve())
    class_map = folder / "classes.txt"
    class_map.write_text("\n".join(ImageNetInfo("imagenet-1k").label_names()))
    return folder / "images", class_map


def write_random(network: str, folder: Path) -> Path:
    """Writes the weights of an untrained network."""
    import timm
    from safetensors.torch import save_file

    path = folder / f"{network}.safetensors"
    save_file(timm.create_model(network).state_dict(), path)
    return path


def run_ours(network: str, weights: Path, root: Path, workers: int) -> float:
    """Returns the seconds of our command."""
    words = [f"timm/{network}={weights}", "--data", str(root), "--workers", str(workers)]
    seconds, output = timed([sys.executable, "evaluate.py", *words])
    report("ours", output, r"top-1 ([\d.]+)", r"n +(\d+)", seconds)
    return seconds


def run_timm(network: str, weights: Path, root: Path, options: argparse.Namespace, class_map: Path) -> float:
    """Returns the seconds of timm's script."""
    words = f"--model {network} --device cpu --channels-last --batch-size 64 --log-freq 1000".split()
    words += ["--data-dir", str(root), "--checkpoint", str(weights), "--class-map", str(class_map)]
    words += ["--workers", str(options.workers)]
    seconds, output = timed([sys.executable, str(options.timm_script), *words])
    result = json.loads(output.partition("--result")[2])
    print(f"timm  top-1 {result['top1']:.2f} %  {seconds:.1f} s", flush=True)
    return seconds


def timed(command: list[str]) -> tuple[float, str]:
    """Returns wall time and output of a command."""
    start = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return seconds, done.stdout


def report(name: str, output: str, top1: str, n: str, seconds: float) -> None:
    """Prints accuracy, time and number of images."""
    found, number = re.search(top1, output), re.search(n, output)
    assert found is not None
    assert number is not None
    print(f"{name}  top-1 {found[1]} %  {seconds:.1f} s  n {number[1]}", flush=True)


if __name__ == "__main__":
    main()
