"""Devices that give a gateway enough to write: registers that count, long texts that no compressor shrinks, OPC UA."""

from __future__ import annotations

import asyncio
import base64
import random
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from simulators.plant.faults import Fault
from simulators.plant.modbus import ModbusDevice
from tests.support.interop import InteropServer, interop_server

POINTS: Final = 60
TEXTS: Final = 8
TEXT_BYTES: Final = 240
TEXT_REGISTERS: Final = TEXTS * TEXT_BYTES // 2
NODES: Final = 20
_EVERY_S: Final = 0.01


@asynccontextmanager
async def counting_device() -> AsyncIterator[ModbusDevice]:
    """A device whose registers all change together, every 10 ms."""
    async with ModbusDevice({"holding": dict.fromkeys(range(POINTS), 0)}) as device, asyncio.TaskGroup() as group:

        async def count() -> None:
            for tick in range(1 << 30):
                device.write("holding", 0, [tick & 0xFFFF] * POINTS)
                await asyncio.sleep(_EVERY_S)

        task = group.create_task(count(), name="counting")
        yield device
        task.cancel()


def _patient(url: str) -> dict[str, Any]:
    """No device is silent because the machine holds it up."""
    return {"url": url, "timeout": "60s"}


def counting_file(url: str, points: int = POINTS) -> dict[str, Any]:
    """The device file of `counting_device`."""
    named = [{"point": f"p{index}", "address": f"holding {index}", "type": "uint16"} for index in range(points)]
    return {"device": "counter", "adapter": "modbus", "connection": _patient(url), "every": "20ms", "points": named}


@asynccontextmanager
async def recorder() -> AsyncIterator[ModbusDevice]:
    """A device with long texts, others every 10 ms: 60 kB/s for the log, so that files turn over within seconds."""
    chance = random.Random(1)

    def texts() -> list[int]:
        characters = base64.b64encode(chance.randbytes(TEXT_REGISTERS * 2))[: TEXT_REGISTERS * 2]
        return list(struct.unpack(f">{TEXT_REGISTERS}H", characters))

    async with (
        ModbusDevice({"holding": dict(enumerate(texts()))}) as device,
        asyncio.TaskGroup() as group,
    ):

        async def record() -> None:
            while True:
                device.write("holding", 0, texts())
                await asyncio.sleep(_EVERY_S)

        task = group.create_task(record(), name="recording")
        yield device
        task.cancel()


def recorder_file(url: str) -> dict[str, Any]:
    """The device file of `recorder`."""
    points = [
        {"point": f"t{index}", "address": f"holding {index * TEXT_BYTES // 2}", "type": "string", "length": TEXT_BYTES}
        for index in range(TEXTS)
    ]
    return {
        "device": "recorder",
        "adapter": "modbus",
        "connection": _patient(url),
        "load": {"requests_per_s": 1000},
        "every": "25ms",
        "points": points,
    }


def opcua_file(server: InteropServer) -> dict[str, Any]:
    """The device file of a node-opcua server with `NODES` counters."""
    return {
        "device": "reactor",
        "adapter": "opcua",
        "connection": {"url": f"opc.tcp://127.0.0.1:{server.port}", "timeout": "2s"},
        "subscribe": {"publishing": "200ms", "sampling": "100ms", "queue": "30s"},
        "points": [{"point": f"c{i}", "node": server.node(f"c{i}")} for i in range(NODES)],
    }


class Plant(NamedTuple):
    """The devices."""

    counter: ModbusDevice
    recorder: ModbusDevice
    server: InteropServer

    def files(self) -> list[dict[str, Any]]:
        """Their device files."""
        return [counting_file(self.counter.url, 10), recorder_file(self.recorder.url), opcua_file(self.server)]

    async def fall_silent(self) -> None:
        """Nothing answers any more, nothing changes."""
        await self.counter.set_fault(Fault.STOP)
        await self.recorder.set_fault(Fault.STOP)
        await self.server.tell("pause")


@asynccontextmanager
async def plant(folder: Path) -> AsyncIterator[Plant]:
    """All of them, at work."""
    async with AsyncExitStack() as stack:
        counter = await stack.enter_async_context(counting_device())
        texts = await stack.enter_async_context(recorder())
        # Those that were killed leave sessions behind, which time out.
        server = await stack.enter_async_context(
            interop_server(folder, counters=NODES, period_ms=100, max_sessions=1000)
        )
        yield Plant(counter, texts, server)
