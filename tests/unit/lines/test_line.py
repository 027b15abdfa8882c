"""A line under hands that the tests hold: a port that brings what it is told to."""

from __future__ import annotations

import asyncio
import errno
import termios
from typing import Any

import pytest
import uvloop

from adapters.lines import Line, PortProtocol
from adapters.lines.ports import SerialSettings, serial
from gateway.contract import SystemClock
from tests.support.wait import eventually


class Hands:
    """Opens itself; what is written is kept."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.owner: PortProtocol | None = None

    async def __call__(self, owner: PortProtocol) -> Hands:
        self.owner = owner
        return self

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.bring(b"")

    def bring(self, data: bytes) -> None:
        assert self.owner is not None
        self.owner.data_received(data)


class Nobody:
    """Whom a port that never opens would tell."""

    def data_received(self, data: bytes) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...


def whole(buffer: bytes) -> tuple[int, bytes | None]:
    """A reply is what ends in a full stop."""
    return len(buffer), buffer if buffer.endswith(b".") else None


async def idle() -> None:
    """Let everything happen that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def stop(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def test_nobody_speaks_into_an_answer_whose_asker_was_stopped_though_the_next_one_was_stopped_too() -> None:
    hands = Hands()
    line = Line(hands, SystemClock(), open_timeout_s=1)
    first = asyncio.create_task(line.exchange(0, b"first", whole, 60))
    await eventually(lambda: hands.written == [b"first"])
    await stop(first)
    second = asyncio.create_task(line.exchange(0, b"second", whole, 60))
    await idle()
    await stop(second)
    third = asyncio.create_task(line.exchange(0, b"third", whole, 60))
    await idle()
    assert hands.written == [b"first"]
    hands.bring(b"to the first.")
    await eventually(lambda: hands.written == [b"first", b"third"])
    hands.bring(b"to the third.")
    assert (await third).reply == b"to the third."


async def test_a_reply_that_came_in_time_counts_though_the_gateway_is_late() -> None:
    """It was held up by other work, and finds both the reply and the end of its patience."""
    hands = Hands()
    line = Line(hands, SystemClock(), open_timeout_s=60)
    asking = asyncio.create_task(line.exchange(0, b"how are you", whole, 0.1))
    await idle()
    assert hands.written == [b"how are you"]
    loop = asyncio.get_running_loop()
    loop.call_later(0.01, hands.bring, b"well.")
    late = loop.time() + 0.2
    while loop.time() < late:
        pass
    assert (await asking).reply == b"well."


async def test_who_talks_all_the_time_costs_little() -> None:
    """What is looked at does not grow with what comes; the reply behind it is found."""
    looked_at: list[int] = []

    def recognise(buffer: bytes) -> tuple[int, bytes | None]:
        looked_at.append(len(buffer))
        return 0, buffer[-4:] if buffer.endswith(b"well") else None

    hands = Hands()
    line = Line(hands, SystemClock(), open_timeout_s=1)
    asking = asyncio.create_task(line.exchange(0, b"how are you", recognise, 60))
    await eventually(lambda: hands.written)
    for _ in range(10):
        hands.bring(bytes(262_144))
        await idle()
    hands.bring(b"well")
    assert (await asking).reply == b"well"
    assert len(looked_at) >= 10
    assert max(looked_at) <= 4096


async def test_a_port_that_goes_away_as_it_is_set_up_is_an_error_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyserial lets this one through as it is."""

    def gone(*_: Any) -> None:
        raise termios.error(errno.EIO, "Input/output error")

    monkeypatch.setattr("serial.serialposix.termios.tcsetattr", gone)
    with pytest.raises(OSError, match="/dev/ptmx cannot be set up: Input/output error") as found:
        await serial(SerialSettings("/dev/ptmx"))(Nobody())
    assert found.value.errno == errno.EIO


def test_the_silence_is_kept_to_its_end_on_the_loop_that_the_gateway_runs_on() -> None:
    """libuv's timers count whole milliseconds and round down as well as up; this silence has 2.4."""
    silence_ns = 2_400_000
    clock = SystemClock()

    class Station(Hands):
        """Answers at once; notes how long it was left alone."""

        def __init__(self) -> None:
            super().__init__()
            self.silences_ns: list[int] = []
            self._done_ns = 0

        def write(self, data: bytes) -> None:
            if self._done_ns:
                self.silences_ns.append(clock.monotonic_ns() - self._done_ns)
            asyncio.get_running_loop().call_soon(self._answer)

        def _answer(self) -> None:
            self._done_ns = clock.monotonic_ns()
            self.bring(b"answer.")

    async def ask() -> list[int]:
        station = Station()
        line = Line(station, clock, open_timeout_s=1, quiet_s=silence_ns / 1e9)
        for _ in range(100):
            await line.exchange(0, b"request", whole, 60)
        return station.silences_ns

    silences_ns = uvloop.run(ask())
    assert len(silences_ns) == 99
    assert min(silences_ns) >= silence_ns
