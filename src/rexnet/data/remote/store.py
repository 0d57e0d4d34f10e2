"""The object store of a data set, and one clear sentence for each of its errors."""

import contextlib
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from rexnet.config.data_schema import FetchConfig
from rexnet.config.remote_path import RemotePath
from rexnet.errors import DataError, first_sentence

MOST_RETRIES = 10_000  # the time limit comes first
CHANGED = "has changed since it was indexed; index the data set again with `rexnet data index`"
EXPIRED = ("ExpiredToken", "TokenRefreshRequired", "InvalidToken", "RequestExpired")


def base_of(root: RemotePath) -> RemotePath:
    """Returns the folder at which the keys of a data set begin."""
    return root.parent if root.suffix in (".tar", ".csv") else root


def open_store(root: RemotePath, fetch: FetchConfig) -> Any:
    """Opens the store at the base of a data set; a process that has done so must not be forked."""
    from obstore.store import from_url

    base, timeout = base_of(root), timedelta(seconds=fetch.timeout)
    with explained(base, fetch):
        return from_url(
            str(base),
            client_options={"timeout": timeout, "connect_timeout": timeout, "allow_http": base.scheme != "https"},
            retry_config={
                "max_retries": MOST_RETRIES,
                "retry_timeout": timedelta(seconds=fetch.give_up_after),
                "backoff": {"max_backoff": timedelta(seconds=min(10, fetch.give_up_after / 4))},
            },
        )


def condition(tag: str) -> dict[str, str]:
    """Returns the option of a request that an object still has this ETag; a weak one cannot be a condition."""
    return {"if_match": tag} if tag and not tag.startswith("W/") else {}


@contextlib.contextmanager
def explained(path: Path, fetch: FetchConfig) -> Iterator[None]:
    """Turns an error of a request into a `DataError` that names the object and the remedy."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # obstore raises its own types and some of Python's
        raise DataError(f"{path}: {_explain(error, fetch)}") from None


def _explain(error: Exception, fetch: FetchConfig) -> str:
    text = str(error)
    if any(code in text for code in EXPIRED):
        return "the credentials have expired; renew them in the environment (for S3 AWS_ACCESS_KEY_ID and so on)"
    match type(error).__name__:
        case "NotFoundError" | "FileNotFoundError":
            return "does not exist; if it was removed, index the data set again with `rexnet data index`"
        case "PermissionDeniedError" | "UnauthenticatedError" | "PermissionError":
            return "access is denied; check the credentials in the environment, and their permission to list and read"
        case "PreconditionError":
            return CHANGED
        case "NotSupportedError":
            return f"the server does not support this request, such as ranges in a tar ({first_sentence(error)})"
    if isinstance(error, TimeoutError):
        return f"did not come within {fetch.give_up_after:g} s; check the network, or raise data.fetch.give_up_after"
    retries = re.search(r"after (\d+) retries", text)
    tried = f" in {int(retries[1]) + 1} attempts within {fetch.give_up_after:g} s" if retries else ""
    advice = "; check the network and the endpoint, or raise data.fetch.give_up_after" if retries else ""
    return f"cannot be read{tried}: {first_sentence(error)}{advice}"
