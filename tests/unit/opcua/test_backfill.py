"""What a gap's readings are when they come from history: the scripted archive behind, the gateway's sink in front."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asyncua import ua

from adapters.opcua.config import ClockRule, ClockShift
from adapters.opcua.decoding import layouts
from adapters.opcua.decoding.batches import BatchBuilder
from adapters.opcua.decoding.structures import Structures
from adapters.opcua.history import backfill
from adapters.opcua.history.backfill import Backfill
from adapters.opcua.history.gaps import GapLedger
from gateway.contract import Basis, Batch, Filled, Flag, Gap, LinkLost, OpenGap, Origin, SystemClock, ValueType
from tests.support.fake_sink import FakeSink
from tests.support.opcua_archive import EPOCH, Archive, node, value
from tests.support.wait import eventually

BASE = int(EPOCH.timestamp()) * 10**9
S = 10**9


class Device:
    """One device without a live server: a test offers live readings itself."""

    def __init__(self, archive: Archive, rule: ClockRule = "trust", types: dict[int, int] | None = None) -> None:
        self.archive = archive
        self.clock = Clock()
        names = dict(enumerate(archive.values))
        self.builder = BatchBuilder("reactor", types or dict.fromkeys(names, layouts.NULL), rule, 0)
        self.ledger = GapLedger("reactor", names, (0.01,), self.clock)
        self.behind = FakeSink()
        self.sink = self.ledger.watch(self.behind)
        self.backfill = Backfill(
            "reactor", self.ledger, self.builder, rule, self.clock, Structures(), names.__getitem__
        )
        self.nodes = {index: node(name) for index, name in names.items()}

    @asynccontextmanager
    async def connected(self, **limits: Any) -> AsyncIterator[asyncio.Task[None]]:
        """One connection; cancelled on leaving."""
        session = self.archive.session(**limits)
        task = asyncio.create_task(self.backfill.run(session, self.behind, self.nodes.get), name="backfill")
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def live(self, second: float, *points: int) -> None:
        """A live reading of each of the points, by default of all."""
        batch = Batch.of(
            "reactor",
            ValueType.FLOAT64,
            points or list(self.nodes),
            second,
            source_time=BASE + round(second * S),
            received_time=self.clock.time_ns(),
            monotonic=0,
        )
        await self.sink.offer([batch], Origin("urn:s", 1, 1))

    async def outage(self, start: float, end: float) -> None:
        """Live readings until `start` and from `end` on."""
        await self.live(start)
        self.behind.open = OpenGap("down", BASE + round(start * S), "device-down")
        await self.live(end)

    def backfilled(self, point: int = 0) -> list[tuple[float, Any]]:
        """(second, value) of what came from history, in order."""
        found: list[tuple[float, Any]] = []
        for batch in self.behind.batches:
            past = batch.take((batch.flags & Flag.BACKFILLED > 0) & (batch.points == point))
            found += zip(((past.source_time - BASE) / S).tolist(), past.values.tolist(), strict=True)
        return found

    async def filled(self, count: int = 1) -> list[Filled]:
        """What was told, when so much was."""
        await eventually(lambda: len(self.behind.fills) >= count, message="told that the gap was filled")
        return self.behind.fills


class Clock(SystemClock):
    """The time is that of the archive; what settles, settles a hundred times faster."""

    def time_ns(self) -> int:
        return BASE + 3600 * S

    def monotonic_ns(self) -> int:
        return 100 * super().monotonic_ns()


def counted(count: int) -> list[ua.DataValue]:
    return [value(float(n), n) for n in range(count)]


async def test_what_is_missing_comes_in_order_marked_and_once() -> None:
    device = Device(Archive(a=counted(100), b=counted(100)))
    await device.outage(10, 50)
    async with device.connected():
        assert await device.filled() == [Filled("down", BASE + 10 * S, BASE + 3600 * S, 78)]
    assert device.backfilled(0) == device.backfilled(1) == [(n, float(n)) for n in range(11, 50)]
    assert {int(basis) for batch in device.behind.batches for basis in batch.basis} == {Basis.SOURCE}


@pytest.mark.parametrize("manner", ["repeats", "past_the_end", "pointless", "unordered", "twice"])
async def test_bad_manners_of_a_server_make_no_duplicates_and_no_disorder(manner: str) -> None:
    values = counted(100)
    if manner == "unordered":
        values[20], values[22] = values[22], values[20]
    if manner == "twice":
        values = sorted([*values, *values], key=lambda each: each.SourceTimestamp)  # type: ignore[arg-type,return-value]
    archive = Archive(a=values)
    archive.page = 30
    if hasattr(archive, manner):
        setattr(archive, manner, True)
    device = Device(archive)
    await device.outage(10, 50)
    async with device.connected():
        await device.filled()
    expected = [(n, float(n)) for n in range(11, 50)]
    assert device.backfilled() == (expected[:29] if manner == "repeats" else expected)
    assert archive.held == {}


async def test_two_values_with_one_time_both_come() -> None:
    values = [value(1.0, 1), value(2.0, 20), value(3.0, 20), value(3.0, 20), value(4.0, 30)]
    device = Device(Archive(a=values))
    await device.outage(10, 50)
    async with device.connected():
        await device.filled()
    assert device.backfilled() == [(20, 2.0), (20, 3.0), (30, 4.0)]


@pytest.mark.parametrize("pointless", [False, True])
@pytest.mark.parametrize("page", [2, 3, 5, 7])
async def test_values_of_one_second_all_come_wherever_a_page_ends(page: int, pointless: bool) -> None:
    """An archive that keeps whole seconds, of a point that moves four times a second."""
    values = [value(math.nan if n % 4 == 3 else float(n), n // 4) for n in range(240)]
    archive = Archive(a=values)
    archive.page = page if not pointless else 10 * page
    archive.pointless = pointless
    device = Device(archive)
    await device.outage(10, 50)
    async with device.connected():
        (filled,) = await device.filled()
    expected = [(n // 4, "nan" if n % 4 == 3 else str(float(n))) for n in range(44, 200)]
    assert [(second, str(number)) for second, number in device.backfilled()] == expected
    assert filled.readings == len(expected)


async def test_statuses_and_types_are_as_live() -> None:
    kinds = [value(7, 20, type=ua.VariantType.Int16), value(9, 30, 0x80000000, type=ua.VariantType.Int16)]
    historian = value(8, 25, 0x00000002, type=ua.VariantType.Int16)
    device = Device(Archive(a=[kinds[0], historian, kinds[1]]), types={0: layouts.FLOAT})
    await device.outage(10, 50)
    async with device.connected():
        await device.filled()
    past = [batch for batch in device.behind.batches if (batch.flags & Flag.BACKFILLED).any()]
    assert [batch.type for batch in past] == [ValueType.FLOAT32]
    assert past[0].values.tolist() == [7.0, 8.0, 9.0]
    assert past[0].status.tolist() == [0, 2, 0x80000000]


@pytest.mark.parametrize("shift", [8 * 3600.0, -3600.0])
async def test_a_clock_that_is_shifted_is_asked_in_its_own_time(shift: float) -> None:
    device = Device(Archive(a=[value(float(n), n + shift) for n in range(100)]), ClockShift(shift=f"{shift:g}s"))
    await device.outage(10, 50)
    async with device.connected():
        await device.filled()
    assert device.backfilled() == [(n, float(n)) for n in range(11, 50)]


async def test_a_link_lost_in_the_middle_costs_nothing_and_repeats_nothing() -> None:
    archive = Archive(a=counted(500), b=counted(500))
    archive.page = 50
    device = Device(archive)
    await device.outage(10, 450)
    device.behind.commit.clear()
    async with device.connected():
        await eventually(device.backfilled)
    first = len(archive.asked)
    archive.held.clear()
    device.behind.commit.set()
    async with device.connected():
        assert [filled.readings for filled in await device.filled()] == [2 * 439]
    assert device.backfilled(0) == device.backfilled(1) == [(n, float(n)) for n in range(11, 450)]
    assert archive.asked[first].continuations == (b"", b"")


async def test_a_session_that_ends_ends_the_backfill() -> None:
    archive = Archive(a=counted(100))
    archive.faults = [0x80250000]
    device = Device(archive)
    await device.outage(10, 50)
    async with device.connected() as task:
        await eventually(task.done)
        with pytest.raises(LinkLost):
            task.result()


async def test_one_answer_at_most_waits_for_its_commit() -> None:
    archive = Archive(a=counted(100))
    archive.page = 10
    device = Device(archive)
    await device.outage(0, 90)
    device.behind.commit.clear()
    async with device.connected():
        await eventually(device.backfilled)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(archive.asked) == 1
        device.behind.commit.set()
        await device.filled()


async def test_nothing_in_the_history_leaves_the_gap_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    device = Device(Archive(a=[value(1.0, 1), value(2.0, 60)], b=[value(1.0, 1)]))
    await device.outage(10, 50)
    with caplog.at_level(logging.INFO, "adapters.opcua.history.backfill"):
        async with device.connected():
            await eventually(lambda: caplog.records)
    assert [record.message for record in caplog.records] == [
        "reactor: the server's history has nothing of the 2 points that it was asked for, for the gap from "
        "2026-03-01T00:00:10Z to 2026-03-01T01:00:00Z (device-down); the gap stays"
    ]
    assert device.behind.fills == []


@pytest.mark.parametrize("how", ["access level", "status", "service"])
async def test_a_server_without_history_says_so_once_and_is_not_asked_again(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    archive = Archive(a=counted(100), b=counted(100))
    if how == "access level":
        archive.level = 0x03
    elif how == "status":
        archive.statuses = {"a": [0x80720000], "b": [0x80720000]}
    else:
        archive.faults = [0x800B0000]
    device = Device(archive)
    await device.outage(10, 50)
    with caplog.at_level(logging.INFO, "adapters.opcua.history.backfill"):
        async with device.connected():
            await eventually(lambda: caplog.records)
            await device.outage(60, 80)
            await eventually(lambda: not device.ledger.expecting)
    assert [record.message.split(" for example")[0] for record in caplog.records] == [
        "reactor: 2 points have no history that the gateway may read,"
    ]
    assert len(archive.asked) == (0 if how == "access level" else 1)
    assert device.behind.fills == []


async def test_points_without_history_do_not_keep_others_from_theirs(caplog: pytest.LogCaptureFixture) -> None:
    archive = Archive(a=counted(100), b=counted(100))
    archive.statuses = {"a": [0x803A0000]}
    device = Device(archive)
    await device.outage(10, 50)
    async with device.connected():
        assert await device.filled() == [Filled("down", BASE + 10 * S, BASE + 3600 * S, 39, (1,))]
    assert "1 points have no history that the gateway may read, for example a: BadNotReadable" in caplog.text


async def test_a_busy_server_is_asked_again_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "_FIRST_PAUSE_S", 0.01)
    archive = Archive(a=counted(100))
    archive.faults = [0x80EE0000, 0x800A0000]
    device = Device(archive)
    await device.outage(10, 50)
    with caplog.at_level(logging.INFO, "adapters.opcua.history.backfill"):
        async with device.connected():
            await device.filled()
    assert len([record for record in caplog.records if "later and slower" in record.message]) == 1
    assert device.backfilled() == [(n, float(n)) for n in range(11, 50)]


async def test_a_server_that_stays_busy_is_given_up_in_the_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(backfill, "_LONGEST_PAUSE_S", 0.002)
    archive = Archive(a=counted(100))
    archive.faults = [0x80EE0000] * 100
    device = Device(archive)
    await device.outage(10, 50)
    async with device.connected():
        await eventually(lambda: "giving up" in caplog.text)
    assert len(archive.asked) == 20


async def test_history_of_more_than_a_month_ago_is_not_asked_for() -> None:
    days = 86_400
    device = Device(Archive(a=[value(float(n), -n * days) for n in range(40, 0, -1)]))
    await device.live(-39 * days)
    device.behind.open = OpenGap("down", None, "device-down")
    await device.live(0)
    async with device.connected():
        await device.filled()
    assert [value for _, value in device.backfilled()] == [float(n) for n in range(29, 0, -1)]


async def test_times_that_are_not_credible_are_left_out() -> None:
    device = Device(Archive(a=[*counted(20), ua.DataValue(ua.Variant(1.0)), *counted(60)[20:]]))
    await device.outage(10, 50)
    async with device.connected():
        await device.filled()
    assert device.backfilled() == [(n, float(n)) for n in range(11, 50)]


async def test_points_that_stood_still_for_long_do_not_make_others_read_what_is_there() -> None:
    archive = Archive(slow=[value(0.0, 1000)], fast=counted(3000))
    device = Device(archive)
    await device.live(0, 0)
    await device.live(2000, 1)
    device.behind.open = OpenGap("down", None, "device-down")
    await device.live(2100)
    async with device.connected():
        await device.filled()
    assert {asked.nodes for asked in archive.asked} == {("slow",), ("fast",)}
    assert device.backfilled(0) == [(1000, 0.0)]
    assert device.backfilled(1) == [(n, float(n)) for n in range(2001, 2100)]


async def test_nothing_is_offered_while_an_outage_is_open() -> None:
    device = Device(Archive(a=counted(100)))
    await device.outage(10, 50)
    device.behind.open = OpenGap("next", None, "device-down")
    async with device.connected():
        await asyncio.wait_for(_idle(device), 5)
        assert device.archive.asked == []
        await device.live(60)
        await device.filled()
    assert device.behind.open is None


async def _idle(device: Device) -> None:
    """Until the backfill has taken up its first hole."""
    await eventually(lambda: not device.ledger.changed.is_set())


async def test_overflows_of_many_points_are_read_together() -> None:
    names = {f"n{i}": counted(100) for i in range(10)}
    device = Device(Archive(**names))
    await device.live(50)
    gaps: Sequence[Gap] = [Gap((i,), BASE + 20 * S, BASE + 30 * S, "overflow") for i in range(10)]
    for gap in gaps:
        device.sink.gap(gap)
    async with device.connected():
        filled = await device.filled(10)
    assert {each.gap: each.readings for each in filled} == {f"gap-{i}": 9 for i in range(10)}
    assert len(device.archive.asked) == 1


class Plant:
    """A plant that changes at random, a server that remembers everything, and a link with every kind of gap."""

    POINTS = 4

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.device = Device(Archive(**{f"n{point}": [] for point in range(self.POINTS)}))
        self.true: list[list[tuple[float, float]]] = [[] for _ in range(self.POINTS)]
        self.second = 0.0
        self.subscription = 1
        self.gaps = 0

    def changes(self) -> list[tuple[int, float]]:
        """What changes in the next second; the archive has it at once."""
        self.second += 1
        found = []
        for point in range(self.POINTS):
            # The last point stands still for long.
            if self.draw.random() < (0.8 if point < self.POINTS - 1 else 0.03):
                at = round(self.second + self.draw.random() / 2, 3)
                found.append((point, at))
                self.true[point].append((at, at))
                self.device.archive.values[f"n{point}"].append(value(at, at))
        return found

    async def offer(self, readings: Sequence[tuple[int, float]], flags: int = 0) -> None:
        if not readings:
            return
        points, times = zip(*readings, strict=True)
        batch = Batch.of(
            "reactor",
            ValueType.FLOAT64,
            points,
            times,
            source_time=[BASE + round(time * S) for time in times],
            flags=flags,
            received_time=BASE + round((self.second + 2) * S),
            monotonic=0,
        )
        await self.device.sink.offer([batch], Origin("urn:s", self.subscription, 1))

    async def everything(self) -> None:
        """Every point changes, and is heard."""
        self.second += 1
        for point in range(self.POINTS):
            self.true[point].append((self.second, self.second))
            self.device.archive.values[f"n{point}"].append(value(self.second, self.second))
        await self.offer([(point, self.second) for point in range(self.POINTS)])

    def span(self, start: float) -> tuple[int, int]:
        return BASE + round(start * S), BASE + round((self.second + 2) * S)

    def down(self, start: float) -> str:
        self.gaps += 1
        id = f"outage-{self.gaps}"
        self.device.behind.open = OpenGap(id, self.span(start)[0], "device-down")
        return id

    async def live(self) -> None:
        for _ in range(self.draw.randrange(1, 10)):
            await self.offer(self.changes())

    async def subscription_lost(self) -> None:
        """Also without an outage: then the session goes on."""
        start = self.second
        for _ in range(self.draw.randrange(1, 20)):
            self.changes()
        if self.draw.random() < 0.7:
            self.down(start)
        self.subscription += 1
        initial = [(point, readings[-1][0]) for point, readings in enumerate(self.true) if readings]
        self.draw.shuffle(initial)
        await self.offer(initial[:2], Flag.INITIAL)
        await self.offer(initial[2:], Flag.INITIAL)
        self.device.sink.gap(Gap((), *self.span(start), "subscription-lost"))

    async def queued(self) -> None:
        """An outage that the server's queues bridge, for points that had few changes."""
        start, size = self.second, self.draw.randrange(1, 12)
        before = [readings[-1][0] for readings in self.true]
        for _ in range(self.draw.randrange(1, 15)):
            self.changes()
        id = self.down(start)
        overflows = []
        queues = []
        for point, readings in enumerate(self.true):
            queue = [at for at, _ in readings if at > before[point]]
            if len(queue) > size:
                low, high = (BASE + round(at * S) for at in (before[point], queue[-size]))
                overflows.append(Gap((point,), low, high, "overflow"))
            queues += [(point, at) for at in queue[-size:]]
        await self.offer(queues)
        for gap in overflows:
            self.device.sink.gap(gap)
        if self.device.behind.open is None:
            self.device.sink.filled(Filled(id, *self.span(start), None))

    async def sequence_gap(self) -> None:
        start = self.second
        for _ in range(self.draw.randrange(1, 5)):
            self.changes()
        after: list[tuple[int, float]] = []
        while not after:
            after = self.changes()
        await self.offer(after)
        self.device.sink.gap(Gap((), *self.span(start), "sequence-gap"))

    def live_times(self, point: int, flags: int) -> set[float]:
        """Times of a point's live readings with these flags."""
        return {
            (int(time) - BASE) / S
            for batch in self.device.behind.batches
            for time in batch.source_time[(batch.points == point) & (batch.flags == flags)]
        }

    async def settled(self) -> None:
        ledger = self.device.ledger
        await eventually(lambda: ledger.due() is None and not ledger.expecting, message="all gaps are dealt with")


@pytest.mark.parametrize("seed", range(25))
async def test_whatever_happens_every_reading_comes_and_none_of_history_twice(seed: int) -> None:
    plant = Plant(seed)
    plant.device.archive.page = plant.draw.choice([3, 10, 1000])
    await plant.everything()
    kinds = [plant.live, plant.subscription_lost, plant.queued, plant.sequence_gap]
    for _ in range(plant.draw.randrange(2, 5)):
        async with plant.device.connected():
            for _ in range(plant.draw.randrange(1, 4)):
                await plant.draw.choice(kinds)()
                await plant.live()
            if plant.draw.random() < 0.5:
                await plant.settled()
    await plant.everything()
    async with plant.device.connected():
        await plant.settled()
    for point in range(plant.POINTS):
        past = plant.device.backfilled(point)
        initial, changed = (plant.live_times(point, flags) for flags in (Flag.INITIAL, 0))
        live = initial | changed
        assert len(set(past)) == len(past), point
        # What a new subscription sends first repeats the last change, wherever that came from.
        assert not changed & {at for at, _ in past}, point
        assert sorted(live | {at for at, _ in past}) == [at for at, _ in plant.true[point]], point
    assert plant.device.archive.held == {}
