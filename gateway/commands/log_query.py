"""What somebody asks of the log: which readings and events, batch by batch in the log's order."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.commands.log_place import Place, in_order, time_of
from gateway.contract import Batch, ConfigError
from gateway.log import LogView, Outline
from gateway.log.records import EVENTS_DEVICE, BatchRecord, EventRecord, PointRecord, Segment, SeriesHead
from gateway.log.times import EARLIEST, LATEST, TimeRange


@dataclass(frozen=True)
class Query(TimeRange):
    """Which readings or events."""

    device: str | None = None
    """a name, `*` and `?` stand for others"""
    point: str | None = None

    def outlined(self, outline: Outline) -> bool:
        """Can there be readings in this segment?"""
        if self.device is not None and not any(self.of_device(one.series.device) for one in outline.series):
            return False
        if self.by_received:
            return self.overlaps(outline.min_received, outline.max_received)
        return self.overlaps(outline.min_source, outline.max_source)

    def outlined_events(self, outline: Outline) -> bool:
        """Can there be events in this segment?"""
        return any(map(self._events, outline.series))

    def of_device(self, device: str) -> bool:
        """Is this device meant?"""
        return self.device is None or fnmatch.fnmatchcase(device, self.device)

    def of_point(self, point: str, tag: str | None) -> bool:
        """Is this point meant, by its local name or its plant tag (位号)?"""
        return self.point is None or any(fnmatch.fnmatchcase(text, self.point) for text in (point, tag) if text)

    def _events(self, head: SeriesHead) -> bool:
        return head.series.device == EVENTS_DEVICE and self.overlaps(head.min_time, head.max_time)


class Asked(NamedTuple):
    """The options as they were typed."""

    device: str | None = None
    point: str | None = None
    since: str | None = None
    until: str | None = None
    by: str = "source"

    def query(self, place: Place) -> Query:
        """What they ask for. Raises ConfigError."""
        if self.by not in ("source", "received"):
            raise ConfigError(f"--by: expected source or received, found {self.by!r}")
        since, until = time_of(self.since, "--from", place.zone), time_of(self.until, "--to", place.zone)
        in_order(since, until)
        return Query(
            EARLIEST if since is None else since,
            LATEST if until is None else until,
            self.by == "received",
            self.device,
            self.point,
        )


class Rows(NamedTuple):
    """Readings of one batch."""

    batch: Batch
    """those that are meant, and no others"""
    stream: str
    n: npt.NDArray[np.int64]
    points: dict[int, PointRecord]
    """the device's entries by index"""


class Readings:
    """The readings that a query asks for, in the log's order, a batch at a time."""

    def __init__(self, view: LogView, query: Query) -> None:
        self._view = view
        self._query = query
        self._points: dict[str, dict[int, PointRecord]] = {}
        for record in view.records:
            if isinstance(record, PointRecord):
                self._points.setdefault(record.device, {})[record.index] = record
        self._wanted: dict[str, npt.NDArray[np.int32] | None] = {}
        self.position = view.files[0].first
        """how far it is"""
        self.damaged = 0
        """segments that could not be read"""

    def __iter__(self) -> Iterator[Rows]:
        for segment in self._view.segments(self._query.outlined):
            self.position = segment.position
            self.damaged += segment.damage is not None
            yield from self._of_segment(segment)

    def _of_segment(self, segment: Segment) -> Iterator[Rows]:
        for record in segment.records:
            if isinstance(record, BatchRecord) and self._query.of_device(record.batch.device):
                kept = self._kept(record.batch)
                if kept.any():
                    where = np.flatnonzero(kept)
                    batch = record.batch if len(where) == len(kept) else record.batch.take(where)
                    yield Rows(batch, record.stream, record.n + where, self._points.get(batch.device, {}))

    def _kept(self, batch: Batch) -> npt.NDArray[np.bool_]:
        kept = self._query.rows(batch)
        if self._query.point is not None and kept.any():
            kept &= np.isin(batch.points, self._indexes(batch.device))
        return kept

    def _indexes(self, device: str) -> npt.NDArray[np.int32]:
        """Of the points that are meant."""
        found = self._wanted.get(device)
        if found is None:
            known = self._points.get(device, {})
            found = np.array(
                [index for index, one in known.items() if self._query.of_point(one.point, one.tag)], np.int32
            )
            self._wanted[device] = found
        return found


class Events:
    """The events that a query asks for, in the log's order. A device means the events that are of it."""

    def __init__(self, view: LogView, query: Query) -> None:
        if query.point is not None:
            raise ConfigError("--point: an event is of a device, not of a point; leave it out with --events")
        self._view = view
        self._query = query
        self.position = view.files[0].first
        """how far it is"""
        self.damaged = 0
        """segments that could not be read"""

    def __iter__(self) -> Iterator[EventRecord]:
        for segment in self._view.segments(self._query.outlined_events):
            self.position = segment.position
            self.damaged += segment.damage is not None
            for record in segment.records:
                if isinstance(record, EventRecord) and self._meant(record):
                    yield record

    def _meant(self, record: EventRecord) -> bool:
        named = self._query.device is None or self._query.of_device(str(record.body.get("of")))
        return named and self._query.holds(record.time)
