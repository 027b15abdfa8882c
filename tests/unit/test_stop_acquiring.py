"""`when_full: stop-acquiring`: nothing that waits is dropped, devices stop instead, and the gap is told."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from gateway.contract import Facts, Sink, SystemClock
from gateway.runtime.devices import Device
from gateway.runtime.gate import Gate
from gateway.runtime.housekeeping import Housekeeping, Space, cut_position
from tests.support.wait import eventually
from tests.unit.test_housekeeping import Destination, Store, files, usage
from tests.unit.test_supervisor import Rig


class Slow(Destination):
    """Has delivered everything below `undelivered`."""

    undelivered = 0


def test_nothing_that_waits_is_cut() -> None:
    listed = files(10, 10, 10, 10)
    for limit, cut in ((0, None), (101, 101), (250, 201), (1000, 301)):
        assert cut_position(listed, usage(listed, 5), limit=limit) == cut


async def test_a_full_log_stops_devices_until_something_is_delivered(tmp_path: Path) -> None:
    store = Store(files(10, 10, 10))
    slow = Slow(store)
    keeping = Housekeeping(
        store, tmp_path, [slow], budget_bytes=20, keep_s=1e10, clock=SystemClock(), drop_undelivered=False
    )
    await keeping.tidy()
    assert keeping.space.full
    assert store.calls == [], "nothing is dropped"
    slow.undelivered = 150
    await keeping.tidy()
    assert not keeping.space.full
    assert store.calls[-1] == "trim 101"


class Late(Slow):
    """Everything was delivered before the last process ended, and it takes a moment to know that."""

    async def loaded(self) -> None:
        self.undelivered = 301


async def test_a_log_over_its_budget_at_the_start_stops_nobody_before_it_is_known_what_waits(tmp_path: Path) -> None:
    store = Store(files(10, 10, 10))
    late = Late(store)
    keeping = Housekeeping(
        store, tmp_path, [late], budget_bytes=20, keep_s=1e10, clock=SystemClock(), drop_undelivered=False
    )
    gate = Gate()
    with keeping.space.keeps(gate):
        stopped = asyncio.create_task(gate.shut.wait())
        running = asyncio.create_task(keeping.run())
        await eventually(lambda: store.calls[-1:] == ["trim 101"] or stopped.done())
        assert not stopped.done(), "devices were stopped"
        for task in (running, stopped):
            task.cancel()
        await asyncio.wait([running, stopped])


async def test_devices_pause_with_a_gap_that_ends_when_there_is_space_again() -> None:
    async def acquire(sink: Sink) -> None:
        sink.online()
        await asyncio.Event().wait()

    rig = Rig(acquire, acquire)
    space = Space()
    now = rig.clock.time_ns()
    device = Device("d", "test", rig.state, rig.counters, rig.sink, rig.supervisor, now, lambda: None, Facts)
    task = asyncio.create_task(device.run(space), name="device")
    await eventually(lambda: rig.state.state == "up")
    space.tell(full=True)
    await eventually(lambda: rig.state.state == "paused")
    assert [event.body["reason"] for event in rig.events] == ["log-full"]
    assert rig.gaps.is_open
    space.tell(full=False)
    await eventually(lambda: rig.state.state == "up")
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
