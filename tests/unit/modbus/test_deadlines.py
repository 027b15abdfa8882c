"""One timer for all requests: each is ended after its own time, what was answered is not, and nothing piles up."""

from __future__ import annotations

import asyncio
import weakref

import pytest

from adapters.lines import NoReply
from adapters.lines.ports import tcp
from adapters.modbus.address import Table
from adapters.modbus.deadlines import Deadlines
from adapters.modbus.link import Terms
from adapters.modbus.mbap import MbapLink
from adapters.modbus.pdu import Request
from adapters.modbus.planner import Block
from tests.support.modbus_device import Act, Asked, ModbusDevice
from tests.support.own_time import OwnClock
from tests.support.wait import eventually


class Waiting:
    def __init__(self, clock: OwnClock) -> None:
        self._clock = clock
        self.over = False
        self.until_ns = 0
        self.ended_ns: list[int] = []

    def time_out(self) -> None:
        self.over = True
        self.ended_ns.append(self._clock.monotonic_ns())


async def test_each_is_ended_once_and_not_before_its_time() -> None:
    clock = OwnClock()
    deadlines = Deadlines(clock)
    limits = [0.05, 0.02, 0.05, 0.08, 0.02]
    began_ns = clock.monotonic_ns()
    waiting = [Waiting(clock) for _ in limits]
    for each, limit_s in zip(waiting, limits, strict=True):
        deadlines.add(each, began_ns, limit_s)
    waiting[2].over = True
    await eventually(lambda: waiting[3].ended_ns)
    assert [len(each.ended_ns) for each in waiting] == [1, 1, 0, 1, 1]
    ended = {limit_s: each.ended_ns for each, limit_s in zip(waiting, limits, strict=True) if each.ended_ns}
    assert all(at_ns[0] >= began_ns + limit_s * 1e9 for limit_s, at_ns in ended.items())


async def test_who_comes_later_is_ended_later_by_a_timer_that_was_set_for_an_earlier_one() -> None:
    clock = OwnClock()
    deadlines = Deadlines(clock)
    first, second = Waiting(clock), Waiting(clock)
    deadlines.add(first, clock.monotonic_ns(), 0.05)
    await asyncio.sleep(0.03)
    first.over = True
    deadlines.add(second, clock.monotonic_ns(), 0.05)
    await eventually(lambda: second.ended_ns)
    assert second.ended_ns[0] >= second.until_ns
    assert not first.ended_ns


async def test_a_thousand_requests_set_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = OwnClock()
    deadlines = Deadlines(clock)
    loop = asyncio.get_running_loop()
    set_timer, timers = loop.call_later, []

    def counting(*arguments: object) -> asyncio.TimerHandle:
        timers.append(arguments)
        return set_timer(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "call_later", counting)
    for _ in range(1000):
        waiting = Waiting(clock)
        deadlines.add(waiting, clock.monotonic_ns(), 3600.0)
        waiting.over = True
    assert len(timers) == 1


async def test_what_was_answered_behind_one_that_is_not_is_let_go_of() -> None:
    clock = OwnClock()
    deadlines = Deadlines(clock)
    alive: weakref.WeakSet[Waiting] = weakref.WeakSet()
    silent = Waiting(clock)
    deadlines.add(silent, clock.monotonic_ns(), 3600.0)
    most = 0
    for _ in range(5000):
        waiting = Waiting(clock)
        alive.add(waiting)
        deadlines.add(waiting, clock.monotonic_ns(), 3600.0)
        waiting.over = True
        most = max(most, len(alive))
    assert most <= 1001
    assert not silent.over


async def test_requests_of_one_connection_have_their_own_time_and_a_late_reply_is_dropped() -> None:
    """Station 1 answers after its 100 ms, station 2 later still, within its 20 s; both are on their way together."""

    def act(asked: Asked) -> Act:
        return Act(delay_s=(0.3, 0.5)[asked.number] if asked.number < 2 else 0.0)

    clock = OwnClock()
    device = ModbusDevice(script=act, concurrent=True)
    request = Request.of(Block(Table.HOLDING, 7, 1, ()))

    async def admit() -> None:
        pass

    async with device.serve():
        link = MbapLink(tcp("127.0.0.1", device.port), clock, Deadlines(clock), open_timeout_s=20, outstanding=2)
        impatient, patient = (Terms(limit_s, 0.0, lambda cells: True, admit) for limit_s in (0.1, 20.0))
        begun_ns = clock.monotonic_ns()
        first = asyncio.create_task(link.read(1, request, impatient, 0))
        await eventually(lambda: device.asked)
        second = asyncio.create_task(link.read(2, request, patient, 0))
        with pytest.raises(NoReply, match=r"no reply came within 0\.1 s"):
            await first
        assert clock.monotonic_ns() - begun_ns >= 0.1e9
        assert not second.done()
        assert (await second).answer.data == b"\0\x07", "the late reply of its neighbour came before it"
        assert (await link.read(1, request, patient, 0)).answer.data == b"\0\x07"
        assert link.opened == 1
        link.close()
