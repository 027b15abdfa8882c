"""A TCP proxy for encrypted connections, into which it cannot look."""

from __future__ import annotations

import asyncio
import contextlib


class TcpPipe:
    """One target, any number of connections.

    async with TcpPipe("127.0.0.1", server_port) as pipe:
        ... let the client talk to 127.0.0.1:{pipe.port} ...
        pipe.cut()
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.connections = 0
        self.channels = 0
        """requests to open or renew a secure channel, which show even where all else is encrypted (Part 6, 6.7.2.2)"""
        self.most: int | None = None
        """later connections than the first so many are aborted as soon as something comes"""

    async def __aenter__(self) -> TcpPipe:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        """Abort every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.most is not None and self.connections > self.most:
            await reader.read(1)
            writer.transport.abort()
            return
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_connection(*self._target)
            both = {writer, back}
            self._writers |= both
            tasks = [
                asyncio.create_task(self._pump(reader, back, look=True)),
                asyncio.create_task(self._pump(there, writer)),
            ]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._writers -= both
            back.close()
        writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, look: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if look:
                    self.channels += data.count(b"OPNF")
                writer.write(data)
                await writer.drain()
