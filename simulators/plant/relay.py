"""A TCP relay with a fault switch: stands before a server and makes its link hang, lag or refuse."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from simulators.plant.faults import Fault, FaultSwitch

CHUNK = 65536


class Relay:
    """Forwards host:port to `target`; async context manager. With `Fault.STOP` bytes wait on both ways."""

    def __init__(self, target: tuple[str, int], *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.target = target
        self.host = host
        self.port = port
        self.faults = FaultSwitch()
        self.connections_opened = 0
        self._server: asyncio.Server | None = None
        self._connections = asyncio.TaskGroup()
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def set_fault(self, fault: Fault, delay_s: float = 0.0) -> None:
        """Turn the switch; `BAD` and the Modbus faults leave the link alone."""
        self.faults.fault, self.faults.delay_s = fault, delay_s
        if fault is Fault.STOP:
            self._flowing.clear()
        else:
            self._flowing.set()
        if fault is Fault.REFUSE:
            await self._close_link()
        else:
            await self.listen()

    async def drop_connections(self) -> None:
        """Cut every connection; new ones are welcome."""
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def listen(self) -> None:
        """Accept connections; the port stays the same from the first time on."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, self.host, self.port)
            self.port = int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        await self._connections.__aenter__()
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close_link()
        await self._connections.__aexit__(None, None, None)

    async def _close_link(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await self.drop_connections()
            await server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections_opened += 1
        task = self._connections.create_task(self._serve(reader, writer), name=f"relay-{self.connections_opened}")
        self._open[task] = writer
        task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._open.pop(task).transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
