"""Makes closed files of the log into blocks, in a thread, one at a time and never in a hurry."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from gateway.log import DataFile, LogError

log = logging.getLogger(__name__)

EVERY_S: Final = 30.0
BYTES_PER_S: Final = 4_000_000
"""read at most, so that commits and catching up find the disk free: 256 MB take a minute"""
REST: Final = 3.0
"""times as long as a block took, so that it has a quarter of a processor at most"""


class Compacting(Protocol):
    """What is needed of a `LogStore`."""

    def compact(self, pause: Callable[[int], bool]) -> DataFile | None:
        """See `LogStore.compact`."""
        ...


class Compaction:
    """Looks for a closed file from time to time; `run` until cancelled, which waits for one block at most."""

    def __init__(self, store: Compacting) -> None:
        self._store = store
        self._stop = threading.Event()
        self._began = 0.0

    async def run(self) -> None:
        """Compact what there is, then look again every half minute. Raises LogError that trying again cannot help."""
        while True:
            working = asyncio.get_running_loop().run_in_executor(None, self._compact)
            try:
                found = await asyncio.shield(working)
            except asyncio.CancelledError:
                self._stop.set()
                await working
                raise
            if found is None:
                await asyncio.sleep(EVERY_S)

    def _compact(self) -> DataFile | None:
        self._began = time.monotonic()
        try:
            return self._store.compact(self._pause)
        except LogError as error:
            if not error.retry:
                raise
            log.warning("log: not made into blocks now, tried again later: %s", error)
            return None

    def _pause(self, taken: int) -> bool:
        rest = max(REST * (time.monotonic() - self._began), taken / BYTES_PER_S)
        stopped = self._stop.wait(rest)
        self._began = time.monotonic()
        return not stopped
