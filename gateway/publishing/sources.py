"""What a publisher needs of the log and of the state store: the seams where tests put fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from gateway.log.records import Segment, Series, SeriesHead, Span

_HEADS_AT_ONCE = 5_000
"""a thread cannot be cancelled: what it does at once must not hold up a stop"""


class LogReader(Protocol):
    """The log on disk. Every method may be called from any thread."""

    def read(self, position: int, limit_bytes: int) -> list[Segment]:
        """Segments from `position` on, at least one if there is any."""
        ...

    def heads(self, start: int, end: int) -> Iterable[tuple[int, list[SeriesHead]]]:
        """Position and series heads of the segments start <= position < end, in order."""
        ...

    def spans(self, start: int, end: int) -> Iterator[Mapping[Series, Span]]:
        """Offsets of each series at positions [start, end), in order: several where the log has holes in between.

        Each step takes a moment only, so some are empty. What the log cannot give any more may be in a span.
        """
        ...

    def bounds(self) -> tuple[int, int]:
        """First position, and the one that the next segment will have."""
        ...


class LogTail(Protocol):
    """The newest segments, still in memory. For the event loop only."""

    @property
    def end(self) -> int:
        """The position that the next segment will have."""
        ...

    def read(self, position: int, limit_bytes: int) -> list[Segment] | None:
        """Segments from `position` on; empty at the end, None when they are no longer in memory."""
        ...

    async def wait(self, position: int) -> None:
        """Return when there is a segment at `position` or later."""
        ...


class State(Protocol):
    """Small JSON-able documents with compare-and-set. Every method may be called from any thread."""

    def get(self, key: str) -> tuple[int, Any] | None:
        """Version and document."""
        ...

    def put_many(self, changes: Sequence[tuple[str, Any, int]]) -> list[int]:
        """Write all of (key, document, expected version; 0 = must not exist), or none; returns the new versions.

        None as document removes the key. Raises StateConflictError when a version is not the expected one.
        """
        ...

    def items(self, prefix: str) -> Iterator[tuple[str, int, Any]]:
        """Key, version and document of every key that begins with `prefix`."""
        ...


class Source:
    """Reads the tail where it can and the disk where it must."""

    def __init__(self, log: LogReader, tail: LogTail) -> None:
        self._log = log
        self._tail = tail

    @property
    def end(self) -> int:
        """The position that the next segment will have."""
        return self._tail.end

    async def read(self, position: int, limit_bytes: int) -> list[Segment]:
        """Segments from `position` on, oldest first; empty at the end."""
        segments = self._tail.read(position, limit_bytes)
        if segments is None:
            segments = await asyncio.to_thread(self._log.read, position, limit_bytes)
        return segments

    async def wait(self, position: int) -> None:
        """Return when there is a segment at `position` or later."""
        await self._tail.wait(position)

    async def heads(self, start: int, end: int) -> list[SeriesHead]:
        """Series heads of all segments start <= position < end, in order."""
        return await asyncio.to_thread(self._heads, start, end)

    async def spans(self, start: int, end: int) -> list[Mapping[Series, Span]]:
        """Offsets of each series at positions [start, end), in order; see `LogReader.spans`."""
        steps = await asyncio.to_thread(self._log.spans, start, end)
        found: list[Mapping[Series, Span]] = []
        while (spans := await asyncio.to_thread(next, steps, None)) is not None:
            found.append(spans)
        return found

    async def first_since(self, time: int) -> int:
        """Position of the first segment with a reading or event whose time (ns) is `time` or later; else the end."""
        return await asyncio.to_thread(self._first_since, time)

    async def next_with(self, start: int, end: int, wanted: Callable[[SeriesHead], bool]) -> int:
        """The first position of [start, end) whose segment has a wanted head; `end` when there is none."""
        while start < end:
            stop = min(end, start + _HEADS_AT_ONCE)
            found = await asyncio.to_thread(self._next_with, start, stop, wanted)
            if found is not None:
                return found
            start = stop
        return end

    async def bounds(self) -> tuple[int, int]:
        """First position, and the one that the next segment will have."""
        return await asyncio.to_thread(self._log.bounds)

    def _heads(self, start: int, end: int) -> list[SeriesHead]:
        return [head for _, heads in self._log.heads(start, end) for head in heads]

    def _first_since(self, time: int) -> int:
        first, end = self._log.bounds()
        for position, heads in self._log.heads(first, end):
            if any(head.max_time >= time for head in heads):
                return position
        return end

    def _next_with(self, start: int, end: int, wanted: Callable[[SeriesHead], bool]) -> int | None:
        return next((at for at, heads in self._log.heads(start, end) if any(map(wanted, heads))), None)
