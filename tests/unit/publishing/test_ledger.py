"""The account: random appends, deliveries, refusals, trims and restarts against the plain truth per reading."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.log.records import Labels, Segment, Series, StreamRecord
from gateway.publishing.clearance import Clearance, Rule
from gateway.publishing.ledger import Ledger, Settled
from gateway.publishing.ranges import Ranges
from tests.support.fakelog import NOW, FakeLog, readings, stream

OPEN = StreamRecord("S1", Labels("production", 1, "general"), NOW)
SECRET = StreamRecord("S3", Labels("production", 3, "general"), NOW)


def new_ledger() -> Ledger:
    clearance = Clearance(Rule(2))
    clearance.apply([OPEN, SECRET], 0)
    return Ledger(Ranges(), clearance)


def settled(segment: Segment, parked: dict[Series, int] | None = None) -> Settled:
    return Settled(segment.position, segment.heads, parked or {})


class Model:
    """The fate of each reading, one by one."""

    def __init__(self) -> None:
        self.log = FakeLog()
        self.log.append(stream())
        self.ledger = new_ledger()
        self.fate: dict[tuple[Series, int], str] = {}

    def append(self, sizes: list[int]) -> None:
        records = [readings(n, device=f"d{k % 2}", stream_id=("S1", "S3")[k // 2]) for k, n in enumerate(sizes) if n]
        segment = self.log.append(*records)
        for head in segment.heads:
            self.fate |= {(head.series, head.n + k): "waiting" for k in range(head.readings)}
        self.ledger.observe(segment.position, segment.heads)

    def deliver(self, backlog: bool, count: int, park: bool) -> None:
        parts = self.ledger.ranges.backlog if backlog else [self.ledger.ranges.live]
        if not parts:
            return
        part = parts[0]
        end = min(part.start + count, self.log.end if part.end is None else part.end)
        segments = []
        for segment in self.log.segments[part.start : end]:
            parked: dict[Series, int] = {}
            for head in segment.heads:
                allowed = head.series.stream == "S1"
                parked[head.series] = int(park and allowed)
                for k in range(head.readings):
                    fate = "parked" if k < parked[head.series] else "delivered"
                    self.fate[head.series, head.n + k] = fate if allowed else "withheld"
            segments.append(settled(segment, parked))
        if segments:
            self.ledger.settle(end, segments)

    def trim(self, count: int) -> None:
        position = min(self.log.first + count, self.log.end)
        for segment in self.log.segments[self.log.first : position]:
            for head in segment.heads:
                for k in range(head.readings):
                    if self.fate[head.series, head.n + k] == "waiting":
                        self.fate[head.series, head.n + k] = "dropped" if head.series.stream == "S1" else "withheld"
        self.ledger.drop(position, self.log.trim(position), "budget")

    def restart(self) -> None:
        state: dict[str, Any] = json.loads(json.dumps(self.ledger.to_state()))
        clearance = Clearance.from_state(Rule(2), state["clearance"])
        clearance.apply([OPEN, SECRET], self.log.end)
        self.ledger = Ledger.from_state(state, clearance)
        assert not self.ledger.skip_below(self.log.first)
        for part in self.ledger.ranges:
            end = self.log.end if part.end is None else part.end
            for spans in self.log.spans(part.start, end):
                self.ledger.recount(part, spans)
        self.ledger.recounted(self.log.end)

    def check(self) -> None:
        assert self.ledger.balance() == {}
        for series, account in self.ledger.accounts.items():
            fates = Counter(fate for (of, _), fate in self.fate.items() if of == series)
            assert account.accepted == fates.total()
            assert account.waiting == fates["waiting"]
            assert account.delivered == fates["delivered"]
            assert account.parked == fates["parked"]
            assert account.withheld == fates["withheld"]
            assert account.dropped.total() == fates["dropped"]
            waiting = [n for (of, n), fate in self.fate.items() if of == series and fate == "waiting"]
            assert self.ledger.complete_n(series) == min(waiting, default=account.next_n)


actions = st.one_of(
    st.tuples(st.just("append"), st.lists(st.integers(0, 3), min_size=4, max_size=4).filter(any)),
    st.tuples(st.just("deliver"), st.booleans(), st.integers(1, 4), st.booleans()),
    st.tuples(st.just("trim"), st.integers(1, 3)),
    st.tuples(st.just("live")),
    st.tuples(st.just("restart")),
)


@settings(deadline=None)
@given(st.lists(actions, max_size=40))
def test_every_reading_has_one_fate(steps: list[tuple[Any, ...]]) -> None:
    model = Model()
    for step in steps:
        match step:
            case ("append", sizes):
                model.append(sizes)
            case ("deliver", backlog, count, park):
                model.deliver(backlog, count, park)
            case ("trim", count):
                model.trim(count)
            case ("live",):
                model.ledger.go_live(model.ledger.observed)
            case _:
                model.restart()
        model.check()


def test_a_wrong_count_shows() -> None:
    ledger = new_ledger()
    log = FakeLog()
    segment = log.append(readings(5))
    ledger.observe(segment.position, segment.heads)
    ledger.settle(1, [])  # as if a segment had been forgotten
    assert ledger.balance() == {}
    state = ledger.to_state()
    again = Ledger.from_state(state, Clearance(Rule(2)))
    again.recounted(1)
    assert again.balance() == {Series("S1", "boiler-1"): 5}
    assert again.write_off("trimmed") == 5
    assert again.balance() == {}


def test_what_was_dropped_while_under_way_is_counted_once() -> None:
    model = Model()
    for _ in range(4):
        model.append([2, 0, 0, 0])
    under_way = [settled(segment) for segment in model.log.segments[1:4]]
    model.ledger.settle(1, [])
    model.trim(3)
    model.ledger.settle(4, under_way)
    account = model.ledger.accounts[Series("S1", "d0")]
    assert (account.dropped.total(), account.delivered, account.waiting) == (4, 2, 2)
    assert model.ledger.balance() == {}


def test_a_segment_that_cannot_be_read_is_dropped_as_damaged() -> None:
    log, ledger = FakeLog(), new_ledger()
    first, second, third = (log.append(readings(5)) for _ in range(3))
    ledger.observe(0, first.heads)
    ledger.observe(1, [])  # not even its heads are readable
    ledger.observe(2, third.heads)
    assert second.heads
    ledger.settle(3, [Settled(0, first.heads, {}, damaged=True), Settled(1, []), settled(third)])
    account = ledger.accounts[Series("S1", "boiler-1")]
    assert (account.accepted, account.dropped, account.delivered) == (15, {"damaged": 10}, 5)
    assert ledger.balance() == {}
