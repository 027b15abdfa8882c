"""`tail`: what a device's sink passes on is shown to whoever listens, and nobody waits for the listener."""

from __future__ import annotations

import asyncio
import base64
import math
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from gateway.contract.status import quality, reason
from gateway.log.records import BatchRecord, PointRecord

MOST_READINGS: Final = 10_000
"""that wait for one listener; what comes while so many wait is dropped and counted"""
AT_ONCE: Final = 500
"""readings in a line of the socket, so that the event loop is never held for long"""


class Tap:
    """One listener's share of what a device gives: bounded."""

    def __init__(self) -> None:
        self._records: deque[BatchRecord] = deque()
        self._readings = 0
        self._more = asyncio.Event()
        self.dropped = 0
        """readings since the start that the listener was too slow for"""

    def __call__(self, records: Sequence[BatchRecord]) -> None:
        """Take what the sink has just handed to the log."""
        for record in records:
            readings = len(record.batch)
            if self._readings and self._readings + readings > MOST_READINGS:
                self.dropped += readings
                continue
            self._records.append(record)
            self._readings += readings
        self._more.set()

    async def wait(self, seconds: float) -> list[BatchRecord]:
        """What has come; empty when nothing did for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._more.wait()
        except TimeoutError:
            return []
        records = list(self._records)
        self._records.clear()
        self._readings = 0
        self._more.clear()
        return records


def lines(
    records: Sequence[BatchRecord], known: Mapping[int, PointRecord], wanted: Collection[str]
) -> Iterator[list[list[Any]]]:
    """[source time in ns, point, value, unit, quality, status] for each reading, at most `AT_ONCE` together.

    `wanted`: names or tags of points; none = all of them.
    """
    found: list[list[Any]] = []
    for record in records:
        batch = record.batch
        for i, index in enumerate(batch.points.tolist()):
            point = known[index]
            if wanted and point.point not in wanted and point.tag not in wanted:
                continue
            status = int(batch.status[i])
            value = _value(batch.values[i]) if batch.valid[i] else None
            word = quality(status) if not status >> 30 else f"{quality(status)} ({reason(status)})"
            found.append([int(batch.source_time[i]), point.point, value, point.unit, word, status])
            if len(found) >= AT_ONCE:
                yield found
                found = []
    if found:
        yield found


def _value(value: Any) -> Any:
    """JSON-able; bytes in base64, what JSON has no number for as text."""
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, bytes):
        return base64.b64encode(plain).decode()
    if isinstance(plain, float) and not math.isfinite(plain):
        return str(plain)
    return plain if isinstance(plain, bool | int | float | str) else str(plain)
