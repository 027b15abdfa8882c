"""Modbus devices as the gateway runs them, without its process: real supervisor, sink and normaliser, kept readings."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from adapters.modbus import ADAPTER
from adapters.modbus.poll import ModbusAdapter
from gateway.contract import Clock, SystemClock
from gateway.contract.status import GOOD
from gateway.log.records import BatchRecord, Labels, Record, StreamRecord
from gateway.normalise import Normaliser
from gateway.points.registry import DeviceDefinition, PointDefinition, Registry
from gateway.points.streams import Streams
from gateway.points.table import PointTable
from gateway.runtime.gaps import Gaps
from gateway.runtime.sink import DeviceCounters, DeviceSink
from gateway.runtime.supervisor import DeviceState, Supervisor

_LABELS = Labels("production", 1, "general")


class Reading(NamedTuple):
    value: Any
    """None where there is no value"""
    status: int
    time_ns: int
    flags: int = 0


class Supervised:
    """One device file, its supervisor, and every reading that would have gone into the log, by point."""

    def __init__(self, content: Mapping[str, Any], clock: Clock | None = None) -> None:
        """`clock`: by default the system's."""
        config = ADAPTER.device_model.model_validate(content)
        self.name = config.device
        self.readings: dict[str, list[Reading]] = {point.point: [] for point in config.points}
        self.state = DeviceState()
        self.counts = DeviceCounters()
        self.table = PointTable()
        self._clock = clock = clock or SystemClock()
        streams = Streams(self.table, continue_old=True, now=clock.time_ns, begin=self._begin)
        registry = Registry(self.table, streams, now=clock.time_ns, write=lambda records: None)
        definitions = [PointDefinition(point, _LABELS, None) for point in config.points]
        points = registry.bind(DeviceDefinition(self.name, None, "modbus", definitions))
        self._names = {point.index: point.config.point for point in points}
        self.adapter: ModbusAdapter = ADAPTER.build(config, points, clock)  # type: ignore[assignment]
        gaps = Gaps(
            self.name,
            ["stream"],
            now=clock.time_ns,
            write=lambda event: None,
            points=lambda: self.table.points(self.name),
        )
        self._supervisor = Supervisor(self.name, self.adapter, points, gaps, self.state, clock)
        self._sink = DeviceSink(
            self.name,
            Normaliser(self.name, self.table, registry),
            self,
            gaps,
            self.counts,
            link=self._supervisor,
            describe=partial(registry.describe, self.name),
        )

    commit_s = 0.2

    async def run(self) -> None:
        """Until cancelled."""
        await self._supervisor.run(self._sink, self._clock.time_ns())

    async def write(self, records: Sequence[Record], nbytes: int, share: str) -> Supervised:
        """The log's writer, as the sink sees it."""
        for record in records:
            if isinstance(record, BatchRecord):
                batch = record.batch
                for i, index in enumerate(batch.points):
                    value = batch.values[i] if batch.valid[i] else None
                    reading = Reading(
                        value.item() if hasattr(value, "item") else value,
                        int(batch.status[i]),
                        int(batch.source_time[i]),
                        int(batch.flags[i]),
                    )
                    self.readings[self._names[int(index)]].append(reading)
        return self

    async def durable(self) -> None:
        """The receipt."""

    def _begin(self, stream: StreamRecord) -> None:
        self.table.apply([stream])

    def fresh(self, point: str, since_ns: int) -> bool:
        """Whether a good reading of the point came that was taken after a moment (ns since the epoch)."""
        return any(r.status == GOOD and r.time_ns > since_ns for r in reversed(self.readings[point]))

    def statuses(self, point: str, start_ns: int, end_ns: int) -> set[int]:
        """Of the point's readings within a time."""
        return {reading.status for reading in self.readings[point] if start_ns <= reading.time_ns <= end_ns}

    def gaps_s(self, point: str, start_ns: int, end_ns: int) -> list[float]:
        """Between good readings of the point from the last before a time to the end of it, ascending."""
        times = [r.time_ns for r in self.readings[point] if r.status == GOOD and r.time_ns <= end_ns]
        before = [at for at in times if at < start_ns]
        inside = before[-1:] + [at for at in times if at >= start_ns] + [end_ns]
        return sorted((b - a) / 1e9 for a, b in pairwise(inside))


def p99(ascending: Sequence[float]) -> float:
    """The value that 99 of 100 do not exceed."""
    return ascending[min(len(ascending) - 1, int(0.99 * len(ascending)))]


async def run_all(devices: Sequence[Supervised], stop: asyncio.Event) -> None:
    """Run devices until told to stop."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(device.run(), name=device.name) for device in devices]
        await stop.wait()
        for task in tasks:
            task.cancel()
