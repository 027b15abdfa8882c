"""The loss accounts: drawn up when they are due, connected or not, and kept until the broker has taken them.

They lie in the state store under "account/<destination>/<number>/<period>", so that an outage or a restart costs none.
Counts are since the destination's start: the newest account says everything, the older ones when it was so. Which is
the newest is told by its number: the clock may have been put back in between.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, tzinfo
from typing import Any, NamedTuple

from gateway.contract import Clock, GatewayError
from gateway.publishing.books import Books
from gateway.publishing.documents import Document
from gateway.publishing.sources import State
from gateway.publishing.threads import to_the_end

SECOND_NS = 1_000_000_000
DAY_S = 86_400
TICK_S = 1.0
MOST_KEPT = {"hour": 24, "day": 31, "close": 3}
"""accounts that wait for a broker; when there are more, the oldest of their kind goes"""

logger = logging.getLogger(__name__)


class Period(NamedTuple):
    """A finished period, ns since the epoch."""

    name: str
    """hour, day or close"""
    start: int
    end: int


class Schedule:
    """Whole multiples of an interval since local midnight; at midnight the day as well. Pure."""

    def __init__(self, interval_s: float, timezone: tzinfo, done_ns: int) -> None:
        """Periods that ended until `done_ns` are done with."""
        self._interval_ns = round(min(interval_s, DAY_S) * SECOND_NS)
        self._timezone = timezone
        self._next = self._boundary(done_ns, self._interval_ns) + self._interval_ns

    def due(self, now_ns: int) -> list[Period]:
        """The periods that ended since the last call, of each kind the latest only."""
        if now_ns < self._next and self._next - now_ns <= 2 * self._interval_ns:
            return []
        former = self._next - self._interval_ns
        end = self._boundary(now_ns, self._interval_ns)
        self._next = end + self._interval_ns
        if end <= former:  # the clock was put back
            return []
        periods = [Period("hour", end - self._interval_ns, end)]
        midnight = self._boundary(now_ns, DAY_S * SECOND_NS)
        if midnight > former:
            periods.append(Period("day", midnight - DAY_S * SECOND_NS, midnight))
        return periods

    def _boundary(self, now_ns: int, step_ns: int) -> int:
        """The last local multiple of `step_ns` that is not after now."""
        shift = datetime.fromtimestamp(now_ns // SECOND_NS, self._timezone).utcoffset()
        shift_ns = 0 if shift is None else round(shift.total_seconds()) * SECOND_NS
        return (now_ns + shift_ns) // step_ns * step_ns - shift_ns


class Kept(NamedTuple):
    """An account that waits for the broker."""

    key: str
    document: Document


class Accounts:
    """Draws up one destination's accounts and keeps those that are not taken yet."""

    def __init__(
        self,
        name: str,
        interval_s: float,
        timezone: tzinfo,
        books: Books,
        state: State,
        clock: Clock,
        draw: Callable[[int, Period], Document],
    ) -> None:
        """`draw` makes the account of a number and a period as the books are now."""
        self._name = name
        self._interval_s = interval_s
        self._timezone = timezone
        self._books = books
        self._state = state
        self._clock = clock
        self._draw = draw
        self._prefix = f"account/{name}/"
        self._done_key = f"accounts/{name}"
        self._done = clock.time_ns()
        """end of the last period that was accounted for"""
        self._number = 0
        """of the last account"""
        self._schedule = Schedule(interval_s, timezone, self._done)
        self._unsaved: list[Kept] = []
        self._writing = asyncio.Lock()
        self._closed = False
        self.drawn = asyncio.Event()
        """set when there is something new to be sent"""

    async def load(self) -> None:
        """Find out what was accounted for before. Raises LogError."""
        found = await asyncio.to_thread(self._state.get, self._done_key)
        if found is not None:
            self._done, self._number = found[1]["until"], found[1]["number"]
            self._schedule = Schedule(self._interval_s, self._timezone, self._done)

    async def run(self) -> None:
        """Draw up what is due, until cancelled. Raises LogError."""
        while True:
            # The hour last: a process that ends in between draws up the day once more, and not never.
            for period in reversed(self._schedule.due(self._clock.time_ns())):
                await self._take(period)
            await asyncio.sleep(TICK_S)

    async def close(self) -> None:
        """The account of an orderly stop: from the end of the last period until now; once. Raises LogError."""
        if self._closed:
            return
        self._closed = True
        now = self._clock.time_ns()
        await self._take(Period("close", min(self._done, now), now))

    async def waiting(self) -> list[Kept]:
        """What the broker has not taken, oldest first. Raises LogError."""
        saved = await asyncio.to_thread(lambda: [Kept(key, one) for key, _, one in self._state.items(self._prefix)])
        return [kept for _, kept in sorted({kept.key: kept for kept in [*saved, *self._unsaved]}.items())]

    async def taken(self, kept: Kept) -> None:
        """The broker has it. Raises LogError."""
        self._unsaved = [other for other in self._unsaved if other.key != kept.key]
        async with self._writing:
            await self._write(lambda: self._remove([kept.key]))

    async def _take(self, period: Period) -> None:
        await self._books.follow()
        # Milliseconds, so that it also counts up where the store was lost, as far as the clock can tell.
        self._number = max(self._number + 1, self._clock.time_ns() // 1_000_000)
        kept = Kept(f"{self._prefix}{self._number:020d}/{period.name}", self._draw(self._number, period))
        if period.name == "hour":
            self._done = period.end
        self._unsaved = [*self._unsaved[1 - MOST_KEPT["close"] :], kept]
        async with self._writing:
            if await self._write(self._save):
                self._unsaved.clear()
        self.drawn.set()

    async def _write(self, work: Callable[[], object]) -> bool:
        """A full disk costs no account as long as the process lives; False when it did not work."""
        try:
            await to_the_end(work)
        except GatewayError as error:
            if not error.retry:
                raise
            logger.error("destination %s: an account cannot be saved: %s", self._name, error)
            return False
        return True

    def _save(self) -> None:
        """Put what is new into the store, and of each kind let go what is too much. Blocks."""
        found = self._state.get(self._done_key)
        self._state.put_many(
            [
                (self._done_key, {"until": self._done, "number": self._number}, 0 if found is None else found[0]),
                *((kept.key, kept.document, 0) for kept in self._unsaved if self._state.get(kept.key) is None),
            ]
        )
        keys = sorted(key for key, _, _ in self._state.items(self._prefix))
        for kind, most in MOST_KEPT.items():
            self._remove([key for key in keys if key.endswith(f"/{kind}")][:-most])

    def _remove(self, keys: list[str]) -> None:
        versions: list[tuple[str, Any]] = [(key, self._state.get(key)) for key in keys]
        if gone := [(key, None, found[0]) for key, found in versions if found is not None]:
            self._state.put_many(gone)
