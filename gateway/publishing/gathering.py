"""Gathers what is new in the log for the live lane: as much as comes within the batch's time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from gateway.contract import Clock
from gateway.log.records import BatchRecord, Segment
from gateway.publishing.config import BatchConfig
from gateway.publishing.sources import Source

READ_BYTES: Final = 1_000_000
"""encoded segments per read of the log"""


class Gatherer:
    """Follows the log's end for one attempt."""

    def __init__(
        self,
        name: str,
        source: Source,
        batch: BatchConfig,
        stopping: asyncio.Event,
        clock: Clock,
        *,
        hurry: bool = False,
    ) -> None:
        """`hurry`: the first readings go at once. Whoever looks at a new connection waits for them."""
        self._name = name
        self._hurry = hurry
        self._source = source
        self._batch = batch
        self._stopping = stopping
        self._clock = clock

    async def gather(self, position: int) -> list[Segment]:
        """What comes from `position` on until the first reading has waited for `max_wait`, or `max_bytes` of it.

        Empty at a stop with nothing left.

        A reading's time counts from its arrival at the gateway: it waits for its commit, and perhaps for the messages
        before it, within `max_wait` and not beside it.
        """
        loop = asyncio.get_running_loop()
        segments: list[Segment] = []
        deadline: float | None = None
        while True:
            more = await self._source.read(position, READ_BYTES)
            if more:
                segments += more
                position = more[-1].position + 1
                deadline = deadline or loop.time() + self._batch.max_wait - self._waited(more)
                if self._hurry:
                    deadline = loop.time()
                    self._hurry = not any(isinstance(record, BatchRecord) for part in more for record in part.records)
            full = sum(segment.nbytes for segment in segments) >= self._batch.max_bytes
            if not full and position < self._source.end:
                continue
            if full or self._stopping.is_set() or not await self._wait(position, deadline):
                return segments

    def _waited(self, segments: Iterable[Segment]) -> float:
        """Seconds since the first reading arrived, at most `max_wait`; a clock that was set back says 0."""
        records = (record for segment in segments for record in segment.records)
        first = next((record.batch.received_time for record in records if isinstance(record, BatchRecord)), None)
        if first is None:
            return 0.0
        return min(max(0.0, (self._clock.time_ns() - first) / 1e9), self._batch.max_wait)

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
