"""Which windows of source time are missing after each kind of gap."""

from __future__ import annotations

import logging
import sys

import numpy as np
import pytest

from adapters.opcua.history.gaps import MOST_HOLES, GapLedger, WatchedSink
from adapters.opcua.history.holes import QUIET_S, Hole
from gateway.contract import Basis, Batch, Filled, Flag, Gap, OpenGap, Origin, ValueType
from tests.support.fake_sink import FakeSink

S = 10**9
NOON = 1_800_000_000 * S
SKEW = 3600 * S
"""the server's clock is an hour ahead of the gateway's"""


class Hands:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOON

    def time_ns(self) -> int:
        return self.now

    def monotonic_ns(self) -> int:
        return self.now


class Bench:
    """A ledger of four points behind a sink."""

    def __init__(self, publishing: tuple[float, ...] = (0.5,)) -> None:
        self.clock = Hands()
        self.ledger = GapLedger("reactor", [0, 1, 2, 3], publishing, self.clock)
        self.behind = FakeSink()
        self.sink: WatchedSink = self.ledger.watch(self.behind)
        self.sequence = 0

    async def live(
        self,
        *readings: tuple[int, float],
        subscription: int = 7,
        origin: bool = True,
        basis: Basis = Basis.SOURCE,
        flags: int = 0,
    ) -> None:
        """Offer readings: (point, source time in seconds after noon by the server's clock)."""
        self.sequence += 1
        points, times = zip(*readings, strict=True)
        batch = Batch.of(
            "reactor",
            ValueType.FLOAT64,
            points,
            1.0,
            source_time=[NOON + SKEW + round(time * S) for time in times],
            basis=basis,
            flags=flags,
            received_time=self.clock.now,
            monotonic=self.clock.now,
        )
        await self.sink.offer([batch], Origin("urn:s", subscription, self.sequence) if origin else None)

    def outage(self, id: str = "down", start: float | None = 0.0) -> None:
        self.behind.open = OpenGap(id, None if start is None else NOON + round(start * S), "device-down")

    def wait(self, seconds: float) -> None:
        self.clock.now += round(seconds * S)

    def due(self) -> Hole:
        self.wait(QUIET_S + 30)
        hole = self.ledger.due()
        assert hole is not None
        return hole

    def gap(self, reason: str, *points: int, start: float = 0.0, end: float | None = None) -> str:
        times = NOON + round(start * S), self.clock.now if end is None else NOON + round(end * S)
        return self.sink.gap(Gap(points, *times, reason))


def windows(hole: Hole) -> dict[int, tuple[float, float]]:
    """Of each point from which something may be missing, in seconds after noon by the server's clock."""
    return {
        int(hole.points[row]): ((hole.low[row] - NOON - SKEW) / S, (hole.high[row] - NOON - SKEW) / S)
        for row in hole.open_rows().tolist()
    }


async def test_an_outage_is_missing_between_the_live_readings_around_it_by_the_servers_clock() -> None:
    bench = Bench()
    await bench.live((0, 1), (1, 1.5), (0, 2))
    assert bench.ledger.due() is None
    bench.outage()
    bench.wait(60)
    await bench.live((0, 61), (0, 62))
    await bench.live((1, 61.5))
    hole = bench.due()
    assert windows(hole) == {0: (2, 61), 1: (1.5, 61.5)}
    assert [claim.id for claim in hole.claims] == ["down"]
    bench.ledger.done(hole)
    assert bench.ledger.due() is None


async def test_a_point_that_stood_still_misses_nothing() -> None:
    bench = Bench()
    await bench.live((0, 1), (1, 1))
    bench.outage()
    await bench.live((0, 60), (1, 1))
    assert windows(bench.due()) == {0: (1, 60)}


async def test_a_hole_waits_until_points_are_heard_or_silent_for_a_while() -> None:
    bench = Bench()
    everything = [(point, 1) for point in range(4)]
    await bench.live(*everything)
    bench.outage()
    await bench.live((0, 60))
    bench.wait(QUIET_S - 1)
    early = bench.ledger.due()
    bench.wait(3)
    await bench.live((1, 65), (2, 65), (3, 65))
    hole = bench.ledger.due()
    assert (early, hole is None) == (None, False)
    assert hole is not None
    assert windows(hole) == {0: (1, 60), 1: (1, 65), 2: (1, 65), 3: (1, 65)}


async def test_a_silent_point_may_miss_what_came_before_the_others_and_no_window_is_asked_for_twice() -> None:
    bench = Bench()
    await bench.live((0, 1), (1, 1))
    bench.outage("first")
    await bench.live((0, 60))
    hole = bench.due()
    assert windows(hole) == {0: (1, 60), 1: (1, 60)}
    bench.ledger.done(hole)
    bench.outage("second")
    await bench.live((0, 90), (1, 90))
    later = windows(bench.due())
    low, high = later.pop(1)
    assert later == {0: (60, 90)}
    # A reading at the very time of the first window's end was not in that window.
    assert 59.99 < low < 60
    assert high == 90


