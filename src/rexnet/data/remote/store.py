"""Opens the object store of a data set, and explains each of its errors in one clear sentence."""

import contextlib
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from rexnet.config.data_schema import FetchConfig
from rexnet.config.remote_path import RemotePath
from rexnet.errors import DataError, first_sentence

INFO = "_info.json"  # file names of the shards of each split, in timm's form, and our `class_names`
MOST_RETRIES = 10_000  # so many that the time limit comes first
NO_CREDENTIALS = re.compile("ExpiredToken|TokenRefreshRequired|InvalidToken|RequestExpired|169.254|Account must")
REASONS = {  # by the type of obstore's error
    "NotFoundError": "does not exist; if it was removed, index the data set again with `rexnet data index`",
    "PreconditionError": "has changed since it was indexed; index the data set again with `rexnet data index`",
    "PermissionDeniedError": "access is denied; check the credentials in the environment, and their permissions",
    "NotSupportedError": "the server does not support this request, such as byte ranges, which images in a tar need",
}
REASONS |= {"FileNotFoundError": REASONS["NotFoundError"], "UnauthenticatedError": REASONS["PermissionDeniedError"]}
CHANGED = REASONS["PreconditionError"]


def base_of(root: RemotePath) -> RemotePath:
    """Returns the folder to which the keys of a data set are relative."""
    return root.parent if root.suffix in (".tar", ".csv") else root


def open_store(root: RemotePath, fetch: FetchConfig) -> Any:
    """Opens the store at the base of a data set; a process that has done so must not be forked."""
    from obstore.store import from_url

    timeout, patience = timedelta(seconds=fetch.timeout), timedelta(seconds=fetch.give_up_after)
    backoff = {"max_backoff": min(timedelta(seconds=10), patience / 4)}
    allow_http = not str(root).startswith("https:")  # endpoints from the environment may be HTTP, too
    with explained(base_of(root), fetch):
        return from_url(
            str(base_of(root)),
            client_options={"timeout": timeout, "connect_timeout": timeout, "allow_http": allow_http},
            retry_config={"max_retries": MOST_RETRIES, "retry_timeout": patience, "backoff": backoff},
        )


@contextlib.contextmanager
def explained(path: Path, fetch: FetchConfig) -> Iterator[None]:
    """Turns the error of a request into a `DataError` that names the object and the remedy."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # obstore raises its own types and some built-in ones
        raise DataError(f"{path}: {_explain(error, fetch.give_up_after)}") from None


def _explain(error: Exception, give_up_after: float) -> str:
    if NO_CREDENTIALS.search(str(error)):
        return "credentials are missing or have expired; set them in the environment (see docs/data.md)"
    by_status = "NotFoundError" if "404 Not Found" in str(error) else "PermissionDeniedError"  # for a listing
    listed = "404 Not Found" in str(error) or "403 Forbidden" in str(error)
    if reason := REASONS.get(by_status if listed else type(error).__name__):
        return reason
    if retries := re.search(r"after (\d+) retries", str(error)):
        attempts = f"{int(retries[1]) + 1} attempts within {give_up_after:g} s"
        return f"{attempts} failed: {first_sentence(error)}; check the network, or raise data.fetch.give_up_after"
    if "kind: Timeout" in str(error):
        return f"did not come within {give_up_after:g} s; check the network, or raise data.fetch.give_up_after"
    return f"cannot be read: {first_sentence(error)}"
