"""A scripted Modbus/TCP device, written from the specification and independent of every Modbus library.

It serves four tables and does, per request, what its script says: be slow, refuse, answer short, answer with another
transaction id or station, send garbage, close. It records every function code and the most connections at once.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple


class Asked(NamedTuple):
    """One request, as it came."""

    number: int
    """0 for the first of the device's life"""
    transaction: int
    station: int
    function: int
    address: int
    count: int


@dataclass(frozen=True)
class Act:
    """What to do with one request; without arguments: answer it."""

    delay_s: float = 0.0
    exception: int = 0
    cells_short: int = 0
    """answer so many cells fewer than asked for (negative: more)"""
    announce_extra: int = 0
    """add this to the byte count without sending more"""
    transaction_offset: int = 0
    station: int | None = None
    function: int | None = None
    raw: bytes | None = None
    """send this instead of a reply"""
    trailing: bytes = b""
    silent: bool = False
    close_after: bool = False
    drip_s: float = 0.0
    """pause after each byte"""
    noise: bytes = b""
    """sent before the reply"""
    corrupt: bool = False
    """flip a bit of the frame; only on lines, where a checksum finds it"""


Script = Callable[[Asked], Act | None]


@dataclass
class ModbusDevice:
    """The device's memory, script and record."""

    registers: dict[int, int] = field(default_factory=dict)
    """holding registers; what is missing reads as its own address"""
    inputs: dict[int, int] = field(default_factory=dict)
    """input registers; what is missing reads as 65535 minus its address"""
    coils: set[int] = field(default_factory=set)
    discretes: set[int] = field(default_factory=set)
    holes: set[int] = field(default_factory=set)
    """addresses of any table that do not exist: exception 2"""
    max_cells: int = 2000
    script: Script = lambda asked: None
    one_connection: bool = False
    """refuse a second connection while one is open"""
    concurrent: bool = False
    """a slow reply does not hold up those that are asked for after it"""
    port: int = 0

    asked: list[Asked] = field(default_factory=list)
    functions: set[int] = field(default_factory=set)
    open_now: int = 0
    most_open: int = 0
    connections: int = 0
    refused_connections: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _server: asyncio.Server | None = None

    @asynccontextmanager
    async def serve(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[ModbusDevice]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        self._server = server
        try:
            yield self
        finally:
            server.close()
            self.cut()
            await server.wait_closed()

    def stop_listening(self) -> None:
        """Refuse connections; those that are open stay."""
        if self._server is not None:
            self._server.close()

    def cut(self) -> None:
        """Break all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.one_connection and self.open_now:
            self.refused_connections += 1
            writer.transport.abort()
            return
        self.connections += 1
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        self._writers.add(writer)
        try:
            while await self._serve_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open_now -= 1
            self._writers.discard(writer)
            writer.transport.abort()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        transaction, protocol, length = struct.unpack(">HHH", await reader.readexactly(6))
        assert protocol == 0
        body = await reader.readexactly(length)
        station, function = body[0], body[1]
        self.functions.add(function)
        address, count = struct.unpack(">HH", body[2:6])
        asked = Asked(len(self.asked), transaction, station, function, address, count)
        self.asked.append(asked)
        act = self.script(asked) or Act()
        if act.delay_s and self.concurrent:
            asyncio.get_running_loop().call_later(act.delay_s, writer.write, self.frame(asked, act))
            return True
        if act.delay_s:
            await asyncio.sleep(act.delay_s)
        if not act.silent:
            frame = self.frame(asked, act)
            if act.drip_s:
                for i in range(len(frame)):
                    writer.write(frame[i : i + 1])
                    await asyncio.sleep(act.drip_s)
            else:
                writer.write(frame)
            await writer.drain()
        if act.close_after:
            writer.close()
        return not act.close_after

    def frame(self, asked: Asked, act: Act) -> bytes:
        """The reply over TCP or UDP."""
        if act.raw is not None:
            return act.raw
        station = asked.station if act.station is None else act.station
        transaction = (asked.transaction + act.transaction_offset) & 0xFFFF
        pdu = self.pdu(asked, act)
        return act.noise + struct.pack(">HHHB", transaction, 0, len(pdu) + 1, station) + pdu + act.trailing

    def pdu(self, asked: Asked, act: Act) -> bytes:
        """What the device says, without the frame around it."""
        exception = act.exception or self._own_exception(asked)
        function = asked.function if act.function is None else act.function
        if exception:
            return bytes((function | 0x80, exception))
        data = self._data(asked, asked.count - act.cells_short)
        return bytes((function, (len(data) + act.announce_extra) & 0xFF)) + data

    def _own_exception(self, asked: Asked) -> int:
        if asked.function not in (1, 2, 3, 4):
            return 1
        if not 1 <= asked.count <= min(self.max_cells, 2000 if asked.function <= 2 else 125):
            return 3
        if not self.holes.isdisjoint(range(asked.address, asked.address + asked.count)):
            return 2
        return 0

    def _data(self, asked: Asked, count: int) -> bytes:
        cells = range(asked.address, asked.address + count)
        if asked.function in (1, 2):
            return pack_bits(n in (self.coils if asked.function == 1 else self.discretes) for n in cells)
        if asked.function == 3:
            return b"".join(struct.pack(">H", self.registers.get(n, n & 0xFFFF)) for n in cells)
        return b"".join(struct.pack(">H", self.inputs.get(n, 0xFFFF - n)) for n in cells)

    def load(self, address: int, data: bytes) -> None:
        """Put bytes as they travel on the wire into holding registers."""
        for i in range(0, len(data), 2):
            self.registers[address + i // 2] = struct.unpack(">H", data[i : i + 2])[0]


@dataclass
class ModbusGateway(ModbusDevice):
    """Several devices behind one address, told apart by their station numbers; the script is the gateway's."""

    stations: dict[int, ModbusDevice] = field(default_factory=dict)
    concurrent: bool = True

    def pdu(self, asked: Asked, act: Act) -> bytes:
        station = self.stations[asked.station]
        station.asked.append(asked)
        station.functions.add(asked.function)
        return station.pdu(asked, act)


def pack_bits(bits: Iterable[bool]) -> bytes:
    """Bits as they travel: the first in the least significant place of the first byte."""
    packed = bytearray()
    for i, bit in enumerate(bits):
        if i % 8 == 0:
            packed.append(0)
        packed[-1] |= int(bit) << (i % 8)
    return bytes(packed)
