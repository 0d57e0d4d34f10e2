"""Many requests at once from one background thread, since each waits for the network most of its time."""

import asyncio
import threading
from concurrent.futures import Future
from typing import Any, NamedTuple

from rexnet.config.data_schema import FetchConfig
from rexnet.config.remote_path import RemotePath
from rexnet.data.remote.store import CHANGED, base_of, condition, explained, open_store
from rexnet.errors import DataError

WHOLE = -1  # offset of an image that is an object of its own


class Extent(NamedTuple):
    """The bytes of one image."""

    key: str  # of the object
    tag: str  # ETag that the object had when it was indexed; empty if unknown
    offset: int
    size: int


class Fetcher:
    """Fetches images of the data set at `root`, at most `in_flight` at the same time."""

    def __init__(self, root: RemotePath, fetch: FetchConfig, in_flight: int, store: Any = None) -> None:
        self.base, self.settings = base_of(root), fetch
        self.store = open_store(root, fetch) if store is None else store
        self._free = asyncio.Semaphore(in_flight)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="fetcher", daemon=True).start()

    def submit(self, extent: Extent) -> Future[bytes]:
        """Begins to fetch an image; the future has it, or a `DataError` soon after `give_up_after`."""
        return asyncio.run_coroutine_threadsafe(self._fetch(extent), self._loop)

    async def _fetch(self, extent: Extent) -> bytes:
        path, limit = self.base / extent.key, self.settings.give_up_after + self.settings.timeout
        async with self._free:
            with explained(path, self.settings):
                content, tag = await asyncio.wait_for(self._get(extent), limit)
        if len(content) != extent.size or (extent.tag and tag and tag != extent.tag):
            raise DataError(f"{path}: {CHANGED} ({len(content):,} of {extent.size:,} bytes came)")
        return content

    async def _get(self, extent: Extent) -> tuple[bytes, str | None]:
        """Returns the content and the ETag of the object."""
        from obstore import get_async

        options: dict[str, Any] = dict(condition(extent.tag))
        if extent.offset != WHOLE:
            options["range"] = (extent.offset, extent.offset + extent.size)
        if extent.offset != WHOLE and not extent.size:
            return b"", None  # an empty range cannot be requested
        answer = await get_async(self.store, extent.key, options=options)
        return bytes(await answer.bytes_async()), answer.meta["e_tag"]