async def test_an_outage_after_an_outage_leaves_silent_points_to_the_later_hole() -> None:
    bench = Bench()
    await bench.live((0, 1), (1, 1))
    bench.outage("first")
    await bench.live((0, 60))
    bench.outage("second")
    await bench.live((0, 90), (1, 90))
    first = bench.due()
    assert windows(first) == {0: (1, 60)}
    bench.ledger.done(first)
    assert windows(bench.due()) == {0: (60, 90), 1: (1, 90)}


async def test_a_silent_points_part_of_a_gap_outlives_the_bridging_of_the_next_one() -> None:
    bench = Bench()
    await bench.live((0, 1), (1, 1))
    bench.wait(10)
    await bench.live((0, 10))
    id = bench.gap("sequence-gap")
    bench.outage()
    await bench.live((0, 11), (1, 20))
    bench.sink.filled(Filled("down", NOON, NOON + S, None))
    found: dict[int, tuple[float, float]] = {}
    for _ in range(2):
        hole = bench.due()
        assert {claim.id for claim in hole.claims} == {id}
        found |= windows(hole)
        bench.ledger.done(hole)
    assert found == {0: (1, 10), 1: (1, 20)}


async def test_two_offers_under_way_end_one_outage() -> None:
    bench = Bench()
    await bench.live((0, 1), (1, 1))
    outage = OpenGap("down", NOON, "device-down")
    for point in (0, 1):
        batch = Batch.of(
            "reactor", ValueType.FLOAT64, [point], 1.0, source_time=NOON + SKEW + 60 * S, received_time=0, monotonic=0
        )
        bench.ledger.offered([batch], None, outage)
    hole = bench.due()
    assert windows(hole) == {0: (1, 60), 1: (1, 60)}
    bench.ledger.done(hole)
    assert bench.ledger.due() is None


async def test_what_the_servers_queues_bridged_is_not_asked_for() -> None:
    bench = Bench()
    await bench.live((0, 1), (1, 1))
    bench.outage()
    await bench.live((0, 2), (1, 2))
    bench.sink.filled(Filled("down", NOON, NOON + S, None, (0,)))
    assert windows(bench.due()) == {1: (1, 2)}
    bench.sink.filled(Filled("down", NOON, NOON + S, None))
    assert bench.ledger.due() is None
    assert len(bench.behind.fills) == 2


async def test_a_queue_that_overflowed_during_an_outage_is_a_part_of_it() -> None:
    bench = Bench()
    await bench.live((0, 1), (1, 1))
    bench.outage()
    await bench.live((0, 30), (1, 2))
    overflow = bench.sink.gap(Gap((0,), NOON + SKEW + S, NOON + SKEW + 30 * S, "overflow"))
    bench.sink.filled(Filled("down", NOON, NOON + S, None))
    hole = bench.due()
    assert windows(hole) == {0: (1, 30)}
    assert [(claim.id, claim.points) for claim in hole.claims] == [(overflow, frozenset({0}))]


async def test_overflows_of_a_point_follow_each_other() -> None:
    bench = Bench()
    await bench.live((0, 10), (1, 10))
    for point, low, high in ((0, 1, 2), (1, 1, 3), (0, 5, 6)):
        bench.sink.gap(Gap((point,), NOON + SKEW + low * S, NOON + SKEW + high * S, "overflow"))
    first = bench.due()
    assert windows(first) == {0: (1, 2), 1: (1, 3)}
    assert {claim.id: claim.points for claim in first.claims} == {"gap-0": frozenset({0}), "gap-1": frozenset({1})}
    bench.ledger.done(first)
    assert windows(bench.due()) == {0: (5, 6)}


async def test_a_gap_told_after_the_offer_that_ended_it_lies_before_that_offer() -> None:
    bench = Bench()
    await bench.live((0, 1), (1, 1), (2, 1))
    bench.wait(10)
    await bench.live((0, 10), (0, 11), (1, 10))
    bench.gap("sequence-gap", 0, 1, 2)
    await bench.live((0, 12), (2, 12))
    assert windows(bench.due()) == {0: (1, 10), 1: (1, 10), 2: (1, 12)}


async def test_a_gap_told_before_the_next_offer_lies_before_that_one() -> None:
    bench = Bench()
    await bench.live((0, 1))
    bench.wait(10)
    bench.gap("undecodable")
    await bench.live((0, 11))
    assert windows(bench.due()) == {0: (1, 11)}


