"""Names of classes: which of one classifier are those of another, and what ImageNet's are called."""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence

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
    synonyms = imagenet_synonyms().items()
    named = ((name, row) for row, (wnid, names) in enumerate(synonyms) for name in (wnid, *names.split(",")))
    return _unambiguous((_plain(name), row) for name, row in named)


def imagenet_synonyms() -> dict[str, str]:
    """The English names of each ImageNet-1k class, separated by commas, by its WordNet number, in the usual order."""
    from timm.data import ImageNetInfo  # only here: it takes seconds

    info = ImageNetInfo("imagenet-1k")
    return dict(zip(info.label_names(), info.label_descriptions(), strict=True))


def imagenet_class_names() -> tuple[str, ...]:
    """The first English name of each ImageNet-1k class, with its WordNet number where two classes share it."""
    synonyms = imagenet_synonyms()
    return first_synonyms(tuple(synonyms), synonyms)


def first_synonyms(wnids: Sequence[str], synonyms: Mapping[str, str]) -> tuple[str, ...]:
    """The first of its synonyms for each class, with its WordNet number where two of these classes share it.

    Args:
        wnids: the WordNet numbers of the classes.
        synonyms: names by number, separated by commas; a class without any keeps its number.
    """
    names = [synonyms.get(wnid, wnid).partition(",")[0].strip() for wnid in wnids]
    return tuple(f"{name} ({wnid})" if names.count(name) > 1 else name for name, wnid in zip(names, wnids, strict=True))


def readable_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names of classes for people: an English name in place of each WordNet number of ImageNet-1k."""
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
    """A name without case and punctuation, so that `Great_White-Shark` is `great white shark`."""
    return re.sub(r"[\W_]+", " ", name).strip().lower()
