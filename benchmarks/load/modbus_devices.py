"""Modbus/TCP devices that answer from a pre-encoded register image: faster than what they are to load.

    python -m benchmarks.load.modbus_devices --devices 10

Each device listens on a port of its own and answers function codes 3 and 4 (MODBUS Application Protocol V1.1b3, 6.3
and 6.4) for any station. All share one image of 65,536 registers that changes every 50 ms: the float32 at register 2k
(ABCD) carries slot k and the image's tick, see `slot_values`. With --apart device d begins elsewhere in the image
(`shift_of`), so that a value of one device is wrong in another; with --measured the values are those of transmitters,
anew each second (`measured`). Commands on standard input: `stats`; `cycles`: when
register 0 was asked for since it was asked last; `restart`, and then `cadence PERIOD_S`: the cycles that devices were
asked for since, and those that were left out.
"""

from __future__ import annotations

import argparse
import asyncio
import struct
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import uvloop

from benchmarks.load import measured
from benchmarks.load.cadence import Cadence
from benchmarks.load.scramble import scramble, unscramble
from benchmarks.rig import control

REGISTERS: Final = 65_536
SLOT_SPAN: Final = 40_000
"""more than the number of floats"""
TICKS: Final = 400
"""a float32 holds 24 bits: the tick begins anew after so many"""
BITS: Final = 24
FRACTION: Final = 128.0
CHANGE_S: Final = 0.05
SECOND_S: Final = 1.0
MOST_STARTS: Final = 10_000
"""cycles whose beginnings are kept"""

_REQUEST: Final = struct.Struct(">HHHBBHH")
_RESPONSE: Final = struct.Struct(">HHHBBB")
_EXCEPTION: Final = struct.Struct(">HHHBBB")
SLOTS: Final = REGISTERS // 2
_SLOTS: Final = np.arange(SLOTS)
_MOST_REGISTERS: Final = 125
_APART: Final = 1009
"""odd, so that all `SLOTS` devices begin at different slots"""


def slot_values(tick: int, slots: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """float32[n]: what the float at register 2 x slot reads at `tick`; exact, distinct for `TICKS` ticks."""
    return (scramble(tick % TICKS * SLOT_SPAN + slots, BITS) / FRACTION).astype(np.float32)


def slots_of(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Which slots the values belong to."""
    return unscramble(np.rint(values * FRACTION).astype(np.int64), BITS) % SLOT_SPAN


def shift_of(device: int) -> int:
    """Slot that stands in the first two registers of a device that is apart."""
    return device * _APART % SLOTS


class Image:
    """The registers as they go over the wire, and what was read of them."""

    def __init__(self, values: Callable[[int, npt.NDArray[np.int64]], npt.NDArray[Any]] = slot_values) -> None:
        self._values = values
        self.tick = 0
        self.data = b""
        self.requests = self.registers = self.refused = self.connections = 0
        self._starts: deque[float] = deque(maxlen=MOST_STARTS)
        self._cadence = Cadence()
        self.change()

    def change(self) -> None:
        """Move on to the next tick."""
        self.tick += 1
        data = self._values(self.tick, _SLOTS).astype(">f4").tobytes()
        self.data = data + data[: 2 * _MOST_REGISTERS]  # a read that begins near the end goes on at the beginning

    def asked(self, device: int, start: int, count: int) -> None:
        """Registers were read."""
        now = time.monotonic()
        self.requests += 1
        self.registers += count
        self._cadence.asked((device, start), now)
        if start == 0:
            self._starts.append(now)

    def cycles(self) -> dict[str, Any]:
        """When each cycle began since this was asked for last, monotonic seconds; forgets them."""
        starts = list(self._starts)
        self._starts.clear()
        return {"starts": starts}

    def restart(self) -> dict[str, bool]:
        """Count cycles anew."""
        self._cadence.restart(time.monotonic())
        return {"restarted": True}

    def cadence(self, period_s: float) -> dict[str, Any]:
        """See `Cadence.account`."""
        return self._cadence.account(period_s, time.monotonic())

    def snapshot(self) -> dict[str, Any]:
        """Counts so far."""
        return {
            "requests": self.requests,
            "registers": self.registers,
            "refused": self.refused,
            "connections": self.connections,
            "cpu_s": control.cpu_s(),
            "time": time.monotonic(),
        }


class Device(asyncio.Protocol):
    """One connection to one device."""

    def __init__(self, image: Image, number: int, shift: int) -> None:
        self._image, self._number, self._shift = image, number, shift
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are not derived from it
        self._image.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._image.connections -= 1

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._rest:
            data = self._rest + data
        whole = len(data) - len(data) % _REQUEST.size
        answers = [self._answer(*request) for request in _REQUEST.iter_unpack(data[:whole])]
        self._rest = data[whole:]
        assert self._transport is not None
        self._transport.write(answers[0] if len(answers) == 1 else b"".join(answers))

    def _answer(self, transaction: int, _: int, length: int, unit: int, function: int, start: int, count: int) -> bytes:
        image = self._image
        if length != 6 or function not in (3, 4) or not 1 <= count <= _MOST_REGISTERS or start + count > REGISTERS:
            image.refused += 1
            return _EXCEPTION.pack(transaction, 0, 3, unit, function | 0x80, 2 if function in (3, 4) else 1)
        image.asked(self._number, start, count)
        head = _RESPONSE.pack(transaction, 0, 3 + 2 * count, unit, function, 2 * count)
        at = 2 * ((start + 2 * self._shift) % REGISTERS)
        return head + image.data[at : at + 2 * count]


async def run(arguments: argparse.Namespace) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    image = Image(measured.shown if arguments.measured else slot_values)
    period = SECOND_S if arguments.measured else CHANGE_S
    servers = [
        await loop.create_server(
            partial(Device, image, device, shift_of(device) if arguments.apart else 0),
            arguments.host,
            arguments.port + device if arguments.port else 0,
            backlog=1024,
        )
        for device in range(arguments.devices)
    ]
    control.say({"ports": [server.sockets[0].getsockname()[1] for server in servers]})

    def change() -> None:
        image.change()
        loop.call_later(period, change)

    if not arguments.still:
        change()
    commands: control.Commands = {
        "stats": image.snapshot,
        "cycles": image.cycles,
        "restart": image.restart,
        "cadence": image.cadence,
    }
    await control.serve(commands, arguments.seconds)


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="of the first device; 0 = any free ones")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--apart", action="store_true", help="each device has values of its own")
    parser.add_argument("--measured", action="store_true", help="values as of a plant's transmitters")
    parser.add_argument("--still", action="store_true", help="the registers never change")
    parser.add_argument("--seconds", type=float, default=None, help="end after so long; else with standard input")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
