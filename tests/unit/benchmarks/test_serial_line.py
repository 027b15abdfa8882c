"""The simulated line: times by the standard's lengths, replies that carry their station, nothing before its time."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
import tty

import numpy as np
import pytest

from benchmarks.load.modbus_devices import SLOTS, shift_of, slots_of
from benchmarks.load.serial_line import Exchanges, SerialLine, Wire, answer, crc16
from benchmarks.workloads.serial import ratios


def _request(station: int, start: int, registers: int) -> bytes:
    content = bytes((station, 3)) + start.to_bytes(2, "big") + registers.to_bytes(2, "big")
    return content + crc16(content)


def _slots(reply: bytes) -> list[int]:
    return list(map(int, slots_of(np.frombuffer(reply[3:-2], ">f4").astype(np.float64))))


def test_checksum_of_the_standard() -> None:
    assert crc16(bytes.fromhex("0207")) == bytes.fromhex("4112")  # Serial Line V1.02, 6.2.2: 41 goes first
    assert _request(1, 0, 10).hex() == "01030000000ac5cd"


def test_the_least_time_counts_both_frames_and_both_silences() -> None:
    wire = Wire(19_200)
    assert wire.silence_s == pytest.approx(3.5 * 11 / 19_200)
    assert wire.least_s(125) == pytest.approx((8 + 3.5 + 255 + 3.5) * 11 / 19_200)
    assert Wire(38_400).silence_s == 0.00175


def test_a_reply_carries_its_station_and_place() -> None:
    reply = answer(_request(5, 40, 6), tick=9)
    assert reply[:3] == bytes((5, 3, 12))
    assert crc16(reply[:-2]) == reply[-2:]
    assert _slots(reply) == [20 + shift_of(5), 21 + shift_of(5), 22 + shift_of(5)]
    last = answer(_request(2, 2 * (SLOTS - 1), 2), tick=9)
    assert _slots(last) == [(SLOTS - 1 + shift_of(2)) % SLOTS]


def test_exchanges_are_taken_from_request_to_request() -> None:
    exchanges = Exchanges(Wire(19_200))
    exchanges.began(1, 124, 10.0)
    exchanges.began(2, 20, 10.2)
    exchanges.began(1, 124, 10.25)
    sizes = exchanges.account()["sizes"]
    assert sizes["124"] == {"exchanges": 1, "took_s": pytest.approx(0.2), "least_s": Wire(19_200).least_s(124)}
    assert sizes["20"]["took_s"] == pytest.approx(0.05)
    whole, *by_size = ratios(sizes)
    assert whole.value == pytest.approx(0.25 / (Wire(19_200).least_s(124) + Wire(19_200).least_s(20)))
    assert [figure.name for figure in by_size] == ["of 20 registers", "of 124 registers"]


def test_who_asks_before_the_line_is_silent_is_not_answered() -> None:
    line = SerialLine(Wire(115_200), 1)
    line.hear(time.monotonic(), _request(1, 0, 2))
    line.hear(time.monotonic() - 1.0, _request(1, 0, 2))
    line.hear(time.monotonic() + 1.0, _request(2, 0, 2))  # there is no such station
    assert (line.requests, line.hurried, line.strange) == (1, 1, 1)


def test_bytes_come_no_sooner_than_the_wire_allows() -> None:
    wire = Wire(38_400)
    command = [sys.executable, "-m", "benchmarks.load.serial_line", "--baud", "38400", "--stations", "3"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as simulator:
        assert simulator.stdin is not None
        assert simulator.stdout is not None
        port = os.open(json.loads(simulator.stdout.readline())["path"], os.O_RDWR | os.O_NOCTTY)
        tty.setraw(port)
        try:
            asked = time.monotonic()
            os.write(port, _request(3, 0, 20))
            reply = b""
            while len(reply) < 45:
                assert select.select([port], [], [], 20)[0], f"only {len(reply)} bytes came"
                reply += os.read(port, 100)
            took = time.monotonic() - asked
            assert _slots(reply) == [shift_of(3) + k for k in range(10)]
            assert took >= wire.characters_s(8 + 45) + wire.silence_s
            simulator.stdin.write("stats\n")
            simulator.stdin.flush()
            stats = json.loads(simulator.stdout.readline())
            assert (stats["requests"], stats["registers"], stats["hurried"], stats["strange"]) == (1, 20, 0, 0)
        finally:
            os.close(port)
            simulator.stdin.close()
