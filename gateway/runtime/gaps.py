"""Gap events of one device: opened when data stops, closed by the first data that comes again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from gateway.contract.adapter import Filled, Gap, OpenGap
from gateway.log.records import EventRecord, PointRecord
from gateway.points.ulid import ulid
from gateway.rfc3339 import from_rfc3339, rfc3339

KNOWN_GAPS: Final = 1000
"""how many gaps are remembered with the streams that were told of them"""
_CLOSE_NS: Final = 60 * 10**9


def covered_until(newest: int, arrived: int) -> int:
    """Until when (ns) a device is covered by what had come at `arrived`, `newest` being the latest source time of it.

    That is `newest` if it is close: what was sampled after it had not come yet. Else the device's clock cannot be
    compared with ours or it was quiet, and all that is known is that what arrived before is here.
    """
    return newest if arrived - _CLOSE_NS <= newest <= arrived else arrived


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
        self._told: dict[str, tuple[str, ...]] = {}
        """streams by gap id, where not all of the device's were told; the newest `KNOWN_GAPS`"""

    @property
    def is_open(self) -> bool:
        """An outage has begun and no data has come since."""
        return bool(self._open)

    def outage(self) -> OpenGap | None:
        """The outage that has begun and that no data has ended."""
        if not self._open:
            return None
        body = self._open[0]
        since = None if body["from"] is None else from_rfc3339(body["from"])
        return OpenGap(body["id"], since, body["reason"])

    def left_open(self) -> list[dict[str, Any]]:
        """Bodies of the outages that have begun, for whoever goes on with the device (`resume`)."""
        return [dict(body) for body in self._open]

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
            known = body["from"] is not None and from_rfc3339(body["from"]) <= end
            self._event({**body, "from": body["from"] if known else None, "to": rfc3339(end)}, self._streams)
        self._open = []

    def report(self, gap: Gap) -> str:
        """A gap that is over already, as an adapter reports it; returns its id."""
        names = self._names(gap.points)
        id = ulid(self._now())
        if gap.points:
            self._told[id] = tuple(names)
            if len(self._told) > KNOWN_GAPS:
                del self._told[next(iter(self._told))]
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
        return id

    def filled(self, filled: Filled) -> None:
        """Readings of a gap came after all: a `gap-filled/1` event in each stream that they are in.

        Without points those are the streams that were told of the gap. Readings of several streams have been counted
        together, so that the count is told only where there is one.
        """
        names = self._names(filled.points)
        if not filled.points:
            names = dict.fromkeys(self._told.get(filled.gap, self._streams))
        for stream, points in names.items():
            body = {
                "id": filled.gap,
                "of": self._device,
                "points": points,
                "from": rfc3339(filled.start),
                "to": rfc3339(filled.end),
                "count": filled.readings if len(names) == 1 else None,
            }
            self._event(body, [stream], "gap-filled/1")

    def _names(self, points: Sequence[int]) -> dict[str, list[str] | None]:
        """Point names by stream; without points, None for each of the device's streams."""
        if not points:
            return dict.fromkeys(self._streams)
        known = self._points()
        names: dict[str, list[str] | None] = {}
        for point in map(known.__getitem__, points):
            names[point.stream] = [*(names.get(point.stream) or []), point.point]
        return names

    def _event(self, body: Mapping[str, Any], streams: Sequence[str], schema: str = "gap/1") -> None:
        for stream in streams:
            self._write(EventRecord(stream, self._now(), {"schema": schema, **body}))
