"""The account of one destination: accepted = delivered + waiting + parked + withheld + dropped, per series. Pure.

`delivered`, `withheld`, `parked` and `dropped` are counted when a stretch of the log is settled and are saved together
with the ranges in one write. `accepted` follows from offsets and `waiting` is counted again from the log at every
start, so that the equation can fail, and `balance` says where.

What waits of a series in one range are spans of offsets. They may hold some that the log cannot give any more: that
shows when the delivery gets there, and then they are dropped as damaged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from gateway.log.records import Series, SeriesHead, Span
from gateway.publishing.clearance import Clearance
from gateway.publishing.ranges import Range, Ranges

Heads = Sequence[SeriesHead]
NOTHING: Mapping[Series, int] = MappingProxyType({})
TRIMMED = "trimmed"
"""reason of a drop that nobody told us about: the log no longer holds what our position needs"""
DAMAGED = "damaged"
"""reason of a drop: the log holds bytes that are not what was written"""
_NO_FIRST, _NO_LAST = 2**63 - 1, -(2**63)
"""times of an account that no head has been seen of yet"""
_ENTRY_FIELDS = 11
"""of a saved account"""


@dataclass(slots=True)
class SeriesAccount:
    """Counts of one series since the destination's start."""

    first_n: int
    next_n: int
    """offset after the last accepted one"""
    first_time: int
    last_time: int
    """least and greatest source time accepted, ns"""
    delivered: int = 0
    withheld: int = 0
    parked: int = 0
    waiting: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    confirmed: int = 0
    """of the delivered, how many the centre said are stored"""

    @property
    def accepted(self) -> int:
        """Readings in the log since the destination's start, by their offsets."""
        return self.next_n - self.first_n

    @property
    def timed(self) -> bool:
        """Whether the times of anything accepted are known: not while all that there is cannot be read."""
        return self.accepted > 0 and self.first_time <= self.last_time

    @property
    def difference(self) -> int:
        """accepted minus all that was counted; 0 when the account is right."""
        counted = self.delivered + self.waiting + self.parked + self.withheld + self.dropped.total()
        return self.accepted - counted


class Settled(NamedTuple):
    """One segment that has nothing left to send."""

    position: int
    heads: Heads
    parked: Mapping[Series, int] = NOTHING
    """of the segment's readings, how many the broker refused for good"""
    damaged: bool = False
    """the log could not read it any more"""
    withheld: Mapping[Series, int] = NOTHING
    """of the segment's readings, how many belong to points whose label was raised since"""


class _Waiting:
    """What waits of one series in one range: spans in order, mostly one."""

    __slots__ = ("_spans",)

    def __init__(self) -> None:
        self._spans: list[Span] = []

    def __iter__(self) -> Iterator[Span]:
        return iter(self._spans)

    def add(self, span: Span) -> None:
        """Offsets after all others."""
        if self._spans and self._spans[-1].end == span.first:
            self._spans[-1] = Span(self._spans[-1].first, span.end)
        else:
            self._spans.append(span)

    def take(self, below: int) -> int:
        """Take out all offsets below; returns how many there were."""
        taken = 0
        while self._spans and self._spans[0].first < below:
            first, end = self._spans[0]
            taken += min(end, below) - first
            if end > below:
                self._spans[0] = Span(below, end)
                break
            del self._spans[0]
        return taken


