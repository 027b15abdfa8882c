"""Lanes: the live one and the backlog one; each reads chunks of the log in order and settles them in order. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gateway.log.records import BatchRecord, EventRecord, Segment, Series, StreamRecord
from gateway.publishing.clearance import Clearance
from gateway.publishing.hidden import Hidden
from gateway.publishing.ledger import NOTHING, Heads, Settled
from gateway.publishing.runs import Run, Slice, gather, visible, whole

Settle = Callable[[int, list[Settled]], None]
Park = Callable[[dict[str, Any]], None]


@dataclass(slots=True)
class Chunk:
    """A stretch of the log that is sent as one: done when every message made from it is acknowledged."""

    end: int
    """position after the last segment"""
    segments: list[tuple[int, Heads, bool]] = field(default_factory=list)
    """position, heads, damaged"""
    pending: int = 0
    """messages that are not acknowledged yet"""
    sealed: bool = False
    """every message was handed over"""
    parked: defaultdict[int, Counter[Series]] = field(default_factory=lambda: defaultdict(Counter))
    """readings that the broker refused for good, by position"""
    withheld: defaultdict[int, Counter[Series]] = field(default_factory=lambda: defaultdict(Counter))
    """readings of hidden points, by position"""

    @property
    def done(self) -> bool:
        """Nothing is left to send or to wait for."""
        return self.sealed and self.pending == 0

    def settled(self) -> list[Settled]:
        """For the ledger."""
        return [
            Settled(position, heads, self.parked.get(position, NOTHING), damaged, self.withheld.get(position, NOTHING))
            for position, heads, damaged in self.segments
        ]


class Lane:
    """One reader of the log with its outstanding chunks."""

    def __init__(
        self, name: str, position: int, settle: Settle, park: Park, *, yields: bool = False, counted: bool = True
    ) -> None:
        self.name = name
        """live, backlog or replay, as on the wire"""
        self.yields = yields
        """whether what waits in other lanes goes first"""
        self.park = park
        """takes an entry for what the broker refuses for good"""
        self.counted = counted
        """whether what it carries counts in the account; else it was counted before"""
        self.position = position
        """what is read next"""
        self._settle = settle
        self._chunks: deque[Chunk] = deque()

    def begin(self, segments: Iterable[Segment], end: int) -> Chunk:
        """Take over segments that were read from `position` on, up to `end`: there are no others below it."""
        chunk = Chunk(end)
        for segment in segments:
            chunk.segments.append((segment.position, segment.heads, segment.damage is not None))
        self.position = end
        self._chunks.append(chunk)
        return chunk

    def acknowledge(self, chunk: Chunk) -> None:
        """One message of the chunk is done with."""
        chunk.pending -= 1
        self.advance()

    def seal(self, chunk: Chunk) -> None:
        """No further messages will be made from the chunk."""
        chunk.sealed = True
        self.advance()

    def advance(self) -> None:
        """Settle the finished chunks at the front: out of order nothing moves, so that ranges only shrink."""
        while self._chunks and self._chunks[0].done:
            chunk = self._chunks.popleft()
            self._settle(chunk.end, chunk.settled())


@dataclass(frozen=True, slots=True)
class Event:
    """An event record and where it lies."""

    record: EventRecord
    position: int


class Contents(NamedTuple):
    """What may be sent of some segments, and what of their open streams may not."""

    runs: list[Run]
    events: list[Event]
    withheld: list[tuple[int, Series, int]]
    """position, series and number of readings of hidden points"""


def contents(segments: Iterable[Segment], clearance: Clearance, hidden: Hidden) -> Contents:
    """Take segments apart."""
    slices: list[Slice] = []
    events: list[Event] = []
    withheld: list[tuple[int, Series, int]] = []
    for segment in segments:
        for record in segment.records:
            match record:
                case BatchRecord():
                    if clearance.allows(record.stream, segment.position):
                        rows = hidden.rows(record.batch)
                        if rows is None:
                            slices.append(whole(record, segment.position))
                        else:
                            slices += visible(record, segment.position, rows)
                            withheld.append((segment.position, record.series, int(rows.sum())))
                case EventRecord():
                    if clearance.allows(record.stream, segment.position):
                        events.append(Event(record, segment.position))
                case StreamRecord():
                    clearance.learn(record)
                case _:
                    pass
    return Contents(gather(slices), events, withheld)
