"""A broker that does what a test tells it: lets in, acknowledges, withholds, refuses by reason code, or takes its time.

Speaks as much of MQTT 5 as a publisher with QoS 1 needs (OASIS MQTT 5.0, 3.1 to 3.14), written for the tests alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import orjson

from tests.support.local_server import LocalServer

Answer = Callable[[str], int | None]
"""gets the topic; returns the PUBACK's reason code, or None to withhold it"""

Pace = Callable[[], Awaitable[None]]
"""is awaited before each acknowledgement"""


class Connect(NamedTuple):
    """What a client says of itself (3.1)."""

    client_id: str
    user: str | None
    password: str | None
    will: str | None
    """the topic of the will"""


Welcome = Callable[[Connect], int]
"""returns the CONNACK's reason code"""

_CONNACK, _PUBACK, _SUBACK, _PINGRESP = 2, 4, 9, 13
_TOO_LARGE = 0x95


class ScriptedBroker(LocalServer):
    """`async with ScriptedBroker(answer) as broker: ... broker.port`"""

    def __init__(self, answer: Answer = lambda topic: 0, *, pace: Pace | None = None) -> None:
        """`answer` may be replaced at any time."""
        super().__init__()
        self.answer = answer
        self.largest: int | None = None
        """bytes of a packet; what is larger is answered with "packet too large" (0x95)"""
        self.subscription = 1
        """reason code for every subscription; below 0x80 it is granted, though nothing is ever passed on"""
        self.connections = 0
        self.welcome: Welcome = lambda connect: 0
        self.retained = 0
        """messages that were to be retained"""
        self.taken: Counter[int] = Counter()
        """how often each offset came in a readings message that was acknowledged with success"""
        self._pace = pace
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Abort every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """See LocalServer."""
        self.connections += 1
        self._writers.add(writer)
        try:
            while await self._packet(reader, writer):
                await writer.drain()
        finally:
            self._writers.discard(writer)

    async def _packet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        (first,) = await reader.readexactly(1)
        body = await reader.readexactly(await _length(reader))
        match first >> 4:
            case 1:
                code = self.welcome(_connect(body))
                writer.write(bytes([_CONNACK << 4, 3, 0, code, 0]))
                return code == 0
            case 3:
                self.retained += first & 1
                await self._publish(body, writer)
            case 8:
                writer.write(bytes([_SUBACK << 4, 4]) + body[:2] + bytes([0, self.subscription]))
            case 12:
                writer.write(bytes([_PINGRESP << 4, 0]))
            case 14:
                return False
        return True

    async def _publish(self, body: bytes, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(body[:2], "big")
        topic, rest = body[2 : 2 + size].decode(), body[2 + size :]
        code = self.answer(topic) if self.largest is None or len(body) <= self.largest else _TOO_LARGE
        if self._pace is not None:
            await self._pace()
        if code is None:
            return
        if code < 0x80 and topic.endswith("/readings"):
            document = orjson.loads(rest[rest.index(b'{"schema"') :])
            self.taken.update(range(document["n"], document["n"] + document["count"]))
        writer.write(bytes([_PUBACK << 4, 3]) + rest[:2] + bytes([code]))


def _connect(body: bytes) -> Connect:
    """The fields of a CONNECT packet of MQTT 5 (3.1.2 and 3.1.3)."""
    assert body[:7] == b"\x00\x04MQTT\x05"
    flags, at = body[7], 10

    def skip_properties() -> None:
        nonlocal at
        assert body[at] < 0x80, "more properties than tests have"
        at += 1 + body[at]

    def field() -> str:
        nonlocal at
        size = int.from_bytes(body[at : at + 2], "big")
        at += 2 + size
        return body[at - size : at].decode()

    skip_properties()
    client_id, will = field(), None
    if flags & 0x04:
        skip_properties()
        will = field()
        field()
    user = field() if flags & 0x80 else None
    return Connect(client_id, user, field() if flags & 0x40 else None, will)


async def _length(reader: asyncio.StreamReader) -> int:
    """A variable byte integer (1.5.5)."""
    value = shift = 0
    while True:
        (byte,) = await reader.readexactly(1)
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value
