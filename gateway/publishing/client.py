"""paho's client with a short way for QoS 1: what is sent and acknowledged a thousand times a second.

paho makes an object with a lock per message, packs its properties anew, wakes its thread for each, and reads an
acknowledgement in three calls of the kernel. Here everything that one turn of the event loop publishes is one packet
of bytes for it, and the acknowledgements that one call of the kernel gave are taken out of it together. Connecting,
login, TLS, keep-alive, subscriptions and what others publish stay paho's.

A connection lives once, so nothing is kept for sending again: the log is the owner of that.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from paho.mqtt import client as paho
from paho.mqtt.enums import MessageType, MQTTErrorCode

READ_BYTES: Final = 65_536
_PUBLISH_QOS_1: Final = MessageType.PUBLISH | 0x02  # MQTT 5, 3.3.1
_PUBACK: Final = int(MessageType.PUBACK)
_KIND: Final = 0xF0
_ONE_BYTE: Final = 128
_TWO_BYTES: Final = 16_384
"""a length below takes one byte, or two at most (MQTT 5, 1.5.5)"""


class Acknowledgement(NamedTuple):
    """A PUBACK."""

    mid: int
    code: int
    """reason code; without one it is 0, success (MQTT 5, 3.4.2.1); 3.1.1 knows none"""


class Client(paho.Client):
    """Takes the socket that `reach` connects, below TLS and the websocket.

    It remembers it: paho forgets it when the websocket's handshake fails, and then nobody would close it.
    """

    reach: Callable[[], socket.socket]
    taken: Callable[[list[Acknowledgement]], None]
    """gets those that came together, in paho's thread"""
    opened: socket.socket | None = None

    def __init__(self, *arguments: Any, **keys: Any) -> None:
        super().__init__(*arguments, **keys)
        self._event_loop = asyncio.get_running_loop()
        self._gathered: list[bytes] = []
        self._open: set[int] = set()
        """packet identifiers in use"""
        self._link: _BufferedLink | None = None

    def send(self, topic: bytes, payload: bytes, retain: bool, properties: bytes) -> int:
        """Queue a message (MQTT 5, 3.3; 3.1.1 where `properties` is empty); returns its packet identifier.

        For the event loop alone. Messages of one turn of the loop are written together.
        """
        mid = self._mid_generate()
        while mid in self._open:
            mid = self._mid_generate()
        self._open.add(mid)
        if not self._gathered:
            self._event_loop.call_soon(self._flush)
        size = len(topic)
        length = _variable_length(4 + size + len(properties) + len(payload))
        head = b"%c%b%c%c%b%c%c%b" % (
            _PUBLISH_QOS_1 | retain, length, size >> 8, size & 0xFF, topic, mid >> 8, mid & 0xFF, properties,
        )  # fmt: skip
        self._gathered += (head, payload)
        return mid

    def close_pair(self) -> None:
        """After the end of its thread: close what woke it, which paho leaves to the garbage collector."""
        self._reset_sockets(sockpair_only=True)

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Handle all packets that are there: paho's own counts messages that it keeps, and here it keeps none."""
        while self._sock is not None:
            if self._link is not None and not self._in_packet["command"]:
                found = self._link.acknowledgements()
                self._acknowledged(found)
                if found and not self._link.pending():
                    return MQTTErrorCode.MQTT_ERR_SUCCESS  # what came since is told by poll()
            code = self._packet_read()
            if code == MQTTErrorCode.MQTT_ERR_AGAIN:
                return MQTTErrorCode.MQTT_ERR_SUCCESS
            if code > 0:
                return self._loop_rc_handle(code)
        return MQTTErrorCode.MQTT_ERR_NO_CONN

    def _loop(self, timeout: float = 1.0) -> MQTTErrorCode:
        """One turn of paho's thread: wait for the link or for something to write.

        paho's own waits with select(), which fails for descriptors above 1,023: a gateway with a thousand devices has
        them. Where there is no poll() (Windows) it has to do.
        """
        if not hasattr(select, "poll"):
            return super()._loop(timeout)
        link, wake = self._sock, self._sockpairR
        if link is None:
            return MQTTErrorCode.MQTT_ERR_NO_CONN
        events = select.poll()
        try:
            events.register(link, select.POLLIN | (select.POLLOUT if self.want_write() else 0))
            if wake is not None:
                events.register(wake, select.POLLIN)
            below = self._link is not None and self._link.pending() > 0
            ready = dict(events.poll(0 if below else timeout * 1e3))
            woken = wake is not None and wake.fileno() in ready
            readable = below or ready.get(link.fileno(), 0) & ~select.POLLOUT
        except (OSError, ValueError):  # closed by the event loop
            return self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)
        if readable and ((code := self.loop_read()) or self._sock is None):
            return code
        if woken and wake is not None:
            with contextlib.suppress(BlockingIOError):
                wake.recv(READ_BYTES)
        if (woken or ready) and ((code := self.loop_write()) or self._sock is None):
            return code
        return self.loop_misc()

    def _flush(self) -> None:
        packets, self._gathered = self._gathered, []
        # A view: a large packet goes out in parts, and paho would copy the rest for each.
        self._packet_queue(MessageType.PUBLISH, memoryview(b"".join(packets)), 0, 1)  # type: ignore[arg-type]

    def _packet_handle(self) -> MQTTErrorCode:
        if self._in_packet["command"] & _KIND != MessageType.PUBACK:
            return super()._packet_handle()
        # One that came in two parts: the others were taken before paho saw them.
        packet = self._in_packet["packet"]
        if len(packet) < 2:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        self._acknowledged([_acknowledgement(packet)])
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _acknowledged(self, found: Iterable[Acknowledgement]) -> None:
        known = [one for one in found if one.mid in self._open]
        if known:
            self._open.difference_update([one.mid for one in known])
            with self._msgtime_mutex:
                self._last_msg_in = time.monotonic()
            self.taken(known)

    def _create_socket(self) -> Any:
        self._link = _BufferedLink(super()._create_socket())
        return self._link

    def _create_socket_connection(self) -> socket.socket:
        self.opened = self.reach()
        return self.opened


