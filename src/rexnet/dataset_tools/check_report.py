"""The findings of `rexnet data check`, and the report about them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rexnet.data.datasets.index import Index, Split
from rexnet.data.sources.image_files import describe_left_out, printable, size_text

IMAGE = np.dtype([("size", "i8"), ("shape", "i4", 2), ("sha256", "u1", 32), ("pixels", "u8", 2)])
"""Bytes of the file, height and width, digest of the file, and 16 bytes of a digest of shape and pixels. Values that
could not be determined are 0."""
MAX_SHOWN = 20
SMALL_SIDE = 32
LONG_RATIO = 5
UNEVEN_CLASSES = 10  # times the images of another class


class Findings(NamedTuple):
    """All images of a data set, split after split; 64 bytes for each image."""

    indexes: dict[Split, Index]
    images: np.ndarray  # (n,) of type `IMAGE`
    faults: dict[int, str]  # reasons why an image cannot be used, by its number among all images

    def locate(self, number: int) -> tuple[Split, int]:
        """Returns split and position of an image by its number among all images."""
        for split, index in self.indexes.items():
            if number < len(index):
                return split, number
            number -= len(index)
        raise IndexError(number)

    def name(self, number: int) -> str:
        """Returns the full path of an image, printable."""
        split, position = self.locate(number)
        return printable(self.indexes[split].name(position))

    def class_of(self, number: int) -> str:
        """Returns the class of an image."""
        split, position = self.locate(number)
        index = self.indexes[split]
        return index.class_names[int(index.labels[position])]

    def duplicates(self) -> list[list[int]]:
        """Returns groups of images with the same pixels, in whatever format they are stored."""
        keys = self.images["pixels"]
        order = np.lexsort(keys.T)
        order = order[keys[order].any(axis=1)]  # broken images are not duplicates
        is_new = np.r_[True, (keys[order][1:] != keys[order][:-1]).any(axis=1)]
        starts = np.flatnonzero(is_new)
        lengths = np.diff(np.r_[starts, len(order)])
        repeated = lengths > 1
        pairs = zip(starts[repeated].tolist(), lengths[repeated].tolist(), strict=True)
        return sorted(sorted(order[start : start + length].tolist()) for start, length in pairs)

    def leaks(self) -> list[list[int]]:
        """Returns groups of equal images that are in more than one split."""
        return [group for group in self.duplicates() if self.splits_of(group) > 1]

    def splits_of(self, group: Sequence[int]) -> int:
        """Returns the number of splits with images of a group."""
        return len({self.locate(number)[0] for number in group})


def describe_findings(findings: Findings, changed: Sequence[str] | None) -> str:
    """Describes the splits, then lists faults and oddities; `changed` is None without an earlier manifest."""
    groups = findings.duplicates()
    leaks = [group for group in groups if findings.splits_of(group) > 1]
    twice = [group for group in groups if findings.splits_of(group) < len(group)]
    torn = [group for group in groups if len({findings.class_of(number) for number in group}) > 1]
    ends = np.cumsum([len(index) for index in findings.indexes.values()])[:-1]
    pairs = zip(findings.indexes.items(), np.split(findings.images, ends), strict=True)
    parts = [_describe_split(split, index, images) for (split, index), images in pairs]
    parts.append(list_items("broken", list(findings.faults.values())))
    if changed is not None:
        parts.append(list_items("changed since the manifest was written", list(map(printable, changed))))
    parts += [
        list_items("the same image in several splits", [_group(findings, group) for group in leaks]),
        list_items("the same image twice in a split", [_group(findings, group) for group in twice]),
        list_items("the same image in several classes", [_group(findings, group) for group in torn]),
        list_items(f"a side below {SMALL_SIDE} pixels", _unusual(findings, lambda low, high: low < SMALL_SIDE)),
        list_items(
            f"sides of more than {LONG_RATIO} to 1", _unusual(findings, lambda low, high: high > LONG_RATIO * low)
        ),
    ]
    return "\n".join(parts)


def _describe_split(split: Split, index: Index, images: np.ndarray) -> str:
    counts, names = index.class_counts(), index.class_names
    least, most = int(counts.argmin()), int(counts.argmax())
    total = size_text(images["size"].sum())
    lines = [f"{split:<6} {len(index):,} images of {len(names):,} classes, {total}, {index.root}"]
    is_even = counts[least] == counts[most]
    classes = "a class" if is_even else f"({names[least]}) to {counts[most]:,} ({names[most]})"
    lines.append(f"       {counts[least]:,} {classes}")
    if counts[most] > UNEVEN_CLASSES * counts[least]:
        lines[-1] += f": the classes are uneven, {counts[most] / max(1, counts[least]):.0f} to 1"
    lines += [f"       left out {text}" for text in [describe_left_out(index.left_out)] if text]
    shapes = images["shape"][images["shape"].any(axis=1)]
    if len(shapes):
        (h0, w0), (h, w), (h1, w1) = shapes.min(axis=0), np.median(shapes, axis=0), shapes.max(axis=0)
        lines.append(f"       width {w0} to {w1} (median {w:.0f}), height {h0} to {h1} (median {h:.0f})")
    return "\n".join(lines)


def list_items(title: str, items: Sequence[str]) -> str:
    """Returns a line with the number of items, then the first of them."""
    shown = [f"       {item}" for item in items[:MAX_SHOWN]]
    rest = [f"       and {len(items) - MAX_SHOWN:,} more"] if len(items) > MAX_SHOWN else []
    return "\n".join([f"{len(items):>6,} {title}", *shown, *rest])


def _group(findings: Findings, group: Sequence[int]) -> str:
    files = {findings.images["sha256"][number].tobytes() for number in group}
    return " = ".join(map(findings.name, group)) + (" (different files)" if len(files) > 1 else "")


def _unusual(findings: Findings, is_unusual: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> list[str]:
    shapes = findings.images["shape"]
    low, high = shapes.min(axis=1), shapes.max(axis=1)
    numbers = np.flatnonzero(is_unusual(low, high) & (high > 0)).tolist()
    return [f"{findings.name(number)}: {shapes[number, 1]} x {shapes[number, 0]}" for number in numbers]
