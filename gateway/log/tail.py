"""The newest committed segments, decoded, in memory: live publishing never reads the disk. Event loop only."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from gateway.log.records import BatchRecord, Segment

TAIL_BYTES: Final = 32_000_000
_RECORD_BYTES: Final = 500
"""what a record other than a batch is taken to weigh"""


class Tail:
    """A bounded window that ends at the log's end. Feed it from the writer's `on_commit`."""

    def __init__(self, end: int, memory_bytes: int = TAIL_BYTES) -> None:
        self._end = end
        self._start = end
        self._memory_bytes = memory_bytes
        self._held: deque[tuple[Segment, int]] = deque()
        self._bytes = 0
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def end(self) -> int:
        """The position that the next segment gets."""
        return self._end

    @property
    def start(self) -> int:
        """The first position that `read` answers from memory."""
        return self._start

    def add(self, segments: Sequence[Segment]) -> None:
        """Take over what was just committed, in order; the oldest go when memory is used up."""
        for segment in segments:
            size = _memory(segment)
            self._held.append((segment, size))
            self._bytes += size
            self._end = segment.position + 1
        while self._bytes > self._memory_bytes:
            self._drop()
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()

    def forget(self, position: int) -> None:
        """Let go of what lies below `position`: everybody has what was there."""
        while self._held and self._held[0][0].position < position:
            self._drop()

    def _drop(self) -> None:
        segment, size = self._held.popleft()
        self._bytes -= size
        self._start = segment.position + 1

    def read(self, position: int, limit_bytes: int) -> list[Segment] | None:
        """As `LogStore.read`; None when `position` is no longer in memory: ask the store."""
        if position < self._start:
            return None
        segments: list[Segment] = []
        taken = 0
        # Readers stay near the end, so the walk from there is the short one.
        skip = len(self._held)
        while skip and self._held[skip - 1][0].position >= position:
            skip -= 1
        for index in range(skip, len(self._held)):
            segment = self._held[index][0]
            if segments and taken + segment.nbytes > limit_bytes:
                break
            taken += segment.nbytes
            segments.append(segment)
        return segments

    async def wait(self, position: int) -> None:
        """Return once `end` is beyond `position`: there is a segment at it, or after it."""
        while self._end <= position:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.add(waiting)
            try:
                await waiting
            finally:
                self._waiting.discard(waiting)


def _memory(segment: Segment) -> int:
    return sum(
        record.batch.nbytes + _RECORD_BYTES if isinstance(record, BatchRecord) else _RECORD_BYTES
        for record in segment.records
    )
