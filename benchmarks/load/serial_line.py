"""Modbus RTU stations on a pseudo terminal, at the speed of the wire that a pseudo terminal does not have.

    python -m benchmarks.load.serial_line --stations 10 --baud 19200

A character has 11 bits: start, 8 data, even parity, stop (MODBUS over Serial Line V1.02, 2.5.1). A request that comes
takes the time of its 8 characters; after 3.5 characters of silence, which tell the station that it is whole, the
reply begins at once and comes byte by byte, each when its last bit would be through. A request that comes earlier than
3.5 characters behind the reply is a mistake: it is counted and not answered. Station s answers function code 3 like
device s of `modbus_devices --apart`. Commands on standard input: `stats`, `restart`, `exchanges`: what the exchanges
since the restart took, and the least that they can take on such a wire.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import select
import sys
import time
import tty
from typing import Any, Final, NamedTuple

import numpy as np

from benchmarks.load.modbus_devices import SLOTS, shift_of, slot_values
from benchmarks.rig import control

BITS: Final = 11
"""of a character"""
SILENT_CHARACTERS: Final = 3.5
"""between frames (Serial Line V1.02, 2.5.1.1)"""
_FAST_BAUD: Final = 19_200
_FAST_SILENCE_S: Final = 0.00175
"""above 19,200 baud"""
_REQUEST: Final = 8
"""station, function code, first register, number of registers, checksum"""
_OVERHEAD: Final = 5
"""of a reply: station, function code, number of bytes, checksum"""
_MOST_REGISTERS: Final = 125
_READ_HOLDING: Final = 3
_PR_SET_TIMERSLACK: Final = 29


def crc16(frame: bytes) -> bytes:
    """The checksum, low byte first (Serial Line V1.02, 6.2.2)."""
    crc = 0xFFFF
    for byte in frame:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc.to_bytes(2, "little")


def _crc_of_byte(crc: int) -> int:
    for _ in range(8):
        crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


_CRC_TABLE: Final = [_crc_of_byte(byte) for byte in range(256)]


class Wire(NamedTuple):
    """How long things take on it, in seconds."""

    baud: int

    def characters_s(self, count: float) -> float:
        """So many characters, one behind the other."""
        return count * BITS / self.baud

    @property
    def silence_s(self) -> float:
        """Between two frames."""
        return _FAST_SILENCE_S if self.baud > _FAST_BAUD else self.characters_s(SILENT_CHARACTERS)

    def least_s(self, registers: int) -> float:
        """From the first bit of a request to when the next one may begin, of a station that needs no time to think."""
        return self.characters_s(_REQUEST + _OVERHEAD + 2 * registers) + 2 * self.silence_s


class Exchanges:
    """What the exchanges took: from the beginning of each request to the beginning of the next one."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._last: tuple[float, int] | None = None
        self._by_size: dict[int, list[float]] = {}
        """by registers: how many exchanges, the sum of what they took"""
        self._stations: dict[int, int] = {}

    def restart(self) -> None:
        """Count anew, from the next request on."""
        self._last = None
        self._by_size, self._stations = {}, {}

    def began(self, station: int, registers: int, now: float) -> None:
        """A request's first bit came at `now` (s, monotonic)."""
        if self._last is not None:
            before, size = self._last
            sums = self._by_size.setdefault(size, [0, 0.0])
            sums[0] += 1
            sums[1] += now - before
        self._last = now, registers
        self._stations[station] = self._stations.get(station, 0) + 1

    def account(self) -> dict[str, Any]:
        """By size of the reply: how many, what they took and the least that they can take (s); requests by station."""
        return {
            "sizes": {
                str(size): {"exchanges": count, "took_s": took, "least_s": count * self._wire.least_s(size)}
                for size, (count, took) in sorted(self._by_size.items())
            },
            "stations": {str(station): count for station, count in sorted(self._stations.items())},
        }


