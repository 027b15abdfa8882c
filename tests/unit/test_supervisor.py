"""The supervisor: one state change, one log line, one outage event, one Bad reading per point; never giving up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import pytest

from gateway.backoff import Backoff
from gateway.contract import (
    AdapterError,
    Batch,
    Gap,
    LinkLost,
    Point,
    PointConfig,
    Refused,
    Sink,
    ValueType,
)
from gateway.log import LogIOError
from gateway.log.records import BatchRecord, EventRecord, Record
from gateway.runtime.gaps import Gaps
from gateway.runtime.sink import DeviceCounters, DeviceSink
from gateway.runtime.supervisor import DeviceState, Supervisor
from tests.support.logs import SetClock
from tests.unit.test_normaliser import Bench, define

Step = Callable[[Sink], Awaitable[None]]


class Done:
    async def durable(self) -> None:
        return None


class Writer:
    commit_s = 0.2

    def __init__(self) -> None:
        self.records: list[Record] = []

    async def write(self, records: Sequence[Record], nbytes: int, share: str) -> Done:
        assert nbytes > 0
        assert share == "d"
        self.records.extend(records)
        return Done()


class ScriptedAdapter:
    """Runs one step per connection life."""

    def __init__(self, *steps: Step) -> None:
        self._steps = list(steps)
        self.finished = asyncio.Event()

    async def run(self, sink: Sink) -> None:
        if self._steps:
            await self._steps.pop(0)(sink)
        if not self._steps:
            self.finished.set()
            await asyncio.Event().wait()


class Rig:
    def __init__(self, *steps: Step) -> None:
        bench = Bench()
        bench.bind(define("a"), define("b"))
        self.clock = SetClock()
        self.writer = Writer()
        self.counters = DeviceCounters()
        self.state = DeviceState()
        self.adapter = ScriptedAdapter(*steps)
        self.events: list[EventRecord] = []
        self.gaps = Gaps(
            "d", "s", now=self.clock.time_ns, write=self.events.append, points=lambda: bench.table.points("d")
        )
        points = [Point(index, PointConfig(point=name)) for index, name in enumerate("ab")]
        self.supervisor = Supervisor("d", self.adapter, points, self.gaps, self.state, self.clock)
        self.supervisor._backoff = Backoff(first_s=0.001, most_s=0.002)
        self.sink = DeviceSink(
            "d",
            bench.normaliser(),
            self.writer,
            self.gaps,
            self.counters,
            link=self.supervisor,
            describe=partial(bench.registry.describe, "d"),
        )

    async def play(self) -> None:
        """Run until every step has been played."""
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            task = group.create_task(self.supervisor.run(self.sink, covered_until=1_000_000_000))
            await self.adapter.finished.wait()
            task.cancel()

    def batches(self) -> list[Batch]:
        return [record.batch for record in self.writer.records if isinstance(record, BatchRecord)]


def readings(*values: int) -> Batch:
    return Batch.of("d", ValueType.INT64, [0] * len(values), list(values), received_time=5_000_000_000, monotonic=1)


async def deliver(sink: Sink) -> None:
    sink.online()
    await sink.offer([readings(1, 2)])


def fail(error: Exception) -> Step:
    async def step(sink: Sink) -> None:
        raise error

    return step


async def silence(sink: Sink) -> None:
    return None


async def deliver_then_lose(sink: Sink) -> None:
    await deliver(sink)
    raise LinkLost("cable pulled")


async def test_an_outage_is_told_once_and_closed_by_the_first_data(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rig = Rig(deliver_then_lose, fail(LinkLost("still out")), fail(LinkLost("still out")), deliver)
    await rig.play()
    assert [event.body["to"] for event in rig.events[:2]] == [None, "1970-01-01T00:00:05Z"]
    assert rig.events[0].body["id"] == rig.events[1].body["id"]
    assert rig.events[0].body["from"] == "1970-01-01T00:00:05Z", "from the newest reading, not from when we noticed"
    assert rig.events[0].body["reason"] == "device-down"
    lost = [record.message for record in caplog.records if "down:" in record.message]
    assert lost == ["d: down: cable pulled"], "one line per change of state"


async def lose_in_a_group(sink: Sink) -> None:
    """As adapters with several tasks do; up to Python 3.12 their own task looks cancelled ever after."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail(LinkLost("cable pulled"))(sink), name="publish")
            group.create_task(asyncio.sleep(60), name="session")
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures


async def test_a_link_that_a_task_of_the_adapter_loses_is_tried_again() -> None:
    rig = Rig(lose_in_a_group, lose_in_a_group, deliver)
    await rig.play()
    assert rig.state.state == "up"


