"""The sink that one device's adapter offers to: normalises, counts, and hands over to the log's writer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import orjson

from gateway.contract.adapter import Filled, Gap, OpenGap, Origin, Receipt, Remembered
from gateway.contract.batch import Batch, Flag
from gateway.contract.status import (
    BAD_COMMUNICATION_ERROR,
    BAD_NO_COMMUNICATION,
    BAD_NOT_CONNECTED,
    BAD_TIMEOUT,
    CODE_MASK,
)
from gateway.log.records import BatchRecord, NoteRecord, Record
from gateway.normalise import Normaliser
from gateway.runtime.gaps import Gaps, covered_until

_SILENCE = np.array([BAD_COMMUNICATION_ERROR, BAD_NO_COMMUNICATION, BAD_NOT_CONNECTED, BAD_TIMEOUT], np.uint32)
"""what an adapter says of points that the device did not answer for"""
_BACKFILLED: Final = np.uint8(Flag.BACKFILLED)
NOTE_BYTES: Final = 256_000
"""most that a note may have as JSON: every data file of the log begins with it"""


class RecordWriter(Protocol):
    """What the sink needs of the log's writer."""

    async def write(self, records: Sequence[Record], nbytes: int, share: str) -> Receipt:
        """Queue records for the next commit once the share has memory for them."""
        ...

    @property
    def commit_s(self) -> float:
        """Least time between the starts of two commits, seconds."""
        ...


class Link(Protocol):
    """What the sink tells of the device's link."""

    def on_online(self) -> None:
        """The device answers."""
        ...

    def on_degraded(self, why: str | None) -> None:
        """The link works, but the device is not well; None = it is well again."""
        ...


@dataclass(slots=True)
class DeviceCounters:
    """What is counted of one device, per batch."""

    readings: int = 0
    quality: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    """readings by severity: good, uncertain, bad, reserved"""
    last_received: int | None = None
    """ns since the epoch: when the newest reading arrived"""
    gaps: int = 0
    bad: npt.NDArray[np.uint32] | None = None
    """the newest status by the adapter's index of the point, as long as one is not Good; 0 where nothing came"""

    def note(self, batch: Batch) -> None:
        """Keep the statuses of a batch that is not all Good, or that comes after such a one."""
        if not len(batch.points):
            return
        most = int(batch.points.max()) + 1
        if self.bad is None:
            self.bad = np.zeros(most, np.uint32)
        elif len(self.bad) < most:
            self.bad = np.concatenate([self.bad, np.zeros(most - len(self.bad), np.uint32)])
        self.bad[batch.points] = batch.status
        if not self.bad.any():
            self.bad = None


