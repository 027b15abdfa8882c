"""A lean MQTT 5 subscriber with QoS 1 on a blocking socket.

paho spends about 60 us of Python per message and copies each payload several times; the receiver shares its core with
the broker and the load server, so it does the least that the protocol allows (MQTT 5.0, sections 2 and 3).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

_BUFFER: Final = 1 << 22
_LARGEST: Final = 1 << 24
_CONNECT: Final = 0x10
_PUBLISH: Final = 3
_SUBSCRIBE: Final = 0x82
_SUBACK: Final = 9


class Message(NamedTuple):
    """A PUBLISH packet; the payload is only valid until the next message is asked for."""

    topic: str
    payload: memoryview
    size: int
    """of the whole packet on the wire, bytes"""


class Subscriber:
    """Subscribes to everything below a topic; `messages` yields until `wait_s` pass without any.

    With `keep_s` the broker keeps what comes while this client is away for so long (3.1.2.11.2, Session Expiry).
    """

    def __init__(self, host: str, port: int, topic: str, *, keep_s: int = 0) -> None:
        self._socket = socket.create_connection((host, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._buffer = bytearray(_BUFFER)
        self._start = self._end = 0
        properties = b"\x21\xff\xff\x11" + struct.pack(">I", keep_s)  # Receive Maximum 65,535, Session Expiry
        client = b"edge-gateway-bench-receiver"
        clean_start = b"\0" if keep_s else b"\2"
        self._send(
            _CONNECT,
            b"\0\4MQTT\5" + clean_start + b"\0\0" + _length(len(properties)) + properties
            + struct.pack(">H", len(client)) + client,
        )  # fmt: skip
        _, start, _, _ = self._packet(None)
        if self._buffer[start] & 1:  # Session Present: it is subscribed, and messages may follow at once
            return
        name = topic.encode()
        self._send(_SUBSCRIBE, b"\0\1\0" + struct.pack(">H", len(name)) + name + b"\1")
        while self._packet(None)[0] >> 4 != _SUBACK:
            pass

    def messages(self, wait_s: float) -> Iterator[Message | None]:
        """Each message as it comes, acknowledged when the next one is asked for; None after `wait_s` without any."""
        while True:
            try:
                kind, start, end, size = self._packet(wait_s)
            except TimeoutError:
                yield None
                continue
            if kind >> 4 != _PUBLISH:
                continue
            buffer = self._buffer
            length = buffer[start] << 8 | buffer[start + 1]
            position = start + 2 + length
            topic = buffer[start + 2 : position].decode()
            packet = b""
            if kind & 0x06:
                packet = bytes(buffer[position : position + 2])
                position += 2
            skip, position = _read_length(buffer, position)
            with memoryview(buffer)[position + skip : end] as payload:
                yield Message(topic, payload, size)
            if packet:
                self._socket.sendall(b"\x40\x02" + packet)

    def close(self) -> None:
        """Leave without a word."""
        self._socket.close()

    def _send(self, kind: int, body: bytes) -> None:
        self._socket.sendall(bytes((kind,)) + _length(len(body)) + body)

    def _packet(self, wait_s: float | None) -> tuple[int, int, int, int]:
        """(first byte, start and end of the rest in the buffer, size of the whole packet)."""
        self._socket.settimeout(wait_s)
        self._need(2)
        used = 2
        while self._buffer[self._start + used - 1] & 0x80:
            used += 1
            self._need(used)
        length, _ = _read_length(self._buffer, self._start + 1)
        size = used + length
        self._need(size)
        kind, start = self._buffer[self._start], self._start + used
        self._start += size
        return kind, start, start + length, size

    def _need(self, size: int) -> None:
        while self._end - self._start < size:
            if self._start + size > len(self._buffer):
                rest = bytes(self._buffer[self._start : self._end])
                if size > len(self._buffer):
                    self._buffer = bytearray(_LARGEST)
                self._buffer[: len(rest)] = rest
                self._start, self._end = 0, len(rest)
            with memoryview(self._buffer)[self._end :] as room:
                got = self._socket.recv_into(room)
            if not got:
                raise ConnectionError("the broker closed the connection")
            self._end += got


def _length(value: int) -> bytes:
    """A variable byte integer (1.5.5)."""
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | 0x80 if value else low)
        if not value:
            return bytes(out)


def _read_length(buffer: bytearray, position: int) -> tuple[int, int]:
    """(value, position behind it) of a variable byte integer."""
    value = shift = 0
    while True:
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
        shift += 7
