"""An MQTT broker that takes everything at once and acknowledges readings at a rate, in the order in which they came.

    python -m benchmarks.load.slow_broker --port 1884 --rate 10000

What a receiver far away or an overloaded centre is to a publisher. Speaks as much of MQTT 5 as a publisher with QoS 1
needs (OASIS MQTT 5.0, 3.1 to 3.14), passes nothing on, keeps nothing but counts. What is not readings is acknowledged
at once. Commands on standard input: `stats`.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections import deque
from typing import Any, Final, cast

import uvloop

from benchmarks.rig import control

_COUNT: Final = re.compile(rb'"n":\d+,"count":(\d+)')
_HEAD_BYTES: Final = 512
_CONNECT, _PUBLISH, _SUBSCRIBE, _PINGREQ, _DISCONNECT = 1, 3, 8, 12, 14
_CONNACK: Final = b"\x20\x03\x00\x00\x00"
_PINGRESP: Final = b"\xd0\x00"


class Pace:
    """Says when each message may be acknowledged: `rate` readings/s, nothing saved up over a pause. Pure."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free = 0.0

    def due(self, readings: int, now: float) -> float:
        """When a message that came at `now` with so many readings is to be acknowledged, seconds."""
        self._free = max(self._free, now) + readings / self._rate
        return self._free


class Account:
    """What all connections share."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.connections = self.messages = self.readings = self.acknowledged = 0
        self.unacknowledged = self.unacknowledged_bytes = 0
        self.most_messages = self.most_bytes = 0

    def came(self, size: int, readings: int) -> None:
        """A message with readings."""
        self.messages += 1
        self.readings += readings
        self.unacknowledged += 1
        self.unacknowledged_bytes += size
        self.most_messages = max(self.most_messages, self.unacknowledged)
        self.most_bytes = max(self.most_bytes, self.unacknowledged_bytes)

    def left(self, size: int) -> None:
        """It is acknowledged, or its connection has ended."""
        self.unacknowledged -= 1
        self.unacknowledged_bytes -= size

    def snapshot(self) -> dict[str, Any]:
        """Counts so far; `most_...`: the most that waited for an acknowledgement at a time."""
        counts = {key: value for key, value in vars(self).items() if isinstance(value, int)}
        return {**counts, "cpu_s": control.cpu_s(), "time": time.monotonic()}


class Connection(asyncio.Protocol):
    """One publisher."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._buffer = bytearray()
        self._waiting: deque[tuple[float, bytes, int, int]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are not derived from it
        self._account.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._account.connections -= 1
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        for _, _, size, _ in self._waiting:
            self._account.left(size)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._buffer += data
        while (packet := _packet(self._buffer)) is not None:
            start, end = packet
            self._take(self._buffer[0] >> 4, bytes(self._buffer[start:end]), end)
            del self._buffer[:end]

    def _take(self, kind: int, body: bytes, size: int) -> None:
        if kind == _CONNECT:
            self._write(_CONNACK)
        elif kind == _PUBLISH:
            self._publish(body, size)
        elif kind == _SUBSCRIBE:
            self._write(b"\x90\x04" + body[:2] + b"\x00\x01")
        elif kind == _PINGREQ:
            self._write(_PINGRESP)
        elif kind == _DISCONNECT and self._transport is not None:
            self._transport.close()

    def _publish(self, body: bytes, size: int) -> None:
        name = int.from_bytes(body[:2], "big") + 2
        acknowledgement = b"\x40\x02" + body[name : name + 2]
        if not body[2:name].endswith(b"/readings"):
            self._write(acknowledgement)
            return
        found = _COUNT.search(body, 0, _HEAD_BYTES)
        readings = int(found[1]) if found else 0
        self._account.came(size, readings)
        due = self._account.pace.due(readings, asyncio.get_running_loop().time())
        self._waiting.append((due, acknowledgement, size, readings))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(due, self._acknowledge)

    def _acknowledge(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting and self._waiting[0][0] <= loop.time():
            _, acknowledgement, size, readings = self._waiting.popleft()
            self._account.left(size)
            self._account.acknowledged += readings
            self._write(acknowledgement)
        self._timer = loop.call_at(self._waiting[0][0], self._acknowledge) if self._waiting else None

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def _packet(buffer: bytearray) -> tuple[int, int] | None:
    """Where the rest of the first packet begins, and where it ends; None while it is not whole (1.5.5, 2.1)."""
    value = shift = 0
    for position in range(1, min(5, len(buffer))):
        byte = buffer[position]
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            end = position + 1 + value
            return (position + 1, end) if len(buffer) >= end else None
    return None


async def run(arguments: argparse.Namespace) -> None:
    """Serve until standard input ends."""
    account = Account(Pace(arguments.rate))
    server = await asyncio.get_running_loop().create_server(lambda: Connection(account), "127.0.0.1", arguments.port)
    control.say({"port": server.sockets[0].getsockname()[1]})
    await control.serve({"stats": account.snapshot}, None)


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rate", type=float, required=True, help="readings/s that are acknowledged")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
