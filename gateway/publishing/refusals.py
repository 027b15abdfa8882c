"""Tells receivers, by `refusal/1` events, that a destination does not take readings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.contract import Clock
from gateway.log.records import EventRecord, Series

APART_NS = 3600 * 1_000_000_000
"""between two events with the same reason in the same stream"""
MOST_TOLD = 256
"""reasons that are remembered; a centre may make up as many as it likes"""


class Refusals:
    """Writes events into the log, where they get their offsets; outlives connections."""

    def __init__(
        self,
        destination: str,
        clock: Clock,
        streams: Callable[[], Sequence[str]],
        write: Callable[[Sequence[EventRecord]], object],
    ) -> None:
        """`streams`: ids of those that are written to now; `write` takes events for the log."""
        self._destination = destination
        self._clock = clock
        self._streams = streams
        self._write = write
        self._told: dict[tuple[str, str], int] = {}

    def stopped(self, reason: str, advice: str) -> None:
        """The broker takes nothing until somebody changes something: told in every stream."""
        self._tell(
            self._streams(), reason, f"the broker refuses readings, the destination stands still: {advice}", None
        )

    def parked(self, series: Series, reason: str, count: int, who: str) -> None:
        """`who`, the broker or the centre, will never take `count` readings: told in their stream."""
        message = f"the {who} will never take these readings; they are set aside, see `edge-gateway log parked`"
        self._tell([series.stream], reason, message, count)

    def _tell(self, streams: Sequence[str], reason: str, message: str, count: int | None) -> None:
        now = self._clock.monotonic_ns()
        fresh = [stream for stream in streams if now >= self._told.get((stream, reason), now)]
        body: dict[str, Any] = {"schema": "refusal/1", "of": self._destination, "reason": reason, "message": message}
        if count is not None:
            body |= {"count": count}
        for stream in fresh:
            self._told.pop((stream, reason), None)
            self._told[stream, reason] = now + APART_NS
        while len(self._told) > MOST_TOLD:
            del self._told[next(iter(self._told))]
        if fresh:
            self._write([EventRecord(stream, self._clock.time_ns(), dict(body)) for stream in fresh])
