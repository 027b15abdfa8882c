"""Gap events of one device: opened when data stops, closed by the first data that comes again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from gateway.contract.adapter import Gap
from gateway.log.records import EventRecord, PointRecord
from gateway.points.ulid import ulid
from gateway.rfc3339 import rfc3339


class Gaps:
    """Makes `gap/1` events for a device and hands them to `write`.

    An outage is told twice under one id: when it begins (`to` is null) and when it ends. It is told in each of the
    device's streams, so that whoever may see some of its points learns of it; point names only in their own stream.
    """

    def __init__(
        self,
        device: str,
        streams: Sequence[str],
        *,
        now: Callable[[], int],
        write: Callable[[EventRecord], None],
        points: Callable[[], Mapping[int, PointRecord]],
    ) -> None:
        self._device = device
        self._streams = streams
        self._now = now
        self._write = write
        self._points = points
        self._open: list[dict[str, Any]] = []

    @property
    def is_open(self) -> bool:
        """An outage has begun and no data has come since."""
        return bool(self._open)

    def resume(self, left_open: Sequence[Mapping[str, Any]]) -> None:
        """Go on with outages that an earlier start began and did not end: bodies of gap events, in any order."""
        for body in left_open:
            if body["of"] == self._device:
                self._open.append({key: body[key] for key in ("id", "of", "points", "from", "reason")})

    def begin(self, start: int, reason: str) -> None:
        """Data stopped after `start` (ns). While an outage is open, a further reason does not begin another."""
        if not self._open:
            now = self._now()
            # A start in the future comes from before the clock was put back: then nobody knows when it was.
            since = rfc3339(start) if start <= now else None
            self._open = [{"id": ulid(now), "of": self._device, "points": None, "from": since, "reason": reason}]
            self._event({**self._open[0], "to": None}, self._streams)

    def end(self, end: int) -> None:
        """Data has come again at `end` (ns)."""
        for body in self._open:
            known = body["from"] is not None and datetime.fromisoformat(body["from"]).timestamp() <= end / 1e9
            self._event({**body, "from": body["from"] if known else None, "to": rfc3339(end)}, self._streams)
        self._open = []

    def report(self, gap: Gap) -> None:
        """A gap that is over already, as an adapter reports it."""
        known = self._points()
        names: dict[str, list[str] | None] = dict.fromkeys(self._streams)
        if gap.points:
            names = {}
            for point in map(known.__getitem__, gap.points):
                names[point.stream] = [*(names.get(point.stream) or []), point.point]
        id = ulid(self._now())
        for stream, points in names.items():
            body = {
                "id": id,
                "of": self._device,
                "points": points,
                "from": rfc3339(gap.start),
                "to": rfc3339(gap.end),
                "reason": gap.reason,
            }
            self._event(body, [stream])

    def _event(self, body: Mapping[str, Any], streams: Sequence[str]) -> None:
        for stream in streams:
            self._write(EventRecord(stream, self._now(), {"schema": "gap/1", **body}))
