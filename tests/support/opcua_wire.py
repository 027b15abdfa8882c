"""A TCP proxy in front of an OPC UA server that writes down what goes over the wire.

It parses UA TCP itself (Part 6, 6.7 and 7.1), independently of the gateway and of asyncua, so that it can prove on
the wire which services a client uses and when it acknowledges what.

    async with OpcUaWire("127.0.0.1", server_port) as wire:
        ... let the client talk to opc.tcp://127.0.0.1:{wire.port} ...
        wire.assert_read_only()
        wire.assert_within(20.0)

What is encrypted it passes on without a look: OpcUaWire(..., secure=True); then only connections are counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import Callable
from typing import NamedTuple

HISTORY_READ = 664
PUBLISH = 826
REPUBLISH = 832

READ_ONLY_SERVICES = {
    422: "FindServers",
    428: "GetEndpoints",
    446: "OpenSecureChannel",
    452: "CloseSecureChannel",
    461: "CreateSession",
    467: "ActivateSession",
    473: "CloseSession",
    527: "Browse",
    533: "BrowseNext",
    554: "TranslateBrowsePathsToNodeIds",
    631: "Read",
    664: "HistoryRead",
    751: "CreateMonitoredItems",
    763: "ModifyMonitoredItems",
    781: "DeleteMonitoredItems",
    787: "CreateSubscription",
    793: "ModifySubscription",
    799: "SetPublishingMode",
    826: "Publish",
    832: "Republish",
    841: "TransferSubscriptions",
    847: "DeleteSubscriptions",
}
"""request type ids (binary encoding) that change nothing in the plant; Write 673, Call 712, HistoryUpdate 700 and node
management 488 to 506 are not among them"""

Tamper = Callable[[int, bytes], bytes]
"""Called with (type id, whole chunk) for each response of one chunk; returns what to send on, of the same length."""


class Request(NamedTuple):
    """A request as the server got it."""

    type_id: int
    at: float
    """by the wire's clock, else time.monotonic()"""
    acknowledged: tuple[tuple[int, int], ...]
    """(subscription, sequence number) pairs of a PublishRequest"""
    releases: bool = False
    """a HistoryRead that only releases continuation points"""


class OpcUaWire:
    """The proxy; one target, any number of connections."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        secure: bool = False,
        source: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`source`: the address of the loopback network that the server sees; `clock` says when a request came."""
        self._clock = clock
        self._target = (host, port)
        self._source = None if source is None else (source, 0)
        self._secure = secure
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = asyncio.Event()
        self._open.set()
        self.port = 0
        self.requests: list[Request] = []
        self.responses: list[int] = []
        self.connections = 0
        self.open_connections = 0
        self.most_connections = 0
        """open at the same moment"""
        self._closed = asyncio.Event()
        self._closed.set()
        self.tamper: Tamper | None = None
        self.broken = False
        """nobody gets through: connections are aborted as soon as they are made"""

    async def __aenter__(self) -> OpcUaWire:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self._open.set()
        self.cut()
        await self._closed.wait()
        await self._server.wait_closed()

    # What was seen

    def count(self, type_id: int) -> int:
        """How many requests of this type passed."""
        return sum(request.type_id == type_id for request in self.requests)

    def acknowledged(self) -> list[tuple[int, int]]:
        """All (subscription, sequence number) acknowledgements so far."""
        return [pair for request in self.requests for pair in request.acknowledged]

    def assert_read_only(self) -> None:
        """Every request so far only reads; there was at least one."""
        seen = {request.type_id for request in self.requests}
        assert seen, "nothing passed the proxy"
        assert not seen - READ_ONLY_SERVICES.keys(), f"forbidden services: {sorted(seen - READ_ONLY_SERVICES.keys())}"

    def assert_within(self, requests_per_s: float, window_s: float = 5.0) -> None:
        """No `window_s` saw more requests than the budget allows.

        One second of the budget may come on top: the proxy takes the time when it gets to read, and machines stall.
        """
        times = [request.at for request in self.requests]
        allowed = requests_per_s * (window_s + 1)
        first = 0
        for last, at in enumerate(times):
            while at - times[first] > window_s:
                first += 1
            assert last - first + 1 <= allowed, f"{last - first + 1} requests in {window_s:g} s, {allowed:g} allowed"

    # What can be done to it

    def redirect(self, port: int) -> None:
        """From the next connection on, another server answers: the same one after a restart, say."""
        self._target = (self._target[0], port)

    def cut(self) -> None:
        """Abort every connection."""
        for writer in self._writers:
            writer.transport.abort()

    def freeze(self) -> None:
        """Keep connections open and let nothing through."""
        self._open.clear()

    def resume(self) -> None:
        """End `freeze`."""
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        self.most_connections = max(self.most_connections, self.open_connections)
        self._closed.clear()
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if self.broken:
                    writer.transport.abort()
                    return
                upstream_reader, upstream_writer = await asyncio.open_connection(*self._target, local_addr=self._source)
                self._writers.add(upstream_writer)
                try:
                    await self._both(reader, writer, upstream_reader, upstream_writer)
                finally:
                    self._writers.discard(upstream_writer)
                    upstream_writer.close()
        finally:
            self._writers.discard(writer)
            writer.close()
            self.open_connections -= 1
            if not self.open_connections:
                self._closed.set()

    async def _both(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream_reader: asyncio.StreamReader,
        upstream_writer: asyncio.StreamWriter,
    ) -> None:
        up = asyncio.create_task(self._pump(reader, upstream_writer, _Messages(), True), name="client to server")
        down = asyncio.create_task(self._pump(upstream_reader, writer, _Messages(), False), name="server to client")
        try:
            await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, messages: _Messages, to_server: bool
    ) -> None:
        while True:
            head = await reader.readexactly(8)
            chunk = head + await reader.readexactly(struct.unpack_from("<I", head, 4)[0] - 8)
            message = None if self._secure else messages.add(chunk)
            if message is not None:
                type_id, offset = _type_id(message)
                if to_server:
                    acknowledged = _acknowledged(message, offset) if type_id == PUBLISH else ()
                    releases = type_id == HISTORY_READ and _releases(message, offset)
                    self.requests.append(Request(type_id, self._clock(), acknowledged, releases))
                else:
                    self.responses.append(type_id)
                    if self.tamper is not None:
                        chunk = self.tamper(type_id, chunk)
            await self._open.wait()
            writer.write(chunk)
            await writer.drain()


