"""What `rexnet data check` found, in numbers and in words."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rexnet.data.datasets.index import Index, Split
from rexnet.data.sources.image_files import printable, size_text

PIXELS = 16  # bytes kept of the hash of an image's pixels
MOST_SHOWN = 20
SMALL_SIDE = 32
LONG_RATIO = 5
UNEVEN_CLASSES = 10  # times the images of another class


@dataclass(frozen=True, eq=False)
class Facts:
    """All images of a data set, split after split; 70 bytes an image."""

    indexes: dict[Split, Index]
    sizes: np.ndarray  # int64 (n,), bytes
    shapes: np.ndarray  # int32 (n, 2), height and width, 0 where broken
    sha256: np.ndarray  # uint8 (n, 32), 0 where unreadable
    pixels: np.ndarray  # uint8 (n, 16), 0 where broken
    faults: dict[int, str]

    @classmethod
    def empty(cls, indexes: dict[Split, Index]) -> "Facts":
        """Room for what will be found."""
        n = sum(map(len, indexes.values()))
        shapes, sha256 = np.zeros((n, 2), np.int32), np.zeros((n, 32), np.uint8)
        return cls(indexes, np.zeros(n, np.int64), shapes, sha256, np.zeros((n, PIXELS), np.uint8), {})

    def locate(self, number: int) -> tuple[Split, int]:
        """The split and the position in it of the image `number` of all."""
        for split, index in self.indexes.items():
            if number < len(index):
                return split, number
            number -= len(index)
        raise IndexError(number)

    def name(self, number: int) -> str:
        """Where an image lies, printable."""
        split, position = self.locate(number)
        return printable(self.indexes[split].name(position))

    def duplicates(self) -> list[list[int]]:
        """Groups of images with the same pixels, however they are stored."""
        keys = self.pixels.view(np.uint64)  # (n, 2)
        order = np.lexsort(keys.T)
        order = order[keys[order].any(axis=1)]  # broken images are no copies of each other
        same = (keys[order][1:] == keys[order][:-1]).all(axis=1)
        groups: list[list[int]] = []
        for at in np.flatnonzero(same).tolist():
            if at and same[at - 1]:
                groups[-1].append(int(order[at + 1]))
            else:
                groups.append([int(order[at]), int(order[at + 1])])
        return sorted(sorted(group) for group in groups)

    def leaks(self) -> list[list[int]]:
        """Groups of equal images that lie in more than one split."""
        return [group for group in self.duplicates() if self.splits_of(group) > 1]

    def splits_of(self, group: Sequence[int]) -> int:
        """In how many splits the images of a group lie."""
        return len({self.locate(number)[0] for number in group})

    def class_of(self, number: int) -> str:
        """The class of an image."""
        split, position = self.locate(number)
        index = self.indexes[split]
        return index.class_names[int(index.labels[position])]


def describe_facts(facts: Facts, changed: Sequence[str]) -> str:
    """The report."""
    copies = facts.duplicates()
    leaks = [group for group in copies if facts.splits_of(group) > 1]
    inside = [group for group in copies if facts.splits_of(group) < len(group)]
    torn = [group for group in copies if len({facts.class_of(number) for number in group}) > 1]
    broken = [facts.faults[number] for number in sorted(facts.faults)]
    parts = [
        *(_describe_split(facts, split) for split in facts.indexes),
        _listed("broken", broken),
        _listed("changed since the manifest was written", [printable(path) for path in changed]),
        _listed("the same image in several splits", [_group(facts, group) for group in leaks]),
        _listed("the same image twice in a split", [_group(facts, group) for group in inside]),
        _listed("the same image in several classes", [_group(facts, group) for group in torn]),
        _listed(f"a side below {SMALL_SIDE} pixels", _odd(facts, lambda low, high: low < SMALL_SIDE)),
        _listed(f"sides of more than {LONG_RATIO} to 1", _odd(facts, lambda low, high: high > LONG_RATIO * low)),
    ]
    return "\n".join(parts)


def _describe_split(facts: Facts, split: Split) -> str:
    index = facts.indexes[split]
    start = sum(len(other) for name, other in itertools.takewhile(lambda item: item[0] != split, facts.indexes.items()))
    shapes = facts.shapes[start : start + len(index)]
    shapes = shapes[shapes.any(axis=1)]
    counts = index.class_counts()
    least, most = int(counts.argmin()), int(counts.argmax())
    total = facts.sizes[start : start + len(index)].sum()
    lines = [
        f"{split:<6} {len(index):,} images of {len(index.class_names):,} classes, {size_text(total)}, {index.root}",
        f"       {counts[least]:,} a class"
        if counts[least] == counts[most]
        else f"       {counts[least]:,} ({index.class_names[least]}) to {counts[most]:,} ({index.class_names[most]})",
    ]
    if counts[most] > UNEVEN_CLASSES * counts[least]:
        lines[-1] += f": the classes are uneven, {counts[most] / max(1, counts[least]):.0f} to 1"
    if len(shapes):
        (h0, w0), (h, w), (h1, w1) = shapes.min(axis=0), np.median(shapes, axis=0), shapes.max(axis=0)
        lines.append(f"       width {w0} to {w1} (median {w:.0f}), height {h0} to {h1} (median {h:.0f})")
    return "\n".join(lines)


def _listed(title: str, items: Sequence[str]) -> str:
    shown = [f"       {item}" for item in items[:MOST_SHOWN]]
    if len(items) > MOST_SHOWN:
        shown.append(f"       and {len(items) - MOST_SHOWN:,} more")
    return "\n".join([f"{len(items):>6,} {title}", *shown])


def _group(facts: Facts, group: Sequence[int]) -> str:
    stored = {facts.sha256[number].tobytes() for number in group}
    return " = ".join(map(facts.name, group)) + (" (stored differently)" if len(stored) > 1 else "")


def _odd(facts: Facts, is_odd: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> list[str]:
    low, high = facts.shapes.min(axis=1), facts.shapes.max(axis=1)
    numbers = np.flatnonzero(is_odd(low, high) & (high > 0)).tolist()
    return [f"{facts.name(number)}: {facts.shapes[number, 1]} x {facts.shapes[number, 0]}" for number in numbers]
