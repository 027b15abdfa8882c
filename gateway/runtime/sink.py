"""The sink that one device's adapter offers to: normalises, counts, and hands over to the log's writer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from gateway.contract.adapter import Gap, Origin, Receipt
from gateway.contract.batch import Batch
from gateway.contract.status import (
    BAD_COMMUNICATION_ERROR,
    BAD_NO_COMMUNICATION,
    BAD_NOT_CONNECTED,
    BAD_TIMEOUT,
    CODE_MASK,
)
from gateway.log.records import Record
from gateway.normalise import Normaliser
from gateway.runtime.gaps import Gaps

_SILENCE = np.array([BAD_COMMUNICATION_ERROR, BAD_NO_COMMUNICATION, BAD_NOT_CONNECTED, BAD_TIMEOUT], np.uint32)
"""what an adapter says of points that the device did not answer for"""


class RecordWriter(Protocol):
    """What the sink needs of the log's writer."""

    async def write(self, records: Sequence[Record], nbytes: int, share: str) -> Receipt:
        """Queue records for the next commit once the share has memory for them."""
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
        on_online: Callable[[], None],
    ) -> None:
        self._device = device
        self._normaliser = normaliser
        self._writer = writer
        self._gaps = gaps
        self._counters = counters
        self._on_online = on_online
        self._last_answer: int | None = None

    @property
    def last_received(self) -> int | None:
        """ns since the epoch: when the newest reading of this run arrived that the device itself gave."""
        return self._last_answer

    async def offer(self, batches: Sequence[Batch], origin: Origin | None = None) -> Receipt:
        """See `gateway.contract.Sink.offer`."""
        receipt = await self._write(batches, origin)
        self._counters.last_received = max(batch.received_time for batch in batches)
        if any(_answered(batch) for batch in batches):
            self._last_answer = self._counters.last_received
            if self._gaps.is_open:
                self._gaps.end(self._last_answer)
        return receipt

    async def offer_outage(self, batches: Sequence[Batch]) -> Receipt:
        """Offer the gateway's own Bad readings of an outage: they are accepted, but they do not end it."""
        return await self._write(batches, None)

    def online(self) -> None:
        """See `gateway.contract.Sink.online`."""
        self._on_online()

    def gap(self, gap: Gap) -> None:
        """See `gateway.contract.Sink.gap`."""
        self._counters.gaps += 1
        self._gaps.report(gap)

    async def _write(self, batches: Sequence[Batch], origin: Origin | None) -> Receipt:
        records = self._normaliser.records(batches, origin)
        receipt = await self._writer.write(records, sum(batch.nbytes for batch in batches), self._device)
        for batch in batches:
            self._counters.readings += len(batch)
            severities = np.bincount(batch.status >> 30, minlength=4)
            for severity in np.flatnonzero(severities).tolist():
                self._counters.quality[severity] += int(severities[severity])
        return receipt


def _answered(batch: Batch) -> bool:
    """Whether the device itself said anything of this: a Bad reading of its own is data, silence is not."""
    if not batch.status.any():
        return True
    return not bool(np.isin(batch.status & np.uint32(CODE_MASK), _SILENCE).all())