class _Messages:
    """Joins chunks to messages (Part 6, 6.7.2)."""

    def __init__(self) -> None:
        self._parts: dict[int, bytes] = {}

    def add(self, chunk: bytes) -> bytes | None:
        """The message's body if `chunk` completes it; None for the rest, handshakes and errors included."""
        kind, final = chunk[:3], chunk[3:4]
        if kind == b"OPN":
            offset = 12
            for _ in range(3):  # policy, certificate, thumbprint
                offset += 4 + max(struct.unpack_from("<i", chunk, offset)[0], 0)
        elif kind in (b"MSG", b"CLO"):
            offset = 16
        else:
            return None
        request_id = struct.unpack_from("<I", chunk, offset + 4)[0]
        body = self._parts.pop(request_id, b"") + chunk[offset + 8 :]
        if final == b"C":
            self._parts[request_id] = body
            return None
        return body if final == b"F" else None


def _type_id(body: bytes) -> tuple[int, int]:
    if body[0] == 0:
        return body[1], 2
    if body[0] == 1:
        return struct.unpack_from("<H", body, 2)[0], 4
    assert body[0] == 2, "a service's type id is numeric"
    return struct.unpack_from("<I", body, 3)[0], 7


def _acknowledged(body: bytes, offset: int) -> tuple[tuple[int, int], ...]:
    """Read the acknowledgements (Part 4, 5.13.5)."""
    offset = _skip_header(body, offset)
    count = max(struct.unpack_from("<i", body, offset)[0], 0)
    return tuple(struct.unpack_from("<II", body, offset + 4 + 8 * i) for i in range(count))


def _releases(body: bytes, offset: int) -> bool:
    """Skip the details and the timestamps to return, read releaseContinuationPoints (Part 4, 5.11.3)."""
    offset = _skip_node_id(body, _skip_header(body, offset)) + 1
    offset += 4 + max(struct.unpack_from("<i", body, offset)[0], 0) + 4
    return body[offset] != 0


def _skip_header(body: bytes, offset: int) -> int:
    """Where the request header ends (Part 4, 7.32)."""
    offset = _skip_node_id(body, offset) + 8 + 4 + 4
    offset += 4 + max(struct.unpack_from("<i", body, offset)[0], 0) + 4
    return _skip_node_id(body, offset) + 1


def _skip_node_id(body: bytes, offset: int) -> int:
    kind = body[offset]
    if kind in (0, 1, 2, 4):
        return offset + {0: 2, 1: 4, 2: 7, 4: 19}[kind]
    length: int = struct.unpack_from("<i", body, offset + 3)[0]
    return offset + 7 + max(length, 0)
