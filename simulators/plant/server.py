"""The small plant: an air compressor and a power meter on Modbus TCP, a reactor on OPC UA, and their control port.

    async with PlantServer() as plant:                     # free ports, seed 1
        plant.urls                                         # {"compressor-1": "tcp://127.0.0.1:…", …}
        await plant.set_fault("meter-1", Fault.REFUSE)
        await plant.step(0.5)                              # with tick_s=None: values move only when told to

The control port speaks lines, e.g. with `nc 127.0.0.1 PORT`: `status`, `DEVICE ok|stop|refuse|bad|exception|garbage`,
`DEVICE delay SECONDS`, `DEVICE drop` (cut its connections once). Each line is answered by one line, `ok …` or
`error …`; `status` by one line per device and an empty one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from simulators.plant import layout
from simulators.plant.faults import Fault
from simulators.plant.machines import Compressor, PowerMeter, Reactor
from simulators.plant.modbus import ModbusDevice
from simulators.plant.opcua import OpcUaDevice

DEVICES = ("compressor-1", "meter-1", "reactor-3")
DEFAULT_PORTS = {"compressor-1": 15020, "meter-1": 15021, "reactor-3": 14840, "control": 15999}
"""The ports of config/devices/*.yaml"""

TICK_S = 0.2
MAX_LINE = 200


class PlantServer:
    """All devices of the plant; async context manager."""

    def __init__(
        self,
        *,
        ports: Mapping[str, int] | None = None,
        host: str = "127.0.0.1",
        tick_s: float | None = TICK_S,
        seed: int = 1,
    ) -> None:
        """`ports`: device name or "control" -> port; what is missing gets a free one. `tick_s` None: no own clock."""
        port_of = dict(ports or {})
        self._host = host
        self._control_port = port_of.get("control", 0)
        self._tick_s = tick_s
        self.compressor = Compressor(seed)
        self.meter = PowerMeter(seed + 1)
        self.reactor = Reactor(seed + 2)
        self.compressor_device = ModbusDevice(
            station=layout.COMPRESSOR_STATION, host=host, port=port_of.get("compressor-1", 0)
        )
        self.meter_device = ModbusDevice(station=layout.METER_STATION, host=host, port=port_of.get("meter-1", 0))
        first = layout.reactor_values(self.reactor)
        self.reactor_device = OpcUaDevice(
            {key: (kind, first[key]) for key, kind in layout.REACTOR_TYPES.items()},
            host=host,
            port=port_of.get("reactor-3", 0),
        )
        self._control: asyncio.Server | None = None
        self._tasks = asyncio.TaskGroup()
        self._callers: set[asyncio.Task[None]] = set()
        self._stack = AsyncExitStack()

    @property
    def devices(self) -> dict[str, ModbusDevice | OpcUaDevice]:
        """Device name -> its simulator."""
        return dict(zip(DEVICES, (self.compressor_device, self.meter_device, self.reactor_device), strict=True))

    @property
    def urls(self) -> dict[str, str]:
        """Device name -> where it listens."""
        return {name: device.url for name, device in self.devices.items()}

    @property
    def ports(self) -> dict[str, int]:
        """Device name or "control" -> port."""
        return {name: device.port for name, device in self.devices.items()} | {"control": self._control_port}

    async def set_fault(self, device: str, fault: Fault, delay_s: float = 0.0) -> None:
        """Turn a device's fault switch. Raises KeyError for an unknown device."""
        await self.devices[device].set_fault(fault, delay_s)

    async def step(self, dt_s: float) -> None:
        """Move every machine on by `dt_s` and show its new values."""
        for machine in (self.compressor, self.meter, self.reactor):
            machine.step(dt_s)
        await self._show()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._show_modbus()  # before they listen: an address without content is refused
            for device in self.devices.values():
                await stack.enter_async_context(device)
            await self._show()
            control = await asyncio.start_server(self._accept_control, self._host, self._control_port, limit=MAX_LINE)
            self._control_port = int(control.sockets[0].getsockname()[1])
            await stack.enter_async_context(self._tasks)
            stack.callback(self._end_control, control)
            if self._tick_s is not None:
                ticking = self._tasks.create_task(self._run(self._tick_s), name="plant-tick")
                stack.callback(ticking.cancel)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _show_modbus(self) -> None:
        layout.show_compressor(self.compressor, self.compressor_device)
        layout.show_meter(self.meter, self.meter_device)

    async def _show(self) -> None:
        self._show_modbus()
        await layout.show_reactor(self.reactor, self.reactor_device)

    async def _run(self, tick_s: float) -> None:
        last = due = time.monotonic()
        while True:
            due = max(due + tick_s, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
            now = time.monotonic()
            await self.step(now - last)
            last = now

    def _accept_control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._tasks.create_task(self._serve_control(reader, writer), name="plant-control")
        self._callers.add(task)
        task.add_done_callback(self._callers.discard)
        task.add_done_callback(lambda _: writer.transport.abort())

    def _end_control(self, control: asyncio.Server) -> None:
        control.close()
        for task in self._callers:
            task.cancel()

    async def _serve_control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write((await self.command(line.decode(errors="replace"))).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            return  # the caller went away, or sent a line that is too long

    async def command(self, line: str) -> str:
        """Carry out one control line and return its answer."""
        words = line.split()
        if words == ["status"]:
            return "".join(f"{name} {device.url} {device.faults}\n" for name, device in self.devices.items())
        if len(words) not in (2, 3) or words[0] not in DEVICES:
            return f"error: expected status or one of {', '.join(DEVICES)} with a fault, found {line.strip()!r}"
        device = self.devices[words[0]]
        if words[1:] == ["drop"]:
            await device.drop_connections()
            return f"ok {words[0]} dropped"
        try:
            fault = Fault(words[1])
            delay_s = float(words[2]) if len(words) == 3 else 1.0
        except ValueError:
            return f"error: expected drop or one of {', '.join(Fault)}, found {' '.join(words[1:])!r}"
        await device.set_fault(fault, delay_s)
        return f"ok {words[0]} {device.faults}"
