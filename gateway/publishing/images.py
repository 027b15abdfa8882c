"""Publishes each device's last values again and again, so that who comes late sees points that do not change.

An image takes no offset and no part in the account: it says once more what was said, and a lost one is no loss. Each
device has its own moment within the period, so that images are spread over it, whatever is restarted or reconnected.
"""

from __future__ import annotations

import asyncio
import math
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.contract import Clock
from gateway.log.records import BatchRecord, Series
from gateway.points.table import PointTable
from gateway.publishing.aside import Aside
from gateway.publishing.catalogues import Catalogues
from gateway.publishing.clearance import Clearance
from gateway.publishing.hidden import Hidden
from gateway.publishing.last_values import LastValues
from gateway.publishing.maker import Maker
from gateway.publishing.outbox import Outbox
from gateway.publishing.runs import Run, Slice
from gateway.publishing.sources import Source
from gateway.publishing.verdicts import TOO_LARGE

TICK_S = 1.0
READ_BYTES = 1_000_000
"""encoded segments per read of the log"""
SEED_BYTES = 64_000_000
"""of the log's end are looked through at the start; what was said before, and not again since, is left out"""
_SEED_STEP = 64
"""positions of the log that are looked through at once, from its end backwards"""
_SHARE = 0.25
"""of a device's part of the period, in which its messages are spread"""
_MOST_PAUSE_S = 1.0
_CLOSED = np.iinfo(np.int64).max


class Way(NamedTuple):
    """What one connection's images go by."""

    topic: str
    outbox: Outbox
    catalogues: Catalogues
    hidden: Hidden
    maker: Maker
    open: Callable[[], bool]
    """readings are delivered at present"""


def moments(name: str, period_s: float, now: int) -> int:
    """How many moments of an image have passed at `now` (ns, monotonic): one a period, where in it by its name."""
    return math.floor(now / 1e9 / period_s - zlib.crc32(name.encode()) / 2**32)


class Images:
    """Keeps the last values, over all connections, and sends them over the one that is."""

    def __init__(
        self,
        name: str,
        period_s: float,
        source: Source,
        points: PointTable,
        clock: Clock,
        clearance: Callable[[], Clearance],
    ) -> None:
        """`name`: of the destination; `clearance`: what it may see at present."""
        self._name = name
        self._period_s = period_s
        self._source = source
        self._points = points
        self._clock = clock
        self._clearance = clearance
        self._last = LastValues()
        self._aside = Aside(name, clock)

    async def follow(self) -> None:
        """Know what the log holds: its newest part first, then what comes, until cancelled. Raises LogError."""
        end = (await self._source.bounds())[1]
        await self._seed(end)
        while True:
            await self._source.wait(end)
            if segments := await self._source.read(end, READ_BYTES):
                self._last.take(segments)
                end = segments[-1].position + 1
            await asyncio.sleep(0)

    async def run(self, way: Way) -> None:
        """Send what is due until cancelled. Raises BrokerError."""
        seen = self._clock.monotonic_ns()
        while True:
            await asyncio.sleep(min(TICK_S, self._period_s / 20))
            now = self._clock.monotonic_ns()
            due = [device for device in self._last.devices() if self._is_due(device, seen, now)]
            seen = now
            for device in due:
                if way.open():
                    await self._publish(device, way)

    def _is_due(self, device: str, seen: int, now: int) -> bool:
        name = f"{self._name}/{device}"
        return moments(name, self._period_s, now) > moments(name, self._period_s, seen)

    async def _seed(self, end: int) -> None:
        first = (await self._source.bounds())[0]
        taken = 0
        while end > first and taken < SEED_BYTES:
            start = position = max(first, end - _SEED_STEP)
            while position < end:
                segments = [part for part in await self._source.read(position, READ_BYTES) if part.position < end]
                if not segments:
                    break
                self._last.take(segments, fill=True)
                taken += sum(part.nbytes for part in segments)
                position = segments[-1].position + 1
                await asyncio.sleep(0)
            end = start

    async def _publish(self, device: str, way: Way) -> None:
        topic = f"{way.topic}/{device}/image"
        if not self._aside.open(topic):
            return
        time = self._clock.time_ns()
        runs = self._runs(device, way.hidden, time)
        total = sum(run.count for run in runs)
        share_s = _SHARE * self._period_s / max(1, len(tuple(self._last.devices())))
        for run in runs:
            rest: Run | None = run
            while rest is not None:
                sent, rest = await self._send(topic, rest, time, way)
                if not sent:
                    return
                await asyncio.sleep(min(_MOST_PAUSE_S, share_s * sent / total))

    async def _send(self, topic: str, run: Run, time: int, way: Way) -> tuple[int, Run | None]:
        """One message: how many readings went or were passed over, and the rest. 0 = the topic is refused."""
        version = await way.catalogues.ensure(run.series.device)
        made = way.maker.image(run, version, time)
        nbytes, count = len(made.payload), made.run.count
        if nbytes > way.maker.payload_bytes:  # a single reading: where it was new, it was parked
            return count, made.rest
        code = await self._aside.publish(way.outbox, topic, made.payload, way.maker.image_properties, backlog=True)
        if code == TOO_LARGE:
            way.maker.too_large(nbytes, count)
            return count, made.rest if count == 1 else run
        if code >= 0x80:
            self._aside.refuse(topic, code)
            return 0, None
        return count, made.rest

    def _runs(self, device: str, hidden: Hidden, time: int) -> list[Run]:
        """The last readings of all points that the destination may see, one run for each stream."""
        streams, number, since = self._visible(device, hidden)
        found: list[list[Slice]] = [[] for _ in streams]
        for batch in self._last.batches(device, since, received_time=time, monotonic=self._clock.monotonic_ns()):
            for stream, slices in zip(streams, found, strict=True):
                rows = np.flatnonzero(number[batch.points] == streams[stream])
                if len(rows):
                    slices.append(Slice(BatchRecord(stream, batch.take(rows)), 0, len(rows), 0))
        return [
            Run(Series(stream, device), tuple(slices)) for stream, slices in zip(streams, found, strict=True) if slices
        ]

    def _visible(
        self, device: str, hidden: Hidden
    ) -> tuple[dict[str, int], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Streams with a number each; int64[n] by the point's index: its stream, and from which position on it is open.

        Retired points have no present; what was accepted before a stream was opened stays withheld here too.
        """
        concealed, clearance = hidden.indexes(device), self._clearance()
        points = self._points.points(device)
        size = max(points, default=-1) + 1
        number, since = np.full(size, -1), np.full(size, _CLOSED)
        streams: dict[str, int] = {}
        for index, record in points.items():
            opened = clearance.since(record.stream)
            if record.retired_at is None and index not in concealed and opened is not None:
                number[index] = streams.setdefault(record.stream, len(streams))
                since[index] = opened
        return streams, number, since
