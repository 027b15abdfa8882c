"""Frames on lines without message boundaries: RTU and ASCII (MODBUS over Serial Line V1.02, 2.5.1 and 2.5.2). Pure.

pymodbus makes the frames and the checksums. Finding a reply is ours: on a shared wire there is noise, there are late
replies and other stations' ones, and pymodbus throws away everything behind the first misfit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from pymodbus.framer import FramerAscii, FramerRTU
from pymodbus.pdu import DecodePDU

_DECODER: Final = DecodePDU(False)
_RTU: Final = FramerRTU(_DECODER)
_ASCII: Final = FramerAscii(_DECODER)

_EXCEPTION_BYTES: Final = 5
_OVERHEAD_BYTES: Final = 5
"""station, function code, byte count, two of checksum"""
_LONGEST_ASCII: Final = 513


class Frame(NamedTuple):
    """A reply whose checksum is right; nothing else of it is checked."""

    station: int
    pdu: bytes


Wanted = Callable[[Frame], bool]
"""Whether a frame is the one that is waited for; others are dropped"""
Recognise = Callable[[bytes], tuple[int, Frame | None]]
"""See `adapters.lines.line`"""


class Framing(Protocol):
    """How requests are put on a line, and replies found on it."""

    name: str

    def encode(self, station: int, pdu: bytes) -> bytes:
        """A request as it goes on the wire."""
        ...

    def reply_bytes(self, nbytes: int) -> int:
        """Characters on the wire of a reply with so many data bytes."""
        ...

    def recognise(self, station: int, function: int, nbytes: int, wanted: Wanted) -> Recognise:
        """The recognition of one reply, which should have so many data bytes, for `Line.exchange`."""
        ...


class Rtu:
    """Binary frames, ended by silence that no operating system tells us of: their length follows from their content."""

    name = "rtu"

    def encode(self, station: int, pdu: bytes) -> bytes:
        """See `Framing`."""
        return _RTU.encode(pdu, station, 0)

    def reply_bytes(self, nbytes: int) -> int:
        """See `Framing`."""
        return nbytes + _OVERHEAD_BYTES

    def recognise(self, station: int, function: int, nbytes: int, wanted: Wanted) -> Recognise:
        """See `Framing`."""
        begins, whole = bytes((station, function, nbytes)), nbytes + _OVERHEAD_BYTES

        def find(buffer: bytes) -> tuple[int, Frame | None]:
            if len(buffer) < _EXCEPTION_BYTES or (buffer.startswith(begins) and len(buffer) < whole):
                return 0, None
            unknown = len(buffer) - _EXCEPTION_BYTES + 1
            """where the first frame may begin that is not whole yet; what comes before need not be looked at again"""
            for start in range(unknown):
                end = start + _length(buffer, start)
                if end > len(buffer):
                    unknown = min(unknown, start)
                elif start < end and _checksum_fits(buffer, start, end):
                    frame = Frame(buffer[start], buffer[start + 1 : end - 2])
                    if wanted(frame):
                        return end, frame
            return unknown, None

        return find


def _length(buffer: bytes, start: int) -> int:
    """Bytes of the reply that may begin here; 0 if none may."""
    function = buffer[start + 1]
    if function & 0x80:
        return _EXCEPTION_BYTES if 0x81 <= function <= 0x84 else 0
    return _OVERHEAD_BYTES + buffer[start + 2] if 1 <= function <= 4 else 0


def _checksum_fits(buffer: bytes, start: int, end: int) -> bool:
    return FramerRTU.check_CRC(buffer[start : end - 2], int.from_bytes(buffer[end - 2 : end], "big"))


class Ascii:
    """Hexadecimal text between a colon and a line end."""

    name = "ascii"

    def encode(self, station: int, pdu: bytes) -> bytes:
        """See `Framing`."""
        return _ASCII.encode(pdu, station, 0)

    def reply_bytes(self, nbytes: int) -> int:
        """See `Framing`."""
        return 2 * (nbytes + _OVERHEAD_BYTES - 1) + 3

    def recognise(self, station: int, function: int, nbytes: int, wanted: Wanted) -> Recognise:
        """See `Framing`."""

        def find(buffer: bytes) -> tuple[int, Frame | None]:
            used = 0
            while (end := buffer.find(b"\r\n", used)) >= 0:
                start = buffer.rfind(b":", used, end)
                used = end + 2
                frame = _ascii_frame(buffer[start + 1 : end]) if start >= 0 else None
                if frame is not None and wanted(frame):
                    return used, frame
            return max(used, len(buffer) - _LONGEST_ASCII), None

        return find


def _ascii_frame(text: bytes) -> Frame | None:
    try:
        content = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        return None
    if len(content) < 4 or not FramerAscii.check_LRC(content[:-1], content[-1]):
        return None
    return Frame(content[0], content[1:-1])