class Ledger:
    """Ranges and counts of one destination, changed together."""

    def __init__(self, ranges: Ranges, clearance: Clearance) -> None:
        self.clearance = clearance
        self.confirming = False
        """what is delivered from now on was confirmed by the centre"""
        self._ranges = ranges
        self._accounts: dict[Series, SeriesAccount] = {}
        self._spans: dict[int | None, dict[Series, _Waiting]] = {part.end: {} for part in ranges}
        """what waits in each range; `waiting` of an account is the sum"""
        self._observed = ranges.live.start
        self._hole = DAMAGED
        """why offsets are missing between what was counted and what the log holds"""

    @property
    def ranges(self) -> Ranges:
        """What is undelivered. Change it through the ledger only."""
        return self._ranges

    @property
    def observed(self) -> int:
        """Everything below this position is accounted as accepted."""
        return self._observed

    @property
    def accounts(self) -> Mapping[Series, SeriesAccount]:
        """All series, by stream and device."""
        return self._accounts

    def observe(self, position: int, heads: Heads) -> None:
        """The log holds a segment at `position`; in order, each at least once, repetitions are passed over."""
        if position < self._observed:
            return
        self._observed = position + 1
        if self._ranges.live.holds(position):
            self._take(heads)

    def observe_until(self, end: int, heads: Iterable[SeriesHead]) -> None:
        """The log holds `heads` at the positions from `observed` to `end`."""
        if end > self._observed:
            self._take(heads)
            self._observed = end

    def recount(self, part: Range, spans: Mapping[Series, Span]) -> None:
        """At the start: what one undelivered range really holds, part by part and range by range in the order of the
        log. For the live range, up to the log's end.
        """
        for series, span in spans.items():
            self._add(part.end, series, span)

    def recounted(self, log_end: int) -> None:
        """At the start, after `recount` of all ranges."""
        self._hole = DAMAGED
        self._observed = max(self._observed, log_end)

    def learn_times(self, heads: Iterable[SeriesHead]) -> None:
        """At the start, after `recount`: source times of what lies in the ranges."""
        for head in heads:
            account = self._accounts.get(head.series)
            if account is not None and head.n >= account.first_n:
                account.first_time = min(account.first_time, head.min_time)
                account.last_time = max(account.last_time, head.max_time)

    def go_live(self, position: int) -> bool:
        """Let the live range begin at `position` (<= observed); False when there are too many ranges for that."""
        live = self._ranges.live
        if position <= live.start:
            return True
        if position != self._observed:
            raise ValueError(f"go_live({position}) with the log observed until {self._observed}")
        joined = any(part.end == live.start for part in self._ranges.backlog)
        if not self._ranges.split(position):
            return False
        spans = self._spans.pop(live.start) if joined else {}
        for series, waiting in self._spans.pop(None).items():
            before = spans.setdefault(series, _Waiting())
            for span in waiting:
                before.add(span)
        self._spans[position] = spans
        self._spans[None] = {}
        return True

    def settle(self, end: int, segments: Sequence[Settled]) -> None:
        """The first segments of one range are done, up to `end`; what was dropped meanwhile is not counted again."""
        for segment in segments:
            part = self._range_of(segment.position)
            if part is None:
                continue
            spans = self._spans[part.end]
            for series, n, readings, _, _ in segment.heads:
                waiting, account = spans[series], self._accounts[series]
                self._give_up(series, waiting.take(n), segment.position, DAMAGED)
                parked = segment.parked.get(series, 0)
                withheld = segment.withheld.get(series, 0)
                account.parked += parked
                account.withheld += withheld
                rest = readings - parked - withheld
                if not self.clearance.allows(series.stream, segment.position):
                    account.withheld += rest
                elif segment.damaged:
                    account.dropped[DAMAGED] += rest
                else:
                    account.delivered += rest
                    account.confirmed += rest if self.confirming else 0
                account.waiting -= waiting.take(n + readings)
        if (part := self._range_of(end - 1)) is not None:
            self._shrink(part, end)

    def resent(self, series: Series, count: int, parked: int, withheld: int) -> None:
        """Of `count` parked readings of a series all were sent again but these; no longer open are `withheld`."""
        account = self._accounts.get(series)
        if account is None:
            return
        moved = min(count, account.parked) - parked - withheld  # fewer when the books were begun anew since
        if moved >= 0:
            account.parked -= moved + withheld
            account.withheld += withheld
            account.delivered += moved
            account.confirmed += moved if self.confirming else 0

    def drop(self, position: int, heads: Iterable[SeriesHead], reason: str) -> None:
        """Everything below `position` leaves the log; `heads` are of all segments that leave (position order)."""
        gone: dict[Series, int] = {}
        for head in heads:
            gone[head.series] = max(gone.get(head.series, 0), head.n + head.readings)
        for part in self._ranges:
            if part.start >= position:
                break
            spans = self._spans[part.end]
            whole = part.end is not None and part.end <= position
            for series, waiting in spans.items():
                lost = waiting.take(self._accounts[series].next_n if whole else gone.get(series, 0))
                self._give_up(series, lost, part.start, reason)
            self._shrink(part, position)

    def write_off(self, reason: str) -> int:
        """Count what the log lost without telling (positions below its first) as dropped; returns how many."""
        lost = 0
        for account in self._accounts.values():
            missing = account.difference
            if missing > 0:
                account.dropped[reason] += missing
                lost += missing
        return lost

    def balance(self) -> dict[Series, int]:
        """Series whose account is not right, with accepted minus counted. Empty = all is well."""
        return {series: account.difference for series, account in self._accounts.items() if account.difference}

    def complete_n(self, series: Series) -> int:
        """Every offset of the series below is delivered or accounted for."""
        for part in self._ranges:
            for span in self._spans[part.end].get(series, ()):
                return span.first
        return self._accounts[series].next_n

    def to_state(self) -> dict[str, Any]:
        """JSON-able; to be saved in one write."""
        return {
            "ranges": self._ranges.to_state(),
            "clearance": self.clearance.to_state(),
            "accounts": [
                [
                    *series,
                    account.first_n,
                    account.next_n,
                    account.first_time,
                    account.last_time,
                    account.delivered,
                    account.withheld,
                    account.parked,
                    dict(account.dropped),
                    account.confirmed,
                ]
                for series, account in self._accounts.items()
            ],
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], clearance: Clearance) -> Ledger:
        """What `to_state` gave; `recount` every range and call `recounted` before use."""
        ledger = cls(Ranges.from_state(state["ranges"]), clearance)
        for stream, device, first_n, next_n, first_time, last_time, *counts, dropped, confirmed in map(
            _entry, state["accounts"]
        ):
            delivered, withheld, parked = counts
            ledger._accounts[Series(stream, device)] = SeriesAccount(
                first_n, next_n, first_time, last_time, delivered, withheld, parked, 0, Counter(dropped), confirmed
            )
        return ledger

    def skip_below(self, position: int) -> bool:
        """At the start, before `recount`: forget what lies below the log's first position. True if there was any."""
        if self._ranges.first >= position:
            return False
        self._hole = TRIMMED
        self._ranges.complete(self._ranges.first, position)
        self._spans = {part.end: {} for part in self._ranges}
        self._observed = max(self._observed, position)
        return True

    def _take(self, heads: Iterable[SeriesHead]) -> None:
        for head in heads:
            account = self._add(None, head.series, Span(head.n, head.n + head.readings))
            account.first_time = min(account.first_time, head.min_time)
            account.last_time = max(account.last_time, head.max_time)

    def _add(self, end: int | None, series: Series, span: Span) -> SeriesAccount:
        account = self._accounts.get(series)
        if account is None:
            account = SeriesAccount(span.first, span.first, _NO_FIRST, _NO_LAST)
            self._accounts[series] = account
        if span.first > account.next_n:  # a segment between could not even be counted
            account.dropped[self._hole] += span.first - account.next_n
        account.next_n = max(account.next_n, span.end)
        account.waiting += span.end - span.first
        spans = self._spans[end]
        waiting = spans.get(series)
        if waiting is None:
            waiting = spans[series] = _Waiting()
        waiting.add(span)
        return account

    def _range_of(self, position: int) -> Range | None:
        return next((part for part in self._ranges if part.holds(position)), None)

    def _shrink(self, part: Range, until: int) -> None:
        end = until if part.end is None else min(until, part.end)
        if end > part.start:
            self._ranges.complete(part.start, end)
        if part.end is not None and end == part.end:
            for series, waiting in self._spans.pop(part.end).items():
                self._give_up(series, waiting.take(self._accounts[series].next_n), part.start, DAMAGED)

    def _give_up(self, series: Series, count: int, position: int, reason: str) -> None:
        if count <= 0:
            return
        account = self._accounts[series]
        account.waiting -= count
        if self.clearance.allows(series.stream, position):
            account.dropped[reason] += count
        else:
            account.withheld += count


def _entry(saved: list[Any]) -> list[Any]:
    """An account as it was saved; before centres could confirm there was no count of that."""
    return saved if len(saved) == _ENTRY_FIELDS else [*saved, 0]
