"""Replies found on a line: whole, cut, in noise, behind others, and never one whose checksum is wrong."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.modbus.framing import Ascii, Frame, Framing, Rtu
from tests.support.modbus_line import ascii_frame, rtu_frame

Make = Callable[[bytes], bytes]
BOTH = pytest.mark.parametrize(("framing", "make"), [(Rtu(), rtu_frame), (Ascii(), ascii_frame)], ids=["rtu", "ascii"])

registers = st.binary(min_size=2, max_size=250).filter(lambda data: len(data) % 2 == 0)


def reply(station: int, data: bytes, function: int = 3) -> bytes:
    return bytes((station, function, len(data))) + data


def accept(frame: Frame) -> bool:
    return True


@BOTH
def test_requests_are_those_of_the_standard(framing: Framing, make: Make) -> None:
    pdu = bytes.fromhex("03006b0003")
    assert framing.encode(17, pdu) == make(b"\x11" + pdu)


@BOTH
@given(data=registers, cut=st.integers(0, 600))
def test_a_reply_is_found_when_it_is_whole_and_not_before(framing: Framing, make: Make, data: bytes, cut: int) -> None:
    frame = make(reply(7, data))
    find = framing.recognise(7, 3, len(data), accept)
    assert len(frame) == framing.reply_bytes(len(data))
    if cut < len(frame):
        assert find(frame[:cut])[1] is None
    assert find(frame) == (len(frame), Frame(7, reply(7, data)[1:]))


@BOTH
@given(data=registers, noise=st.binary(max_size=40))
def test_noise_before_a_reply_is_passed_over(framing: Framing, make: Make, data: bytes, noise: bytes) -> None:
    frame = make(reply(7, data))
    used, found = framing.recognise(7, 3, len(data), lambda frame: frame.pdu[2:] == data)(noise + frame)
    assert found is not None
    assert (used, found.station) == (len(noise) + len(frame), 7)


@given(data=registers, noise=st.binary(max_size=600), sizes=st.lists(st.integers(1, 40), min_size=1))
def test_what_was_looked_at_is_not_kept_and_a_reply_in_pieces_is_found(
    data: bytes, noise: bytes, sizes: list[int]
) -> None:
    """A line that is never quiet: what is kept, and looked at again, is less than one frame."""
    find = Rtu().recognise(7, 3, len(data), lambda frame: frame.pdu[2:] == data)
    heard, rest = b"", noise + rtu_frame(reply(7, data))
    found = None
    for size in itertools.cycle(sizes):
        heard, rest = heard + rest[:size], rest[size:]
        used, found = find(heard)
        heard = heard[used:]
        assert len(heard) <= 260
        if found or not rest:
            break
    assert found == Frame(7, reply(7, data)[1:])


@BOTH
@given(data=registers, bit=st.integers(0, 10_000))
def test_a_flipped_bit_is_no_reply(framing: Framing, make: Make, data: bytes, bit: int) -> None:
    frame = bytearray(make(reply(7, data)))
    frame[bit // 8 % len(frame)] ^= 1 << bit % 8
    found = framing.recognise(7, 3, len(data), accept)(bytes(frame))[1]
    # In ASCII a flipped bit may only change the case of a digit.
    assert found is None or (framing.name == "ascii" and found.pdu[2:] == data)


@BOTH
def test_frames_that_are_not_wanted_are_passed_over(framing: Framing, make: Make) -> None:
    others = make(reply(8, b"\1\2")) + make(reply(7, b"\1\2")) + make(b"\x07\x83\x06")
    wanted = make(reply(7, b"\3\4\5\6"))
    used, found = framing.recognise(7, 3, 4, lambda frame: frame.pdu[1:2] == b"\4")(others + wanted)
    assert (used, found) == (len(others + wanted), Frame(7, b"\3\4\3\4\5\6"))


@BOTH
def test_an_exception_is_a_reply(framing: Framing, make: Make) -> None:
    frame = make(b"\x07\x83\x02")
    assert framing.recognise(7, 3, 2, accept)(frame) == (len(frame), Frame(7, b"\x83\x02"))


@given(st.binary(max_size=600))
def test_anything_may_be_on_the_wire(heard: bytes) -> None:
    for framing in (Rtu(), Ascii()):
        used, found = framing.recognise(7, 3, 2, lambda frame: False)(heard)
        assert 0 <= used <= len(heard)
        assert found is None