async def test_every_point_reads_bad_once_per_outage() -> None:
    rig = Rig(fail(LinkLost("no route")), fail(LinkLost("no route")), silence)
    await rig.play()
    bad = [batch for batch in rig.batches() if not batch.valid.any()]
    assert sorted(point for batch in bad for point in batch.points.tolist()) == [0, 1]
    assert {int(status) for batch in bad for status in batch.status} == {0x80310000}


async def test_a_degraded_device_keeps_its_link_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    seen: list[tuple[str, str | None]] = []

    async def suspended(sink: Sink) -> None:
        sink.degraded("seen before the link was up")
        await deliver(sink)
        for why in ("seen before the link was up", "Suspended", "Suspended, for an hour", None, None, "Failed"):
            sink.degraded(why)
            sink.online()
            seen.append((rig.state.state, rig.state.error))
        raise LinkLost("cable pulled")

    rig = Rig(suspended, deliver)
    await rig.play()
    assert seen == [
        ("degraded", "seen before the link was up"),
        ("degraded", "Suspended"),
        ("degraded", "Suspended, for an hour"),
        ("up", None),
        ("up", None),
        ("degraded", "Failed"),
    ]
    assert (rig.state.state, rig.state.error) == ("up", None), "it ends with the link"
    assert rig.state.outages == 1
    assert [event.body["reason"] for event in rig.events] == ["device-down", "device-down"], "degraded is no gap"
    lines = [record.getMessage() for record in caplog.records if record.name == "gateway.runtime.supervisor"]
    assert lines == [
        "d: connected",
        "d: degraded: seen before the link was up",
        "d: well again after 0 s",
        "d: degraded: Failed",
        "d: down: cable pulled",
        "d: connected again after 0 s",
    ]


async def test_a_degraded_link_that_held_counts_as_one_that_held() -> None:
    """The time in a link counts, not the time since it was last well."""

    async def steady(sink: Sink) -> None:
        await deliver(sink)
        rig.supervisor._online -= 6_000_000_000
        sink.degraded("Suspended")
        raise LinkLost("cable pulled")

    rig = Rig(steady, deliver)
    await rig.play()
    assert rig.supervisor._lost is not None


async def test_a_refusal_is_its_own_state() -> None:
    rig = Rig(fail(Refused("wrong password")), silence)
    await rig.play()
    assert rig.state.state == "refused"
    assert rig.state.error == "wrong password"


async def test_a_bug_in_an_adapter_stays_alone_and_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(fail(ZeroDivisionError("oops")), deliver)
    await rig.play()
    assert rig.state.state == "up"
    assert "please report this" in caplog.text


async def test_a_never_reached_device_has_a_gap_from_the_start() -> None:
    rig = Rig(fail(LinkLost("no route")), silence)
    await rig.play()
    assert rig.events[0].body["from"] == "1970-01-01T00:00:01Z"


async def test_counters_know_the_quality() -> None:
    async def mixed(sink: Sink) -> None:
        status = [0, 0x40900000, 0x80310000]
        await sink.offer(
            [Batch.of("d", ValueType.INT64, [0, 1, 0], [1, 2, 3], status=status, received_time=1, monotonic=1)]
        )
        sink.gap(Gap((1,), 1_000_000_000, 2_000_000_000, "overflow"))

    rig = Rig(mixed)
    await rig.play()
    assert rig.counters.quality[:3] == [1, 1, 1]
    assert rig.counters.gaps == 1
    assert rig.events[0].body["points"] == ["b"]


def test_backoff_is_jittered_bounded_and_resets() -> None:
    backoff = Backoff()
    delays = [backoff.next_s() for _ in range(50)]
    assert all(0.05 <= delay <= 30 for delay in delays)
    assert max(delays[8:]) > 5
    assert all(backoff.next_s(4.0) <= 4 for _ in range(50))
    backoff.reset()
    assert backoff.next_s() <= 0.5


def test_each_error_says_whether_a_retry_helps() -> None:
    assert AdapterError.retry
    assert LinkLost("x").state == "down"


async def test_a_failing_log_is_not_the_devices_fault(caplog: pytest.LogCaptureFixture) -> None:
    """It goes on to whoever owns the log, out of the adapter's task group too, and the device keeps its state."""

    async def acquire(sink: Sink) -> None:
        sink.online()
        raise ExceptionGroup("the adapter's tasks", [LogIOError("disk I/O error")])

    rig = Rig(acquire)
    with pytest.raises(BaseExceptionGroup) as caught:
        await rig.supervisor.run(rig.sink, rig.clock.time_ns())
    assert caught.group_contains(LogIOError, match="disk I/O error")
    assert "please report this" not in caplog.text
    assert rig.state.state == "up"
