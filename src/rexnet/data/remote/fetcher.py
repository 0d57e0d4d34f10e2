"""Many requests at once from one background thread, since each waits for the network most of its time."""

import asyncio
import threading
from concurrent.futures import Future
from typing import Any

from rexnet.config.data_schema import FetchConfig
from rexnet.config.remote_path import RemotePath
from rexnet.data.remote.catalog import WHOLE
from rexnet.data.remote.store import CHANGED, base_of, explained, open_store
from rexnet.errors import DataError


class Fetcher:
    """Fetches objects or parts of them below `root`, at most `in_flight` at the same time."""

    def __init__(self, root: RemotePath, fetch: FetchConfig, in_flight: int, store: Any = None) -> None:
        self.base, self.settings = base_of(root), fetch
        self.store = open_store(root, fetch) if store is None else store
        self._free = asyncio.Semaphore(in_flight)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="fetcher", daemon=True).start()

    def submit(self, key: str, tag: str, offset: int, size: int) -> Future[bytes]:
        """Begins to fetch `size` bytes at `offset`, or a WHOLE object, which must still have its ETag if it had one.

        The future has the bytes, or a `DataError` soon after `give_up_after`.
        """
        return asyncio.run_coroutine_threadsafe(self._fetch(key, tag, offset, size), self._loop)

    async def _fetch(self, key: str, tag: str, offset: int, size: int) -> bytes:
        from obstore import get_async

        options: dict[str, Any] = {} if offset == WHOLE else {"range": (offset, offset + size)}
        if tag and not tag.startswith("W/"):  # a weak one cannot be a condition
            options["if_match"] = tag
        if not size and offset != WHOLE:
            return b""  # an empty range cannot be requested
        limit = self.settings.give_up_after + self.settings.timeout
        async with self._free:
            with explained(self.base / key, self.settings):
                async with asyncio.timeout(limit):
                    answer = await get_async(self.store, key, options=options)
                    content, found = bytes(await answer.bytes_async()), answer.meta["e_tag"]
        if len(content) != size or (tag and found and found != tag):
            raise DataError(f"{self.base / key}: {CHANGED} ({len(content):,} of {size:,} bytes came)")
        return content
