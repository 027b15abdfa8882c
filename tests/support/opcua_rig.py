"""An OPC UA adapter under test: a sink that keeps what is offered, and device files made of a few keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from adapters.opcua.adapter import OpcUaAdapter
from adapters.opcua.config import OpcUaDeviceConfig
from gateway.contract import Clock, Point, SystemClock, ValueType
from tests.support.fake_sink import FakeSink
from tests.support.wait import eventually


class Reading(NamedTuple):
    """One reading of a point."""

    type: ValueType
    value: Any
    """None where there is none"""
    status: int
    time: int
    flags: int


class KeepingSink(FakeSink):
    """Finds readings again in what was offered."""

    def heard(self) -> set[int]:
        """Points with at least one reading."""
        return {point for batches, _ in self.offers for batch in batches for point in batch.points.tolist()}

    def readings(self, point: int) -> list[Reading]:
        """A point's readings in order."""
        found = []
        for batches, _ in self.offers:
            for batch in batches:
                for row in (batch.points == point).nonzero()[0].tolist():
                    value = batch.values[row]
                    value = value.item() if hasattr(value, "item") else value
                    found.append(
                        Reading(
                            batch.type,
                            value if batch.valid[row] else None,
                            int(batch.status[row]),
                            int(batch.source_time[row]),
                            int(batch.flags[row]),
                        )
                    )
        return found

    def values(self, point: int) -> list[Any]:
        """A point's values in order, without the readings that have none."""
        return [reading.value for reading in self.readings(point) if reading.value is not None]


def device(port: int, nodes: Iterable[str], **keys: Any) -> OpcUaDeviceConfig:
    """A device file with a point p0, p1, ... per node."""
    connection = {"url": f"opc.tcp://127.0.0.1:{port}", "timeout": "2s", **keys.pop("connection", {})}
    return OpcUaDeviceConfig.model_validate(
        {
            "device": "reactor",
            "adapter": "opcua",
            "connection": connection,
            "subscribe": {"publishing": "100ms", "sampling": "50ms", "queue": "30s", **keys.pop("subscribe", {})},
            "points": [{"point": f"p{i}", "node": node} for i, node in enumerate(nodes)],
            **keys,
        }
    )


def patient_device(port: int, nodes: Iterable[str], **keys: Any) -> OpcUaDeviceConfig:
    """The same for a server in a process of its own, which a busy machine may keep from answering for seconds."""
    return device(port, nodes, **{**keys, "connection": {"timeout": "60s", **keys.get("connection", {})}})


def adapter_of(config: OpcUaDeviceConfig, clock: Clock | None = None, **keys: Any) -> OpcUaAdapter:
    """An adapter whose points have the indexes 0, 1, ...; `clock`: by default the system's."""
    points = [Point(i, point) for i, point in enumerate(config.points)]
    return OpcUaAdapter(config, points, clock or SystemClock(), **keys)


@asynccontextmanager
async def running(adapter: OpcUaAdapter, sink: FakeSink) -> AsyncIterator[asyncio.Task[None]]:
    """One `run` of the adapter; cancelled on leaving."""
    task = asyncio.create_task(adapter.run(sink), name="adapter")
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def all_heard(sink: KeepingSink, task: asyncio.Task[None], count: int, timeout_s: float = 20.0) -> None:
    """Wait until each of `count` points has a reading; raises what ended the adapter."""
    await eventually(lambda: task.done() or len(sink.heard()) >= count, timeout_s, f"readings of {count} points")
    if task.done():
        task.result()
