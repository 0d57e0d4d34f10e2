"""Errors that a user can fix; the command line prints them as one sentence without a traceback."""

import difflib
from collections.abc import Iterable


class RexnetError(ValueError):
    """Base of all errors whose message is written for the user."""

    exit_code = 2


class ConfigError(RexnetError):
    """The configuration is missing, malformed or contradictory."""


class DataError(RexnetError):
    """The data set is missing, incomplete, inconsistent or unreadable."""


class CheckpointError(RexnetError):
    """A weight or checkpoint file is missing, damaged, of an unknown format or does not fit."""


class DivergenceError(RexnetError):
    """The loss or gradient stayed non-finite during training."""

    exit_code = 1


class ProcessError(RexnetError):
    """Another process of the same run failed first."""

    exit_code = 1


class ExportError(RexnetError):
    """An exported file and the network give different results."""

    exit_code = 1


def user_message(error: RexnetError) -> str:
    """Returns the message of an error, also if a loader process wrapped it into a traceback."""
    text = str(error)
    marker = f".{type(error).__name__}: "
    return text.rpartition(marker)[2].strip() if marker in text else text


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns the end of a message about a misspelt word: the most similar of the known ones, or nothing."""
    found = difflib.get_close_matches(word, list(known), n=1)
    return f"; nearest: {found[0]}" if found else ""


def first_sentence(error: BaseException) -> str:
    """Returns the type and first sentence of a library's error, to be quoted in a message."""
    text = " ".join(str(error).split()).partition(". ")[0]
    return f"{type(error).__name__}: {text or 'no details'}"[:200]
