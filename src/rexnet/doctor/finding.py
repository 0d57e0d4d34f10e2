"""What a check says."""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

from rexnet.errors import RexnetError, user_message

Level = Literal["ok", "warning", "error"]


class Finding(NamedTuple):
    """One line of the report."""

    level: Level
    subject: str
    """What was looked at, in a word or two."""
    text: str
    """What was found and, where it is not well, the remedy."""

    def __str__(self) -> str:
        return f"{self.level:<8} {self.subject:<13} {self.text}"


def attempt(subject: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of a check; a fault that it runs into is its last."""
    try:
        yield from check()
    except RexnetError as error:
        yield Finding("error", subject, user_message(error))