class DeviceSink:
    """Implements `gateway.contract.Sink` for one device."""

    def __init__(
        self,
        device: str,
        normaliser: Normaliser,
        writer: RecordWriter,
        gaps: Gaps,
        counters: DeviceCounters,
        *,
        link: Link,
        describe: Callable[[Mapping[int, Mapping[int, str]]], None],
        left: Remembered | None = None,
    ) -> None:
        self._device = device
        self._normaliser = normaliser
        self._writer = writer
        self._gaps = gaps
        self._counters = counters
        self._link = link
        self._describe = describe
        self._left = left
        self.taps: list[Callable[[Sequence[BatchRecord]], None]] = []
        """who listens to what is accepted; must not wait"""
        self._said: tuple[int, list[npt.NDArray[np.int64]]] | None = None
        """when the device itself said something of now, and the source times of that; the last time"""

    @property
    def covered_until(self) -> int | None:
        """ns since the epoch: how far the device's own readings of this run reach; None before the first."""
        if self._said is None:
            return None
        arrived, times = self._said
        return covered_until(max(int(column.max()) for column in times), arrived)

    @property
    def commit_s(self) -> float:
        """See `gateway.contract.Sink.commit_s`."""
        return self._writer.commit_s

    async def offer(self, batches: Sequence[Batch], origin: Origin | None = None) -> Receipt:
        """See `gateway.contract.Sink.offer`."""
        receipt = await self._accept(batches, origin)
        arrived = 0
        times = []
        for batch in batches:
            good = self._count(batch)
            if not _from_history(batch):  # which says nothing of now
                arrived = max(arrived, batch.received_time)
                if good or _answered(batch):
                    times.append(batch.source_time)
        if arrived:
            self._counters.last_received = arrived
        if times:
            self._said = arrived, times
            if self._gaps.is_open:
                self._gaps.end(arrived)
        return receipt

    async def offer_outage(self, batches: Sequence[Batch]) -> Receipt:
        """Offer the gateway's own Bad readings of an outage: they are accepted, but they do not end it."""
        receipt = await self._accept(batches, None)
        for batch in batches:
            self._count(batch)
        return receipt

    def online(self) -> None:
        """See `gateway.contract.Sink.online`."""
        self._link.on_online()

    def degraded(self, why: str | None) -> None:
        """See `gateway.contract.Sink.degraded`."""
        self._link.on_degraded(why)

    def gap(self, gap: Gap) -> str:
        """See `gateway.contract.Sink.gap`."""
        self._counters.gaps += 1
        return self._gaps.report(gap)

    def outage(self) -> OpenGap | None:
        """See `gateway.contract.Sink.outage`."""
        return self._gaps.outage()

    def filled(self, filled: Filled) -> None:
        """See `gateway.contract.Sink.filled`."""
        self._gaps.filled(filled)

    async def remember(self, note: Mapping[str, Any]) -> Receipt:
        """See `gateway.contract.Sink.remember`. Raises ValueError for a note that is too large or is not JSON-able."""
        try:
            text = orjson.dumps(note)
        except TypeError as error:
            raise ValueError(f"{self._device}: a note must be JSON-able: {error}") from error
        if len(text) > NOTE_BYTES:
            raise ValueError(f"{self._device}: a note of at most {NOTE_BYTES} bytes expected, found {len(text)}")
        # Read back, so that the log's thread never meets what the adapter goes on changing.
        record = NoteRecord(self._device, orjson.loads(text))
        return await self._writer.write([record], len(text), self._device)

    def remembered(self) -> Remembered | None:
        """See `gateway.contract.Sink.remembered`."""
        return self._left

    def describe(self, enumerations: Mapping[int, Mapping[int, str]]) -> None:
        """See `gateway.contract.Sink.describe`."""
        self._describe(enumerations)

    async def _accept(self, batches: Sequence[Batch], origin: Origin | None) -> Receipt:
        nbytes = 0
        for batch in batches:
            nbytes += batch.nbytes
        records = self._normaliser.records(batches, origin)
        receipt = await self._writer.write(records, nbytes, self._device)
        if self.taps:
            for tap in self.taps:
                tap(records)
        return receipt

    def _count(self, batch: Batch) -> bool:
        """Count the readings of a batch that was accepted; whether all are Good."""
        counters, readings = self._counters, len(batch.points)
        counters.readings += readings
        if not np.count_nonzero(batch.status):
            counters.quality[0] += readings
            if counters.bad is not None:
                counters.note(batch)
            return True
        counters.note(batch)
        severities = np.bincount(batch.status >> 30, minlength=4)
        for severity in np.flatnonzero(severities).tolist():
            counters.quality[severity] += int(severities[severity])
        return False


def _from_history(batch: Batch) -> bool:
    """Whether all of it was recovered from the device's history."""
    return bool(np.count_nonzero(batch.flags)) and bool((batch.flags & _BACKFILLED).all())


def _answered(batch: Batch) -> bool:
    """Whether the device itself said anything of this: a Bad reading of its own is data, silence is not."""
    if np.count_nonzero(batch.status) < len(batch):
        return True  # something is Good, as nearly always
    return not bool(np.isin(batch.status & np.uint32(CODE_MASK), _SILENCE).all())