async def test_a_subscription_made_anew_has_its_window_when_its_gap_is_told_late() -> None:
    bench = Bench()
    await bench.live((0, 1), (1, 1))
    bench.wait(30)
    await bench.live((0, 40), subscription=8)
    await bench.live((1, 41), subscription=8)
    bench.wait(1)
    id = bench.gap("subscription-lost", start=5)
    hole = bench.due()
    assert windows(hole) == {0: (1, 40), 1: (1, 41)}
    assert [claim.id for claim in hole.claims] == [id]


async def test_subscriptions_made_anew_after_an_outage_share_its_hole() -> None:
    bench = Bench()
    await bench.live((0, 1), subscription=1)
    await bench.live((1, 1), subscription=2)
    bench.outage()
    bench.wait(60)
    await bench.live((0, 61), subscription=3)
    first = bench.gap("subscription-lost", 0, start=1)
    await bench.live((1, 62), subscription=4)
    second = bench.gap("subscription-lost", 1, start=1)
    hole = bench.due()
    assert windows(hole) == {0: (1, 61), 1: (1, 62)}
    assert [(claim.id, claim.points) for claim in hole.claims] == [
        ("down", None),
        (first, frozenset({0})),
        (second, frozenset({1})),
    ]
    bench.ledger.done(hole)
    assert bench.ledger.due() is None


async def test_a_gap_told_after_its_hole_was_done_finds_it_again() -> None:
    bench = Bench()
    await bench.live((0, 1))
    bench.outage()
    bench.wait(60)
    await bench.live((0, 61), subscription=8)
    hole = bench.due()
    hole.low[:], hole.readings[0] = hole.high, 59
    bench.ledger.done(hole)
    late = bench.gap("subscription-lost", start=1)
    again = bench.ledger.due()
    assert again is hole
    assert windows(again) == {}
    assert [claim.id for claim in again.claims] == [late]


async def test_after_a_crash_windows_begin_where_the_log_ends() -> None:
    bench = Bench(publishing=(0.5, 10.0))
    bench.outage("gateway-down", start=SKEW / S)
    await bench.live((0, 60), (1, 0.1))
    # A slow subscription may be behind the fast one by the difference of their intervals.
    assert windows(bench.due()) == {0: (-9.5, 60), 1: (-9.5, 0.1)}


async def test_nothing_is_asked_for_when_nobody_knows_where_to_begin() -> None:
    bench = Bench()
    bench.outage(start=None)
    await bench.live((0, 60))
    assert windows(bench.due()) == {}


@pytest.mark.parametrize(
    "keys",
    [
        {"basis": Basis.GATEWAY},
        {"origin": False, "basis": Basis.SERVER, "flags": Flag.INITIAL},
    ],
    ids=["our time", "a look after an outage"],
)
async def test_times_that_are_not_the_readings_own_bound_nothing(keys: dict[str, object]) -> None:
    bench = Bench()
    await bench.live((0, 1), (1, 1))
    bench.outage()
    await bench.live((0, 50), (1, 50), **keys)  # type: ignore[arg-type]  # keys of several types
    await bench.live((0, 60), (1, 60))
    assert windows(bench.due()) == {0: (1, 60), 1: (1, 60)}


async def test_polled_readings_count() -> None:
    bench = Bench()
    await bench.live((0, 1), origin=False)
    bench.outage()
    await bench.live((0, 60), origin=False)
    assert windows(bench.due()) == {0: (1, 60)}


async def test_a_clock_that_was_put_back_costs_the_window_and_makes_no_duplicates() -> None:
    bench = Bench()
    await bench.live((0, 100))
    await bench.live((0, 40))
    bench.outage()
    await bench.live((0, 70))
    assert windows(bench.due()) == {}


async def test_gaps_that_wait_are_bounded_and_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    await bench.live((0, 1))
    with caplog.at_level(logging.WARNING):
        for n in range(MOST_HOLES + 3):
            bench.outage(f"down-{n}")
            await bench.live((0, 10 * n + 10))
    hole = bench.due()
    assert [claim.id for claim in hole.claims] == ["down-3"]
    assert len([record for record in caplog.records if "more gaps than can wait" in record.message]) == 1


def test_batches_are_looked_at_in_columns() -> None:
    """No Python work per reading: a hundred times the readings cost far less than a hundred times as much."""
    bench = Bench()
    batch = Batch.of(
        "reactor",
        ValueType.FLOAT64,
        np.zeros(100_000, np.int32),
        1.0,
        source_time=np.arange(100_000) + NOON,
        received_time=NOON,
        monotonic=0,
    )
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        bench.ledger.offered([batch], Origin("urn:s", 7, 1), None)
    finally:
        sys.setprofile(None)
    assert calls < 500
