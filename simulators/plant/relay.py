"""A TCP relay with a fault switch: stands before a server and makes its link hang, lag or refuse."""

from __future__ import annotations

import asyncio
import contextlib

from simulators.plant.faults import Fault
from simulators.plant.link import Link

CHUNK = 65536


class Relay(Link):
    """Forwards host:port to `target`. With `Fault.STOP` bytes wait on both ways."""

    def __init__(self, target: tuple[str, int], *, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(host, port)
        self.target = target
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def set_fault(self, fault: Fault, delay_s: float = 0.0) -> None:
        """Turn the switch; `BAD` and the Modbus faults leave the link alone."""
        if fault is Fault.STOP:
            self._flowing.clear()
        else:
            self._flowing.set()
        await super().set_fault(fault, delay_s)

    async def serve(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Both directions, until one side closes."""
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            return
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._forward(reader, far_writer), name="relay-up")
                both.create_task(self._forward(far_reader, writer), name="relay-down")
        except* (OSError, _Ended):
            pass
        finally:
            far_writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK):
            await self._flowing.wait()
            if self.faults.fault is Fault.DELAY:
                await asyncio.sleep(self.faults.delay_s)
            writer.write(chunk)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()
        raise _Ended


class _Ended(Exception):
    """One side closed: both directions end."""
