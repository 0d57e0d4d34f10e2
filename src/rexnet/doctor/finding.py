"""The result of a check."""

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from rexnet.errors import RexnetError, user_message


class Finding(NamedTuple):
    """One line of the doctor's output."""

    level: Literal["ok", "warning", "error"]
    subject: str
    """The checked thing, in a word or two."""
    text: str
    """The result and, unless it is ok, the remedy."""

    def __str__(self) -> str:
        return f"{self.level:<8} {self.subject:<13} {self.text}"


def attempt(subject: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yields the findings of a check, and any error that it raises as the last one."""
    try:
        yield from findings
    except RexnetError as error:
        yield Finding("error", subject, user_message(error))
