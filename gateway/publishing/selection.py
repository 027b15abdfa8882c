"""A time range of the log that is meant by a replay: which segments, and which of their readings. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.contract.batch import Batch
from gateway.log.reading import Outline
from gateway.log.records import EVENTS_DEVICE, BatchRecord, EventRecord, Segment, Series, SeriesHead, StreamRecord
from gateway.log.times import TimeRange
from gateway.publishing.clearance import Clearance
from gateway.publishing.hidden import Hidden
from gateway.publishing.lanes import Event
from gateway.publishing.ranges import Range
from gateway.publishing.runs import Run, Slice, gather, visible

Spans = Mapping[Series, Sequence[tuple[int, int]]]
"""offsets first <= n < end, per series"""


@dataclass(frozen=True)
class Selection(TimeRange):
    """A time range, of some devices or of all (None).

    Events are meant where their own time lies inside: all of them, or those of the devices that are named.
    """

    devices: frozenset[str] | None = None

    def wants(self, head: SeriesHead) -> bool:
        """Can a segment with this head hold something? Where times are those of arrival, heads do not say: perhaps."""
        if head.series.device == EVENTS_DEVICE:
            return self.overlaps(head.min_time, head.max_time)
        if self.devices is not None and head.series.device not in self.devices:
            return False
        return self.by_received or self.overlaps(head.min_time, head.max_time)

    def touches(self, outline: Outline) -> bool:
        """Can there be something in what has this outline?"""
        return any(self.wants(head) and self._arrived(head, outline) for head in outline.series)

    def known(self, outline: Outline) -> Counter[Series] | None:
        """How many readings and events are meant, by series; None where the outline alone does not tell."""
        found: Counter[Series] = Counter()
        for head in outline.series:
            if not self.wants(head) or not self._arrived(head, outline):
                continue
            events = head.series.device == EVENTS_DEVICE
            if self.by_received and not events:
                whole = self.holds_all(outline.min_received, outline.max_received)
            else:
                whole = self.holds_all(head.min_time, head.max_time)
            if not whole or (events and self.devices is not None):
                return None
            found[head.series] += head.readings
        return found

    def readings_of(self, segment: Segment) -> Counter[Series]:
        """How many readings and events of a segment are meant, by series."""
        found: Counter[Series] = Counter()
        for record in segment.records:
            if isinstance(record, BatchRecord):
                found[record.series] += int(self.rows(record.batch).sum())
            elif isinstance(record, EventRecord):
                found[record.series] += self.means(record)
        return found

    def rows(self, batch: Batch) -> npt.NDArray[np.bool_]:
        """bool[n]: which readings of a batch are meant."""
        if self.devices is not None and batch.device not in self.devices:
            return np.zeros(len(batch), np.bool_)
        return super().rows(batch)

    def means(self, record: EventRecord) -> bool:
        """Is this event meant?"""
        named = self.devices is None or record.body.get("of") in self.devices
        return named and self.holds(record.time)

    def _arrived(self, head: SeriesHead, outline: Outline) -> bool:
        if not self.by_received or head.series.device == EVENTS_DEVICE:
            return True
        return self.overlaps(outline.min_received, outline.max_received)


class Found(NamedTuple):
    """What is to be sent again of some segments, and what became of the rest of what was meant."""

    runs: list[Run]
    events: list[Event]
    counts: Counter[str]
    """readings and events: sent, withheld, waiting, parked"""


class Exempt(NamedTuple):
    """What is not sent again, though it is meant."""

    undelivered: Sequence[Range] = ()
    """goes in the lanes live and backlog"""
    parked: Spans = MappingProxyType({})
    """goes with `log parked --resend`; else it would be at the receiver without the account knowing"""


def select(
    segments: Iterable[Segment], selection: Selection, clearance: Clearance, hidden: Hidden, exempt: Exempt
) -> Found:
    """What may be sent again: what the destination was given before and is still entitled to."""
    slices: list[Slice] = []
    events: list[Event] = []
    counts: Counter[str] = Counter()
    for segment in segments:
        waits = any(part.holds(segment.position) for part in exempt.undelivered)
        for record in segment.records:
            match record:
                case BatchRecord():
                    meant = selection.rows(record.batch)
                    total = int(meant.sum())
                    if total and (reason := _reason(record, segment, clearance, waits=waits)):
                        counts[reason] += total
                    elif total:
                        slices += _slices(record, segment.position, meant, hidden, exempt.parked, counts)
                case EventRecord() if selection.means(record):
                    if reason := _reason(record, segment, clearance, waits=waits):
                        counts[reason] += 1
                    elif _spanned(np.array([record.n]), exempt.parked.get(record.series, ())).any():
                        counts["parked"] += 1
                    else:
                        events.append(Event(record, segment.position))
                        counts["sent"] += 1
                case StreamRecord():
                    clearance.learn(record)
                case _:
                    pass
    return Found(gather(slices), events, counts)


def _reason(record: BatchRecord | EventRecord, segment: Segment, clearance: Clearance, *, waits: bool) -> str | None:
    """Why all of a record is left out."""
    if not clearance.allows(record.stream, segment.position):
        return "withheld"
    return "waiting" if waits else None


def _slices(
    record: BatchRecord,
    position: int,
    meant: npt.NDArray[np.bool_],
    hidden: Hidden,
    parked: Spans,
    counts: Counter[str],
) -> list[Slice]:
    if (rows := hidden.rows(record.batch)) is not None:
        counts["withheld"] += int((meant & rows).sum())
        meant = meant & ~rows
    if spans := parked.get(record.series):
        rows = _spanned(record.n + np.arange(len(meant)), spans)
        counts["parked"] += int((meant & rows).sum())
        meant = meant & ~rows
    counts["sent"] += int(meant.sum())
    return visible(record, position, ~meant)


def _spanned(offsets: npt.NDArray[np.int64], spans: Sequence[tuple[int, int]]) -> npt.NDArray[np.bool_]:
    rows = np.zeros(len(offsets), np.bool_)
    for first, end in spans:
        rows |= (offsets >= first) & (offsets < end)
    return rows
