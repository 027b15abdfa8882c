"""Gathers what is new in the log for the live lane: as much as comes within the batch's time."""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.log.records import Segment
from gateway.publishing.config import BatchConfig
from gateway.publishing.sources import Source

READ_BYTES: Final = 1_000_000
"""encoded segments per read of the log"""


class Gatherer:
    """Follows the log's end for one attempt."""

    def __init__(self, name: str, source: Source, batch: BatchConfig, stopping: asyncio.Event) -> None:
        self._name = name
        self._source = source
        self._batch = batch
        self._stopping = stopping
        self._gathered: float | None = None
        """when `gather` last came back"""

    async def gather(self, position: int) -> list[Segment]:
        """What comes from `position` on within `max_wait`, or `max_bytes` of it; empty at a stop with nothing left.

        What is there at once came while the last messages were sent, and its time counts from when that began: else a
        reading would wait for `max_wait` and for the messages before it.
        """
        loop = asyncio.get_running_loop()
        segments: list[Segment] = []
        since = self._gathered
        deadline: float | None = None
        while True:
            more = await self._source.read(position, READ_BYTES)
            if more:
                segments += more
                position = more[-1].position + 1
                deadline = deadline or (loop.time() if since is None else since) + self._batch.max_wait
            since = None
            full = sum(segment.nbytes for segment in segments) >= self._batch.max_bytes
            if not full and position < self._source.end:
                continue
            if full or self._stopping.is_set() or not await self._wait(position, deadline):
                self._gathered = loop.time()
                return segments

    async def _wait(self, position: int, deadline: float | None) -> bool:
        """Wait for a segment at `position` or for the order to stop; False when the deadline came first."""
        timeout = None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
        async with asyncio.TaskGroup() as group:
            arrival = group.create_task(self._source.wait(position), name=f"{self._name} arrival")
            stop = group.create_task(self._stopping.wait(), name=f"{self._name} stop")
            done, _ = await asyncio.wait({arrival, stop}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            arrival.cancel()
            stop.cancel()
        return bool(done)
