"""A scripted Modbus device over UDP: datagrams are lost, late, doubled and foreign, as on a real network."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.modbus_device import Act, Asked, ModbusDevice


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, device: ModbusDevice) -> None:
        self._device = device
        self._transport: asyncio.DatagramTransport
        self.tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        transaction, _, _, station, function, address, count = struct.unpack(">HHHBBHH", data)
        asked = Asked(len(self._device.asked), transaction, station, function, address, count)
        self._device.asked.append(asked)
        self._device.functions.add(function)
        task = asyncio.get_running_loop().create_task(self._answer(asked, addr), name="datagram")
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answer(self, asked: Asked, addr: tuple[str, int]) -> None:
        act = self._device.script(asked) or Act()
        await asyncio.sleep(act.delay_s)
        if not act.silent:
            self._transport.sendto(act.raw or self._device.frame(asked, act), addr)
            if act.trailing:
                self._transport.sendto(act.trailing, addr)


@asynccontextmanager
async def serve_udp(device: ModbusDevice) -> AsyncIterator[int]:
    """Yields the port."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: _Datagrams(device), ("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()
        for task in protocol.tasks:
            task.cancel()
        await asyncio.gather(*protocol.tasks, return_exceptions=True)
