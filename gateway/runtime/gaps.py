"""Gap events of one device: opened when data stops, closed by the first data that comes again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gateway.contract.adapter import Gap
from gateway.log.records import EventRecord, PointRecord
from gateway.points.ulid import ulid
from gateway.rfc3339 import rfc3339


class Gaps:
    """Makes `gap/1` events for a device and hands them to `write`.

    An outage is told twice under one id: when it begins (`to` is null) and when it ends.
    """

    def __init__(
        self,
        device: str,
        stream: str,
        *,
        now: Callable[[], int],
        write: Callable[[EventRecord], None],
        points: Callable[[], Mapping[int, PointRecord]],
    ) -> None:
        self._device = device
        self._stream = stream
        self._now = now
        self._write = write
        self._points = points
        self._open: dict[str, Any] | None = None

    @property
    def is_open(self) -> bool:
        """An outage has begun and no data has come since."""
        return self._open is not None

    def begin(self, start: int, reason: str) -> None:
        """Data stopped after `start` (ns). While an outage is open, a further reason does not begin another."""
        if self._open is None:
            self._open = {"id": ulid(self._now()), "of": self._device, "points": None, "from": rfc3339(start)}
            self._event({**self._open, "to": None, "reason": reason})
            self._open["reason"] = reason

    def end(self, end: int) -> None:
        """Data has come again at `end` (ns)."""
        if self._open is not None:
            self._event({**self._open, "to": rfc3339(end)})
            self._open = None

    def report(self, gap: Gap) -> None:
        """A gap that is over already, as an adapter reports it."""
        known = self._points()
        names = [known[index].point for index in gap.points] or None
        self._event(
            {
                "id": ulid(self._now()),
                "of": self._device,
                "points": names,
                "from": rfc3339(gap.start),
                "to": rfc3339(gap.end),
                "reason": gap.reason,
            }
        )

    def _event(self, body: dict[str, Any]) -> None:
        self._write(EventRecord(self._stream, self._now(), {"schema": "gap/1", **body}))
