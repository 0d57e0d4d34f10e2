"""Which classes of one classifier are those of another, by their names."""

import functools
import re
from collections.abc import Iterable, Sequence

IMAGENET_CLASSES = 1000
WORDNET_NUMBER = re.compile(r"n\d{8}")


def match_classes(
    names: Sequence[str], source_names: Sequence[str] | None, source_classes: int
) -> list[tuple[int, int]]:
    """Pairs (row of `names`, row of the source) of classes with the same name, apart from case and punctuation.

    A source of 1,000 classes that tells no names is taken for ImageNet-1k, whose classes go by their WordNet number
    (`n01440764`) and by each of their English names (`tench`, `Tinca tinca`).

    Args:
        names: the wanted classes.
        source_names: the classes of the source, if it tells them.
        source_classes: how many classes the source has.
    """
    rows: dict[str, int]
    if source_names is not None:
        rows = _unambiguous((_plain(name), row) for row, name in enumerate(source_names))
    elif source_classes == IMAGENET_CLASSES:
        rows = _imagenet_rows()
    else:
        return []
    return [(row, rows[_plain(name)]) for row, name in enumerate(names) if _plain(name) in rows]


@functools.cache
def _imagenet_rows() -> dict[str, int]:
    """Row of each ImageNet-1k class by its names, without those that two classes share (crane, maillot)."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    named = [(info.index_to_label_name(row), row) for row in range(IMAGENET_CLASSES)]
    for row in range(IMAGENET_CLASSES):
        named += [(name, row) for name in info.index_to_description(row, detailed=False).split(",")]
    return _unambiguous((_plain(name), row) for name, row in named)


def imagenet_class_names() -> tuple[str, ...]:
    """The first English name of each ImageNet-1k class, with its WordNet number where two classes share it."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    names = [name.partition(",")[0].strip() for name in info.label_descriptions()]
    labels = zip(names, info.label_names(), strict=True)
    return tuple(f"{name} ({wnid})" if names.count(name) > 1 else name for name, wnid in labels)


def readable_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names of classes for people: an English name in place of each WordNet number of ImageNet-1k."""
    if not any(WORDNET_NUMBER.fullmatch(name) for name in names):
        return tuple(names)
    from timm.data import ImageNetInfo

    english = dict(zip(ImageNetInfo("imagenet-1k").label_names(), imagenet_class_names(), strict=True))
    return tuple(english.get(name, name) for name in names)


def _unambiguous(named: Iterable[tuple[str, int]]) -> dict[str, int]:
    rows: dict[str, set[int]] = {}
    for name, row in named:
        rows.setdefault(name, set()).add(row)
    return {name: next(iter(found)) for name, found in rows.items() if len(found) == 1 and name}


def _plain(name: str) -> str:
    """A name without case and punctuation, so that `Great_White-Shark` is `great white shark`."""
    return re.sub(r"[\W_]+", " ", name).strip().lower()
