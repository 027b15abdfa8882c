"""Keeps one destination's books: loads them, follows the log, saves them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from typing import Any, Literal

from gateway.contract import Clock, GatewayError
from gateway.log.records import Series, SeriesHead
from gateway.points.table import PointTable
from gateway.publishing.clearance import Clearance, Rule
from gateway.publishing.ledger import DAMAGED, TRIMMED, Ledger
from gateway.publishing.parked import Marked, Parking, save
from gateway.publishing.ranges import Ranges
from gateway.publishing.sources import Source, State

FOLLOW_S = 1.0
SAVE_S = 1.0
"""a crash costs duplicates of what was delivered within this time; each save is a write to disk"""
_HEADS_AT_ONCE = 5_000
_MARKS = 64

logger = logging.getLogger(__name__)


class Books:
    """The ledger with its place in the state store, key "destination/<name>"."""

    def __init__(
        self,
        name: str,
        rule: Rule,
        start: Literal["oldest", "now"] | int,
        source: Source,
        state: State,
        points: PointTable,
        clock: Clock,
        save_s: float = SAVE_S,
        *,
        confirming: bool = False,
    ) -> None:
        """`start`: where a destination without saved books begins; a number is a source time, ns.

        `confirming`: what is delivered was confirmed by the centre.
        """
        self._name = name
        self._rule = rule
        self._start = start
        self._source = source
        self._state = state
        self._points = points
        self._clock = clock
        self._save_s = save_s
        self._confirming = confirming
        self._key = f"destination/{name}"
        self._version = 0
        self._saved: dict[str, Any] | None = None
        self.parking = Parking(name)
        self._writing = asyncio.Lock()
        self._following = asyncio.Lock()
        self._marks: deque[tuple[int, int]] = deque(maxlen=_MARKS)
        self._complete_until: int | None = None
        self._unbalanced: dict[Series, int] = {}
        self._failing = False
        self.loaded = asyncio.Event()
        self.ledger = Ledger(Ranges(), Clearance(rule))
        self.ledger.confirming = confirming

    async def load(self) -> None:
        """Read the saved books and count again what is waiting. Raises LogError."""
        first, end = await self._source.bounds()
        found = await asyncio.to_thread(self._state.get, self._key)
        state = None
        if found is not None:
            self._version, state = found
        if state is not None and Ranges.from_state(state["ranges"]).live.start > end:
            logger.error(
                "destination %s: its saved position lies beyond the log's end; it begins anew at the oldest reading, "
                "expect duplicates",
                self._name,
            )
            state = None
        clearance = Clearance.from_state(self._rule, None if state is None else state["clearance"])
        clearance.apply(self._points.streams(), end)
        if state is None:
            ledger = Ledger(Ranges(await self._beginning(first, end)), clearance)
        else:
            ledger = Ledger.from_state(state, clearance)
            self._complete_until = state["complete_until"]
            if "ended" in state:
                logger.info("destination %s: configured again, it goes on where it ended", self._name)
        trimmed = ledger.skip_below(first)
        await self._recount(ledger, end)
        if lost := ledger.write_off(TRIMMED if trimmed else DAMAGED):
            logger.error("destination %s: the log no longer holds %d readings that were waiting", self._name, lost)
        ledger.confirming = self._confirming
        self.ledger = ledger
        self._check()
        self.loaded.set()

    async def run(self) -> None:
        """Follow the log once a second and save every `save_s`, until cancelled. Raises LogError."""
        next_save = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(min(FOLLOW_S, self._save_s))
            await self.follow()
            if (now := asyncio.get_running_loop().time()) >= next_save:
                next_save = now + self._save_s
                await self._save_or_complain()

    async def follow(self) -> None:
        """Account for what the log has taken since the last look."""
        async with self._following:
            for record in self._points.streams():
                self.ledger.clearance.learn(record)
            end = self._source.end
            while (start := self.ledger.observed) < end:
                stop = min(end, start + _HEADS_AT_ONCE)
                heads = await self._source.heads(start, stop)
                if self.ledger.observed == start:  # else the live lane was here meanwhile
                    self.ledger.observe_until(stop, heads)
        self._mark(end)
        self._check()

    async def save(self) -> None:
        """Write the books, and what was parked, in one change. Raises LogError."""
        if not self.loaded.is_set():
            return
        async with self._writing:
            self._take_marks()
            state = self.ledger.to_state() | {"complete_until": self._complete_until}
            parked = self.parking.take()
            if state == self._saved and not parked:
                return
            books = (self._key, state, self._version)
            writing = asyncio.get_running_loop().run_in_executor(None, save, self._state, parked, books)
            # A write goes on in its thread when we are cancelled: not to wait for it is not to know its version.
            cancelled: asyncio.CancelledError | None = None
            while not writing.done():
                try:
                    await asyncio.wait([writing])
                except asyncio.CancelledError as again:
                    cancelled = again
            try:
                self._version = writing.result()
                self._saved = state
            except GatewayError:
                self.parking.give_back(parked)
                if cancelled is None:
                    raise
            if cancelled is not None:
                raise cancelled

    async def trimmed(self, position: int, heads: Iterable[SeriesHead], reason: str) -> None:
        """Everything below `position` is about to leave the log: count and save before it does."""
        await self.loaded.wait()
        await self.follow()
        self.ledger.drop(position, heads, reason)
        # A full disk is why we are here: when the books cannot be saved now, the next start counts what is gone.
        await self._save_or_complain()

    async def marked(self) -> list[Marked]:
        """Parked entries that are to be sent again. Raises LogError."""
        async with self._writing:  # or an entry whose end is being saved would be found once more
            return await asyncio.to_thread(self.parking.marked, self._state)

    async def parked(self) -> dict[Series, list[tuple[int, int]]]:
        """Offsets first <= n < end of what is parked, per series. Raises LogError."""
        if not any(account.parked for account in self.ledger.accounts.values()):
            return {}
        async with self._writing:  # or an entry that is being saved would be found nowhere
            return await asyncio.to_thread(self.parking.spans, self._state)

    def complete_until(self) -> int | None:
        """Everything accepted before this time (ns) is delivered or accounted for; None = nothing is known yet."""
        self._take_marks()
        return self._complete_until

    def unbalanced(self) -> dict[Series, int]:
        """Series whose account does not add up."""
        return self._unbalanced

    async def _save_or_complain(self) -> None:
        """A full disk costs duplicates after a restart, not the delivery."""
        try:
            await self.save()
        except GatewayError as error:
            if not error.retry:
                raise
            if not self._failing:
                logger.error("destination %s: its position cannot be saved: %s", self._name, error)
            self._failing = True
        else:
            if self._failing:
                logger.info("destination %s: its position is saved again", self._name)
            self._failing = False

    async def _beginning(self, first: int, end: int) -> int:
        """Position at which a new destination begins. Whole segments: some readings may be older than `start`."""
        match self._start:
            case "oldest":
                return first
            case "now":
                return end
            case time:
                return await self._source.first_since(time)

    async def _recount(self, ledger: Ledger, end: int) -> None:
        saved = {series: account.next_n for series, account in ledger.accounts.items()}
        for part in ledger.ranges:
            for spans in await self._source.spans(part.start, end if part.end is None else part.end):
                ledger.recount(part, spans)
        ledger.recounted(end)
        accounts = ledger.accounts.items()
        fresh = {series: saved.get(series, of.first_n) for series, of in accounts if of.next_n > saved.get(series, -1)}
        await self._learn_times(ledger, fresh, end)

    async def _learn_times(self, ledger: Ledger, fresh: dict[Series, int], end: int) -> None:
        """Times of what was accepted after the books were saved, from the log's end back to those offsets."""
        start = ledger.ranges.live.start
        while fresh and end > start:
            begin = max(start, end - _HEADS_AT_ONCE)
            heads = await self._source.heads(begin, end)
            ledger.learn_times(heads)
            for head in heads:
                if head.n <= fresh.get(head.series, -1):
                    del fresh[head.series]
            end = begin

    def _mark(self, end: int) -> None:
        if not self._marks or self._marks[-1][1] != end or self.ledger.ranges.first >= end:
            if len(self._marks) == _MARKS:  # thin out: a long backlog needs no fine steps
                kept = list(self._marks)[::2]
                self._marks.clear()
                self._marks.extend(kept)
            self._marks.append((self._clock.time_ns(), end))

    def _take_marks(self) -> None:
        first = self.ledger.ranges.first
        while self._marks and self._marks[0][1] <= first:
            self._complete_until = self._marks.popleft()[0]

    def _check(self) -> None:
        differences = self.ledger.balance()
        if differences and differences != self._unbalanced:
            shown = ", ".join(f"{series.device} in {series.stream}: {by:+d}" for series, by in differences.items())
            logger.error("destination %s: the account does not add up (%s)", self._name, shown[:500])
        self._unbalanced = differences
