"""Histories of outages at random: every reading comes, and none of history twice."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from gateway.contract import Batch, Filled, Flag, Gap, OpenGap, Origin, ValueType
from tests.support.opcua_archive import Archive, value
from tests.support.opcua_backfill import BASE, Device, S
from tests.support.wait import eventually


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
