"""A line with scripted stations on it, RTU or ASCII, on a pseudo terminal or behind a TCP port.

Written from MODBUS over Serial Line V1.02, independent of every Modbus library. Each station deals with one request
after the other, on its own time: a late reply goes on the wire whatever else is there by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tty
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tests.support.modbus_device import Act, Asked, ModbusDevice


def crc16(frame: bytes) -> bytes:
    """Serial Line V1.02, 6.2.2; low byte first on the wire."""
    crc = 0xFFFF
    for byte in frame:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc.to_bytes(2, "little")


def lrc(frame: bytes) -> bytes:
    """Serial Line V1.02, 6.2.1."""
    return bytes((-sum(frame) & 0xFF,))


def rtu_frame(content: bytes) -> bytes:
    return content + crc16(content)


def ascii_frame(content: bytes) -> bytes:
    return b":" + (content + lrc(content)).hex().upper().encode() + b"\r\n"


class ModbusLine:
    """Stations by number. Records what was asked, in order, and every byte that is no request."""

    def __init__(
        self,
        stations: dict[int, ModbusDevice],
        framing: str = "rtu",
        *,
        one_connection: bool = False,
        echo: bool = False,
    ) -> None:
        """`one_connection`: the serial server refuses a second one. `echo`: the adapter hears what it says."""
        self.stations = stations
        self.framing = framing
        self.one_connection = one_connection
        self.echo = echo
        self.refused_connections = 0
        self.forgotten = 0
        """connections that the serial server has forgotten, the first so many: what they bring is read and ignored"""
        self.asked: list[Asked] = []
        self.strange: list[bytes] = []
        self.raw = b""
        """everything that was said to the stations"""
        self.most_at_once = 0
        self.connections = 0
        self.open_now = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._pending = 0
        self._master: int | None = None
        self._buffer = b""
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy = {number: asyncio.Lock() for number in stations}

    @asynccontextmanager
    async def on_pty(self) -> AsyncIterator[str]:
        """Yields the path of the serial port whose other end this is."""
        master, slave = os.openpty()
        tty.setraw(master)
        tty.setraw(slave)
        os.set_blocking(master, False)
        loop = asyncio.get_running_loop()
        self._master = master
        loop.add_reader(master, lambda: self.take(os.read(master, 4096), self.say))
        try:
            yield os.ttyname(slave)
        finally:
            loop.remove_reader(master)
            await self.settle()
            self._master = None
            os.close(master)
            os.close(slave)

    def say(self, data: bytes) -> None:
        """Put bytes on the pseudo terminal, whoever should hear them; in vain where nobody has it open."""
        with contextlib.suppress(OSError):
            if self._master is not None:
                os.write(self._master, data)

    @asynccontextmanager
    async def on_tcp(self) -> AsyncIterator[int]:
        """Yields the port of a serial server with the line behind it."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self.one_connection and self.open_now:
                self.refused_connections += 1
                writer.transport.abort()
                return
            self.connections += 1
            self.open_now += 1
            self._writers.add(writer)
            number = self.connections
            try:
                while data := await reader.read(4096):
                    if number > self.forgotten:
                        self.take(data, writer.write, writer.close)
            except ConnectionError:
                pass
            finally:
                self.open_now -= 1
                self._writers.discard(writer)
                writer.transport.abort()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await self.settle()

    def cut(self) -> None:
        """The serial server breaks all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def settle(self) -> None:
        """End the stations that are still thinking."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def take(self, data: bytes, send: Callable[[bytes], object], close: Callable[[], object] = lambda: None) -> None:
        """Bytes came over the wire."""
        self.raw += data
        if self.echo:
            send(data)
        self._buffer += data
        while (content := self._next()) is not None:
            station, function = content[0], content[1]
            address, count = int.from_bytes(content[2:4], "big"), int.from_bytes(content[4:6], "big")
            asked = Asked(len(self.asked), 0, station, function, address, count)
            self.asked.append(asked)
            if device := self.stations.get(station):
                device.asked.append(asked)
                device.functions.add(function)
                task = asyncio.get_running_loop().create_task(self._answer(device, asked, send, close), name="station")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _next(self) -> bytes | None:
        if self.framing == "rtu":
            if len(self._buffer) < 8:
                return None
            frame, self._buffer = self._buffer[:8], self._buffer[8:]
            if crc16(frame[:6]) == frame[6:] and frame[1] in (1, 2, 3, 4):
                return frame[:6]
        else:
            if b"\r\n" not in self._buffer:
                return None
            frame, self._buffer = self._buffer.split(b"\r\n", 1)
            content = bytes.fromhex(frame[1:].decode())
            if frame[:1] == b":" and lrc(content[:-1]) == content[-1:] and content[1] in (1, 2, 3, 4):
                return content[:-1]
        self.strange.append(frame)
        return None

    async def _answer(
        self, device: ModbusDevice, asked: Asked, send: Callable[[bytes], object], close: Callable[[], object]
    ) -> None:
        act = device.script(asked) or Act()
        self._pending += 1
        self.most_at_once = max(self.most_at_once, self._pending)
        try:
            async with self._busy[asked.station]:
                await self._say(device, asked, act, send)
                if act.close_after:
                    close()
        finally:
            self._pending -= 1

    async def _say(self, device: ModbusDevice, asked: Asked, act: Act, send: Callable[[bytes], object]) -> None:
        if act.delay_s:
            await asyncio.sleep(act.delay_s)
        if act.silent:
            return
        station = asked.station if act.station is None else act.station
        content = bytes((station,)) + device.pdu(asked, act)
        frame = (rtu_frame if self.framing == "rtu" else ascii_frame)(content)
        if act.corrupt:
            frame = frame[:3] + bytes((frame[3] ^ 1,)) + frame[4:]
        frame = act.raw if act.raw is not None else act.noise + frame + act.trailing
        for i in range(0, len(frame), 1 if act.drip_s else len(frame)):
            send(frame[i : i + 1] if act.drip_s else frame)
            if act.drip_s:
                await asyncio.sleep(act.drip_s)
