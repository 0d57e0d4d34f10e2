"""Reads class names as text, matches classes by name, and knows the names of the ImageNet classes."""

import functools
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

IMAGENET_CLASSES = 1000
WORDNET_NUMBER = re.compile(r"n\d{8}")
NAME_CHARACTERS = "LMNS"  # Unicode categories: letters, marks, numbers, symbols


def class_name(text: str) -> str:
    """Returns a class name from the name of a folder or the cell of a table, in Unicode's composed form (NFC).

    Raises:
        ValueError: it is not one line of UTF-8 text, which checkpoints, tables and pictures need.
    """
    try:
        name = unicodedata.normalize("NFC", text.encode(errors="surrogateescape").decode())
    except UnicodeError:
        raise ValueError("is not UTF-8 text") from None
    if any(unicodedata.category(char) == "Cc" for char in name):
        raise ValueError("contains control characters")
    return name


def match_classes(
    names: Sequence[str], source_names: Sequence[str] | None, source_classes: int
) -> list[tuple[int, int]]:
    """Returns pairs (row of `names`, row of the source) of classes with equal names.

    Names are equal if they are the same text, or else the same apart from case and punctuation.

    A source of 1,000 unnamed classes is assumed to be ImageNet-1k, whose classes are known by their WordNet number
    (`n01440764`) and by each of their English names (`tench`, `Tinca tinca`).
    """
    if source_names is not None:
        rows = _unambiguous((_plain(name), row) for row, name in enumerate(source_names))
        same = {name: row for row, name in enumerate(source_names)}
    elif source_classes == IMAGENET_CLASSES:
        rows, same = _imagenet_rows(), {}
    else:
        return []
    found = [(row, same.get(name, rows.get(_plain(name)))) for row, name in enumerate(names)]
    return [(row, source) for row, source in found if source is not None]


@functools.cache
def _imagenet_rows() -> dict[str, int]:
    """Maps each name of an ImageNet-1k class to its row, except names that two classes share (crane, maillot)."""
    synonyms = imagenet_synonyms().items()
    named = ((name, row) for row, (wnid, names) in enumerate(synonyms) for name in (wnid, *names.split(",")))
    return _unambiguous((_plain(name), row) for name, row in named)


def imagenet_synonyms() -> dict[str, str]:
    """Maps the WordNet number of each ImageNet-1k class to its English names, separated by commas, in class order."""
    from timm.data import ImageNetInfo  # imported here, because it takes seconds

    info = ImageNetInfo("imagenet-1k")
    return dict(zip(info.label_names(), info.label_descriptions(), strict=True))


def imagenet_class_names() -> tuple[str, ...]:
    """Returns the first English name of each ImageNet-1k class, with its WordNet number if two classes share it."""
    synonyms = imagenet_synonyms()
    return first_synonyms(tuple(synonyms), synonyms)


def first_synonyms(wnids: Sequence[str], synonyms: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the first synonym of each class (else its number), with its WordNet number if two of them share it."""
    names = [synonyms.get(wnid, wnid).partition(",")[0].strip() for wnid in wnids]
    return tuple(f"{name} ({wnid})" if names.count(name) > 1 else name for name, wnid in zip(names, wnids, strict=True))


def readable_names(names: Sequence[str]) -> tuple[str, ...]:
    """Replaces each WordNet number of ImageNet-1k with the English name of its class."""
    if not any(WORDNET_NUMBER.fullmatch(name) for name in names):
        return tuple(names)
    english = dict(zip(imagenet_synonyms(), imagenet_class_names(), strict=True))
    return tuple(english.get(name, name) for name in names)


def _unambiguous(named: Iterable[tuple[str, int]]) -> dict[str, int]:
    rows: dict[str, set[int]] = {}
    for name, row in named:
        rows.setdefault(name, set()).add(row)
    return {name: next(iter(found)) for name, found in rows.items() if len(found) == 1 and name}


def _plain(name: str) -> str:
    """Removes case and punctuation, so that `Great_White-Shark` equals `great white shark`."""
    composed = unicodedata.normalize("NFC", name).casefold()
    kept = (char if unicodedata.category(char)[0] in NAME_CHARACTERS else " " for char in composed)
    return " ".join("".join(kept).split())