def answer(request: bytes, tick: int) -> bytes:
    """The reply to a read of holding registers, whose checksum was found right."""
    station, start, count = request[0], int.from_bytes(request[2:4], "big"), int.from_bytes(request[4:6], "big")
    slots = (np.arange(start // 2, (start + count + 1) // 2) + shift_of(station)) % SLOTS
    registers = slot_values(tick, slots).astype(">f4").tobytes()[2 * (start % 2) :][: 2 * count]
    content = request[:2] + bytes((2 * count,)) + registers
    return content + crc16(content)


class SerialLine:
    """The far end of the pseudo terminal."""

    def __init__(self, wire: Wire, stations: int) -> None:
        self._wire = wire
        self._stations = stations
        self._master, self._near = os.openpty()
        # our own hold on the near end keeps the line up while the gateway does not have it open
        tty.setraw(self._near)
        self.path = os.ttyname(self._near)
        self._exchanges = Exchanges(wire)
        self._heard = b""
        self._free_at = 0.0
        """when a request may begin"""
        self.tick = self.requests = self.registers = self.hurried = self.strange = 0
        self.hurried_by_s = 0.0
        """the most by which a request came too soon"""
        self.late_s = 0.0
        """how much later than its time the last byte of each reply came, in sum: what is ours of the time taken"""

    def serve(self) -> None:
        """Answer, and obey standard input, until that ends."""
        commands: control.Commands = {
            "stats": self.snapshot,
            "restart": self.restart,
            "exchanges": self._exchanges.account,
        }
        lines = b""
        while True:
            ready, _, _ = select.select([self._master, sys.stdin], [], [])
            if self._master in ready:
                self.hear(time.monotonic(), os.read(self._master, 4096))
            if sys.stdin in ready:
                if not (more := os.read(sys.stdin.fileno(), 4096)):
                    return
                *whole, lines = (lines + more).split(b"\n")
                for line in whole:
                    control.obey(line.decode(), commands)

    def restart(self) -> dict[str, bool]:
        """Count exchanges anew."""
        self._exchanges.restart()
        self.late_s = 0.0
        return {"restarted": True}

    def snapshot(self) -> dict[str, Any]:
        """Counts so far; `late_s` since the restart."""
        return {
            "requests": self.requests,
            "registers": self.registers,
            "hurried": self.hurried,
            "hurried_by_s": self.hurried_by_s,
            "strange": self.strange,
            "late_s": self.late_s,
            "cpu_s": control.cpu_s(),
            "time": time.monotonic(),
        }

    def hear(self, now: float, data: bytes) -> None:
        """Bytes came at `now` (s, monotonic); returns when the reply is on the line."""
        if now < self._free_at:
            self.hurried += 1
            self.hurried_by_s = max(self.hurried_by_s, self._free_at - now)
            return
        self._heard += data
        if len(self._heard) < _REQUEST:
            return
        request, self._heard = self._heard, b""
        registers = int.from_bytes(request[4:6], "big")
        readable = request[1] == _READ_HOLDING and 1 <= registers <= _MOST_REGISTERS
        if len(request) != _REQUEST or crc16(request[:6]) != request[6:] or not readable or request[0] > self._stations:
            self.strange += 1
            return
        self._exchanges.began(request[0], registers, now)
        self.requests += 1
        self.registers += registers
        self.tick += 1
        self._say(answer(request, self.tick), now + self._wire.characters_s(_REQUEST) + self._wire.silence_s)

    def _say(self, reply: bytes, begins: float) -> None:
        """Each byte when it is through; one that is late does not make the next one late."""
        due = through = begins
        for k in range(len(reply)):
            due = begins + self._wire.characters_s(k + 1)
            if (wait := due - time.monotonic()) > 0:
                time.sleep(wait)
            # before and not after: the byte may be read before this process goes on
            through = max(due, time.monotonic())
            os.write(self._master, reply[k : k + 1])
        self.late_s += through - due
        self._free_at = through + self._wire.silence_s


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stations", type=int, default=1, help="they are numbered from 1 on")
    parser.add_argument("--baud", type=int, default=19_200)
    arguments = parser.parse_args()
    # a wait ends when it should, not up to 50 us later
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)
    line = SerialLine(Wire(arguments.baud), arguments.stations)
    control.say({"path": line.path})
    line.serve()


if __name__ == "__main__":
    main()
