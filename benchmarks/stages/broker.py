"""As much of an MQTT 5 broker as takes messages: it grants, acknowledges and counts, in a thread of its own.

(OASIS MQTT 5.0, 3.1 to 3.14.) Not Mosquitto: the counting of a stage wants a broker whose answers need no subscriber.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import IO, Final, Self

_CONNECT, _PUBLISH, _SUBSCRIBE, _PINGREQ = 1, 3, 8, 12
_CONNACK: Final = bytes([0x20, 3, 0, 0, 0])
_PUBACK: Final = bytes([0x40, 2])
_SUBACK: Final = bytes([0x90, 4])
_PINGRESP: Final = bytes([0xD0, 0])
_COUNT: Final = re.compile(rb'"count":(\d+)')
_HEAD_BYTES: Final = 1_000
"""of a payload, in which the number of its readings stands"""


class CountingBroker:
    """`with CountingBroker() as broker: broker.expect(readings, enough)`"""

    def __init__(self) -> None:
        self._left = 0
        self._enough: Callable[[], object] = _nothing
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, name="broker")

    def expect(self, readings: int, enough: Callable[[], object]) -> None:
        """Call `enough`, in the broker's thread, when so many more readings have been acknowledged."""
        self._left, self._enough = readings, enough

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits for a connection
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, client.makefile("rb") as received:
                while (packet := received.read(1)) and self._answer(
                    client, packet[0], received.read(_length(received))
                ):
                    pass

    def _answer(self, client: socket.socket, first: int, body: bytes) -> bool:
        """False: the client has said goodbye."""
        kind = first >> 4
        if kind == _CONNECT:
            client.sendall(_CONNACK)
        elif kind == _PUBLISH:
            size = int.from_bytes(body[:2], "big")
            client.sendall(_PUBACK + body[2 + size : 4 + size])
            if body[2 : 2 + size].endswith(b"/readings"):
                self._count(body[4 + size : 4 + size + _HEAD_BYTES])
        elif kind == _SUBSCRIBE:
            client.sendall(_SUBACK + body[:2] + bytes([0, 1]))
        elif kind == _PINGREQ:
            client.sendall(_PINGRESP)
        else:
            return False
        return True

    def _count(self, head: bytes) -> None:
        found = _COUNT.search(head)
        if found is None:
            raise ValueError(f"a readings message without its count: {head!r}")
        self._left -= int(found[1])
        if self._left <= 0:
            enough, self._enough = self._enough, _nothing
            enough()


def _nothing() -> None:
    """Nobody waits."""


def _length(received: IO[bytes]) -> int:
    """A variable byte integer (1.5.5)."""
    value = shift = 0
    while byte := received.read(1):
        value |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80:
            break
    return value
