"""Faults that a user can mend; the command line prints them as one sentence, without a traceback."""


class RexnetError(ValueError):
    """Base of every error whose message is written for the user."""

    exit_code = 2


class ConfigError(RexnetError):
    """The configuration is missing, malformed or contradicts itself."""


class DataError(RexnetError):
    """The data set is missing, incomplete, inconsistent or unreadable."""


class CheckpointError(RexnetError):
    """A weight or checkpoint file is missing, damaged, foreign or does not fit."""


class DivergenceError(RexnetError):
    """The loss became NaN or infinite during training."""

    exit_code = 1


class ProcessError(RexnetError):
    """Another process of the same run ended first."""

    exit_code = 1


class ExportError(RexnetError):
    """An exported file gives other results than the network that it came from."""

    exit_code = 1


def user_message(error: RexnetError) -> str:
    """The message alone, where a loader process wrapped it into a traceback."""
    text = str(error)
    marker = f".{type(error).__name__}: "
    return text.rpartition(marker)[2].strip() if marker in text else text


def first_sentence(error: BaseException) -> str:
    """Type and first sentence of a library's error, as a part of a message of ours."""
    text = " ".join(str(error).split()).partition(". ")[0]
    return f"{type(error).__name__}: {text or 'no details'}"[:200]
