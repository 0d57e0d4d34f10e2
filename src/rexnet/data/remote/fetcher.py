"""Sends many requests at once from threads, since a request spends most of its time waiting for the network."""

import queue
import threading
from concurrent.futures import Future
from typing import Any

from rexnet.config.data_schema import FetchConfig
from rexnet.config.remote_path import RemotePath
from rexnet.data.remote.catalog import WHOLE
from rexnet.data.remote.store import CHANGED, base_of, explained, open_store
from rexnet.errors import DataError


class Fetcher:
    """Fetches objects below `root`, or parts of them, at most `in_flight` at the same time."""

    def __init__(self, root: RemotePath, fetch: FetchConfig, in_flight: int, store: Any = None) -> None:
        self.base, self.settings = base_of(root), fetch
        self.store = open_store(root, fetch) if store is None else store
        self._requests: queue.SimpleQueue[tuple[Future[bytes], tuple[str, str, int, int]]] = queue.SimpleQueue()
        for _ in range(in_flight):  # an executor would finish all requests before the process can exit
            threading.Thread(target=self._work, name="fetcher", daemon=True).start()

    def submit(self, key: str, tag: str, offset: int, size: int) -> Future[bytes]:
        """Starts fetching `size` bytes at `offset`, or a WHOLE object; its ETag, if not empty, must still be `tag`.

        The future returns the bytes, or raises a `DataError` soon after `give_up_after`.
        """
        future: Future[bytes] = Future()
        self._requests.put((future, (key, tag, offset, size)))
        return future

    def _work(self) -> None:
        while True:
            future, request = self._requests.get()
            try:
                future.set_result(self._fetch(*request))
            except BaseException as error:
                future.set_exception(error)

    def _fetch(self, key: str, tag: str, offset: int, size: int) -> bytes:
        from obstore import get  # `get_async` with asyncio takes three times as much CPU time

        options: dict[str, Any] = {} if offset == WHOLE else {"range": (offset, offset + size)}
        if tag and not tag.startswith("W/"):  # a weak ETag cannot be a condition
            options["if_match"] = tag
        if not size and offset != WHOLE:
            return b""  # an empty range cannot be requested
        with explained(self.base / key, self.settings):
            answer = get(self.store, key, options=options)
            content, found = bytes(answer.bytes()), answer.meta["e_tag"]
        if len(content) != size or (tag and found and found != tag):
            raise DataError(f"{self.base / key}: {CHANGED} ({len(content):,} of {size:,} bytes came)")
        return content
