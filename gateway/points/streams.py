"""Streams: one per set of labels; a new one begins whenever the old one's offsets can no longer be trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.log.records import EventRecord, Labels, Series, StreamRecord
from gateway.points.table import PointTable
from gateway.points.ulid import ulid


class Streams:
    """Finds or begins the stream for a set of labels.

    With `continue_old` False (the log was created, copied, restored, cut, or written by another box) no stream that
    the table knows is written to again.
    """

    def __init__(
        self, table: PointTable, *, continue_old: bool, now: Callable[[], int], begin: Callable[[StreamRecord], None]
    ) -> None:
        self._now = now
        self._begin = begin
        # A clock that was put back must not make a new stream look older than the one it follows.
        self._newest = max((stream.stream for stream in table.streams()), default="")
        self._open: dict[Labels, StreamRecord] = {}
        if continue_old:
            for stream in table.streams():
                known = self._open.get(stream.labels)
                if known is None or stream.stream > known.stream:
                    self._open[stream.labels] = stream

    def for_labels(self, labels: Labels) -> str:
        """The id of the stream for these labels; begins one if there is none."""
        if labels not in self._open:
            now = self._now()
            self._newest = ulid(now, self._newest)
            self._open[labels] = StreamRecord(self._newest, labels, now)
            self._begin(self._open[labels])
        return self._open[labels].stream

    def open(self) -> list[str]:
        """Ids of the streams that are written to."""
        return [stream.stream for stream in self._open.values()]

    def successor(self, labels: Labels) -> str | None:
        """The open stream with these labels, if there is one."""
        known = self._open.get(labels)
        return known.stream if known else None


def closing_events(
    table: PointTable, streams: Streams, next_n: Mapping[Series, int], reason: str, now: int
) -> list[EventRecord]:
    """`stream/1` events that close every stream which was written to and goes on no longer.

    Each travels in the successor's stream, so that it obeys the same clearance, and names the last offset that this
    log knows of each device, and the successor.
    """
    events = []
    newest: dict[Labels, StreamRecord] = {}
    for stream in table.streams():
        if stream.labels not in newest or stream.stream > newest[stream.labels].stream:
            newest[stream.labels] = stream
    for labels, stream in newest.items():
        last = {series.device: n - 1 for series, n in next_n.items() if series.stream == stream.stream and n > 0}
        if not last or stream.stream == streams.successor(labels):
            continue
        successor = streams.for_labels(labels)
        body = {
            "schema": "stream/1",
            "closed": stream.stream,
            "labels": {"domain": labels.domain, "grade": labels.grade, "class": labels.data_class},
            "last": last,
            "reason": reason,
            "successor": successor,
        }
        events.append(EventRecord(successor, now, body))
    return events