class _BufferedLink:
    """A link as paho uses it; paho reads byte by byte, and gets them from what one call of the kernel gave."""

    def __init__(self, link: Any) -> None:
        self._link = link
        self._read = b""
        self._offset = 0

    def recv(self, most: int) -> bytes:
        """Up to `most` bytes. Raises what the link raises, BlockingIOError where nothing is there."""
        if self._offset == len(self._read):
            self._fill()
        part: bytes = self._read[self._offset : self._offset + most]
        self._offset += len(part)
        return part

    def acknowledgements(self) -> list[Acknowledgement]:
        """Take out the PUBACKs that come next, up to the first packet of another kind, or one that is not whole yet.

        For between two packets. What prevents reading is told by the next `recv`.
        """
        if self._offset == len(self._read):
            with contextlib.suppress(OSError):
                self._fill()
        found: list[Acknowledgement] = []
        data, at = self._read, self._offset
        while at + 4 <= len(data) and data[at] == _PUBACK and 2 <= data[at + 1] < _ONE_BYTE:
            end = at + 2 + data[at + 1]
            if end > len(data):
                break
            found.append(_acknowledgement(data[at + 2 : end]))
            at = end
        self._offset = at
        return found

    def _fill(self) -> None:
        self._read = self._link.recv(READ_BYTES)
        self._offset = 0

    def send(self, content: memoryview) -> int:
        """See socket.socket.send."""
        sent: int = self._link.send(content)
        if not sent and content:
            # paho's websocket says 0 while it holds the rest of a frame, and paho would take the packet for done.
            raise BlockingIOError
        return sent

    def pending(self) -> int:
        """How many bytes were read from the kernel and wait here, or below in TLS."""
        below = getattr(self._link, "pending", None)
        return len(self._read) - self._offset + (below() if below is not None else 0)

    def fileno(self) -> int:
        """See socket.socket.fileno."""
        number: int = self._link.fileno()
        return number

    def setblocking(self, flag: bool) -> None:
        """See socket.socket.setblocking."""
        self._link.setblocking(flag)

    def close(self) -> None:
        """See socket.socket.close."""
        self._link.close()


def _acknowledgement(content: bytes | bytearray) -> Acknowledgement:
    """A PUBACK without its fixed header (MQTT 5, 3.4.2)."""
    return Acknowledgement(content[0] << 8 | content[1], content[2] if len(content) > 2 else 0)


def _variable_length(number: int) -> bytes:
    """MQTT 5, 1.5.5: seven bits a byte, the lowest first."""
    if number < _TWO_BYTES:
        return bytes((number & 0x7F | 0x80, number >> 7)) if number >= _ONE_BYTE else bytes((number,))
    parts = bytearray()
    while True:
        number, low = divmod(number, 128)
        parts.append(low | (0x80 if number else 0))
        if not number:
            return bytes(parts)
