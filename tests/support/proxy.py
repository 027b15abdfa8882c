"""An HTTP proxy that knows CONNECT (RFC 9110, 9.3.6), or answers what a test tells it; written for the tests alone."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping

from tests.support.local_server import LocalServer

OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"
WANTED = b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=proxy\r\n\r\n"


class ConnectProxy(LocalServer):
    """`async with ConnectProxy() as proxy: ... proxy.url`"""

    def __init__(self, *, login: str | None = None, hosts: Mapping[str, int] | None = None) -> None:
        """`login`: the "name:password" that it wants; `hosts`: names only it knows, with their ports on 127.0.0.1."""
        super().__init__()
        self.login = login
        self.answer: bytes | None = None
        """what it says, instead of opening the way, before it closes; b"" = nothing, and it stays"""
        self.targets: list[str] = []
        """what it was asked to connect to"""
        self.clients: set[str] = set()
        """addresses from which it was asked"""
        self._hosts = dict(hosts or {})

    @property
    def url(self) -> str:
        """http://127.0.0.1:port"""
        return f"http://127.0.0.1:{self.port}"

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Open the way that is asked for, or say what the test wants."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        request, *fields = head.rstrip().split("\r\n")
        method, target, version = request.split(" ")
        assert (method, version) == ("CONNECT", "HTTP/1.1")
        assert f"Host: {target}" in fields
        self.targets.append(target)
        self.clients.add(writer.get_extra_info("peername")[0])
        if self.answer is not None:
            writer.write(self.answer)
            await writer.drain()
            if not self.answer:
                await reader.read()
            return
        if self.login is not None:
            shown = base64.b64encode(self.login.encode()).decode()
            if f"Proxy-Authorization: Basic {shown}" not in fields:
                writer.write(WANTED)
                return
        host, _, port = target.rpartition(":")
        there, back = await asyncio.open_connection("127.0.0.1", self._hosts.get(host, int(port)))
        writer.write(OPEN)
        try:
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
        finally:
            back.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()
