"""What simulated devices share: a listening port with a fault switch, and the connections that are open on it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from simulators.plant.faults import Fault, FaultSwitch


class Link:
    """Listens on host:port; async context manager. What is said on a connection is for the class made of it."""

    def __init__(self, host: str, port: int) -> None:
        """Port 0: one that is free, the same for as long as the link is there."""
        self.host = host
        self.port = port
        self.faults = FaultSwitch()
        self.connections_opened = 0
        self.most_connections = 0
        """open at the same moment"""
        self._server: asyncio.Server | None = None
        self._connections = asyncio.TaskGroup()
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return len(self._open)

    async def set_fault(self, fault: Fault, delay_s: float = 0.0) -> None:
        """Turn the fault switch; `Fault.NONE` heals the link."""
        self.faults.fault, self.faults.delay_s = fault, delay_s
        if fault is Fault.REFUSE:
            await self._close()
        else:
            await self._listen()

    async def drop_connections(self) -> None:
        """Cut every connection; new ones are welcome."""
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def serve(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, the `number`th; it is cut on return."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        await self._connections.__aenter__()
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()
        await self._connections.__aexit__(None, None, None)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, self.host, self.port)
            self.port = int(self._server.sockets[0].getsockname()[1])

    async def _close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await self.drop_connections()
            await server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections_opened += 1
        number = self.connections_opened
        task = self._connections.create_task(self.serve(number, reader, writer), name=f"connection {number}")
        self._open[task] = writer
        self.most_connections = max(self.most_connections, len(self._open))
        task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._open.pop(task).transport.abort()
