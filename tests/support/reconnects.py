"""Cut a device's connection again and again, and measure what is left behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from typing import NamedTuple

import psutil

from gateway.contract import AdapterError, Batch, Origin
from tests.support.opcua_rig import KeepingSink, adapter_of, patient_device
from tests.support.opcua_wire import OpcUaWire
from tests.support.wait import eventually


class Footprint(NamedTuple):
    """What this process holds."""

    descriptors: int
    tasks: int
    rss: int
    """bytes"""


class CountingSink(KeepingSink):
    """Counts offers and keeps none: what grows here would be the test's own."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    async def offer(self, batches: Sequence[Batch], origin: Origin | None = None) -> CountingSink:
        self.count += 1
        return self


async def footprint() -> Footprint:
    """Measure once what was closed just now is gone, which takes some turns of the event loop."""
    for _ in range(20):
        await asyncio.sleep(0)
    gc.collect()
    process = psutil.Process()
    return Footprint(process.num_fds(), len(asyncio.all_tasks()), process.memory_info().rss)


async def reconnects(wire: OpcUaWire, nodes: Sequence[str], warm_up: int, times: int) -> tuple[Footprint, Footprint]:
    """Connect, wait for data, cut; `times` times after `warm_up` times. Returns what is held before and after."""
    adapter = adapter_of(patient_device(wire.port, nodes))
    sink = CountingSink()
    before = await footprint()
    for n in range(warm_up + times):
        if n == warm_up:
            before = await footprint()
        wire.requests.clear()
        wire.responses.clear()
        count = sink.count
        task = asyncio.create_task(adapter.run(sink), name="adapter")
        await eventually(lambda task=task, count=count: task.done() or sink.count > count)
        wire.cut()
        await asyncio.wait([task])
        assert isinstance(task.exception(), AdapterError), task
        await eventually(lambda: wire.open_connections == 0)
    return before, await footprint()
