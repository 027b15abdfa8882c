"""Gaps filled from the server's history, where `backfill: true` allows it.

One hole at a time, one request at a time, with the part of the request budget that background work has; the next answer
is fetched when the readings of the one before are in the log. So live readings never wait for more than one answer.
What has been offered is noted in the hole itself, so that the next connection goes on where this one ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from asyncua import ua

from adapters.opcua.config import ClockRule, ClockShift
from adapters.opcua.decoding.batches import UNIX_EPOCH_TICKS, BatchBuilder, Moment
from adapters.opcua.decoding.fallback import decode_other
from adapters.opcua.decoding.structures import Structures
from adapters.opcua.errors import status_name
from adapters.opcua.history.gaps import GapLedger
from adapters.opcua.history.history import NO_HISTORY, Ask, Busy, HistoryReader, Page
from adapters.opcua.history.holes import Claim, Hole
from adapters.opcua.session.session import Session
from gateway.contract import Basis, Batch, Clock, Filled, Flag, Sink
from gateway.contract.status import BAD_NODE_ID_UNKNOWN, BAD_NOT_READABLE

_logger = logging.getLogger(__name__)

OLDEST_NS: Final = 30 * 86_400 * 10**9
"""history older than this is not asked for: 30 days"""
_SAME_TIME_NS: Final = 60 * 10**9
"""windows that begin within this are read together"""
_OTHER_CLOCK_NS: Final = 60 * 10**9
"""with `clock: server`: servers look up history by source time, which may be so far from their own"""
_MOST_NAMED: Final = 1000
"""points that one message about a filled gap names"""
_LOOK_S: Final = 0.5
_IDLE_S: Final = 60.0
_FIRST_PAUSE_S: Final = 5.0
_LONGEST_PAUSE_S: Final = 300.0
_MOST_TRIES: Final = 20
"""times that a busy server is asked for the same gap without an answer"""


@dataclass(slots=True)
class _Source:
    """The server's history over one connection."""

    session: Session
    sink: Sink
    reader: HistoryReader
    node_of: Callable[[int], ua.NodeId | None]
    nodes: dict[int, ua.NodeId] = field(default_factory=dict)
    """of the points whose access level has been looked at"""
    without: dict[int, int] = field(default_factory=dict)
    """points that have no history for us, with the status that said so; not asked again over this connection"""


class Backfill:
    """Fills one device's holes; outlives connections."""

    def __init__(
        self,
        device: str,
        ledger: GapLedger,
        builder: BatchBuilder,
        rule: ClockRule,
        clock: Clock,
        structures: Structures,
        name_of: Callable[[int], str],
    ) -> None:
        """`builder`: one of its own, made like that of live readings; `name_of`: of a point."""
        self._device = device
        self._ledger = ledger
        self._builder = builder
        self._shift_ns = round(rule.shift * 1e9) if isinstance(rule, ClockShift) else 0
        self._margin_ns = _OTHER_CLOCK_NS if rule == "server" else 0
        self._clock = clock
        self._decode_other = functools.partial(decode_other, structures=structures)
        self._name_of = name_of
        self._told = False

    async def run(self, session: Session, sink: Sink, node_of: Callable[[int], ua.NodeId | None]) -> None:
        """Over one connection, until cancelled. `sink`: the device's own; `node_of`: a point's node in this session.

        Raises AdapterError when the link or the session fails.
        """
        reader = HistoryReader(session, self._decode_other)
        source = _Source(session, sink, reader, node_of)
        tries, pause_s = 0, _FIRST_PAUSE_S
        while True:
            hole = await self._next()
            had = int(hole.readings.sum())
            try:
                await self._fill(hole, source)
            except Busy as busy:
                if hole.readings.sum() > had:
                    tries, pause_s = 0, _FIRST_PAUSE_S
                if not tries:
                    _logger.info("%s: reading history: %s; going on later and slower", self._device, busy)
                tries += 1
                if tries < _MOST_TRIES:
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                    continue
                _logger.warning("%s: reading history: %s, %d times in a row; giving up", self._device, busy, tries)
            self._finish(hole, source)
            tries, pause_s = 0, _FIRST_PAUSE_S

    async def _next(self) -> Hole:
        """The next hole whose windows are known."""
        while True:
            hole = self._ledger.due()
            if hole is not None:
                return hole
            await self._wait(_LOOK_S if self._ledger.expecting else _IDLE_S)

    async def _wait(self, longest_s: float) -> None:
        """Until the ledger sees something new."""
        self._ledger.changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._ledger.changed.wait()

    async def _fill(self, hole: Hole, source: _Source) -> None:
        """Ask for everything that may be missing. Raises Busy, AdapterError."""
        oldest = self._clock.time_ns() - OLDEST_NS
        np.maximum(hole.low, oldest, out=hole.low)
        np.maximum(hole.first, oldest, out=hole.first)
        rows = hole.open_rows()
        await self._inspect(hole.points[rows].tolist(), source)
        rows = rows[[point not in source.without for point in hole.points[rows].tolist()]]
        hole.asked[rows] = True
        for group in _groups(hole, rows):
            # Readings of the past must not pass for the ones that end an outage.
            while source.sink.outage() is not None:
                await self._wait(_LOOK_S)
            asks = [self._ask(hole, row, source) for row in group.tolist()]
            failed = await source.reader.read(asks, functools.partial(self._take, hole, source.sink))
            without = {point: code for point, code in failed.items() if code in NO_HISTORY}
            hole.asked[np.isin(hole.points, list(without))] = False
            source.without |= without
            self._tell_without(without)
            for point in failed.keys() - without.keys():
                _logger.debug("%s: history of %s: %s", self._device, self._name_of(point), status_name(failed[point]))
            hole.low[group] = hole.high[group]

    def _ask(self, hole: Hole, row: int, source: _Source) -> Ask:
        point = int(hole.points[row])
        low, high = int(hole.low[row]) - self._margin_ns, int(hole.high[row]) + self._margin_ns
        return Ask(point, source.nodes[point], self._ticks(low), self._ticks(high))

    def _ticks(self, time_ns: int) -> int:
        return (time_ns + self._shift_ns) // 100 + UNIX_EPOCH_TICKS

    async def _inspect(self, points: list[int], source: _Source) -> None:
        """Learn which points have a history. Raises AdapterError."""
        new: dict[int, ua.NodeId] = {}
        without: dict[int, int] = {}
        for point in points:
            if point not in source.nodes and point not in source.without:
                node = source.node_of(point)
                if node is None:
                    without[point] = BAD_NODE_ID_UNKNOWN
                else:
                    new[point] = node
        readable = await source.reader.readable(new) if new else set()
        source.nodes |= new
        without |= {point: BAD_NOT_READABLE for point in new if point not in readable}
        source.without |= without
        self._tell_without(without)

    def _tell_without(self, without: Mapping[int, int]) -> None:
        if not without or self._told:
            return
        self._told = True
        point, code = next(iter(without.items()))
        _logger.warning(
            "%s: %d points have no history that the gateway may read, for example %s: %s; their gaps stay. Let the "
            "server keep and show their history, or take `backfill` out (reported once)",
            self._device,
            len(without),
            self._name_of(point),
            status_name(code),
        )

    async def _take(self, hole: Hole, sink: Sink, pages: list[Page]) -> None:
        """Offer what of an answer is missing, and wait until it is in the log."""
        moment = Moment(self._clock.time_ns(), self._clock.monotonic_ns())
        taken: dict[int, list[Batch]] = {}
        for page in pages:
            row = int(np.searchsorted(hole.points, page.point))
            low, high, known = int(hole.low[row]), int(hole.high[row]), hole.known_at_low(row)
            for built in self._builder.build(page.items, moment).batches:
                batch = _missing(built, low, high, known)
                if batch is not None:
                    taken.setdefault(row, []).append(batch)
        if not taken:
            return
        receipt = await sink.offer([batch for batches in taken.values() for batch in batches])
        for row, batches in taken.items():
            newest = max(int(batch.source_time[-1]) for batch in batches)
            hole.came(row, newest, _readings_at(batches, newest), sum(map(len, batches)))
        await receipt.durable()

    def _finish(self, hole: Hole, source: _Source) -> None:
        """Tell what became of the hole's gaps."""
        for claim in hole.claims:
            rows = hole.rows_of(claim)
            came = rows[hole.readings[rows] > 0]
            span = f"{_text(claim.start)} to {_text(claim.end)} ({claim.reason})"
            if len(came):
                for part in _filled(hole, claim, rows, came, self._clock.time_ns() - OLDEST_NS):
                    source.sink.filled(part)
                _logger.info(
                    "%s: %d readings of %d points came from the server's history, for the gap from %s",
                    self._device,
                    hole.readings[came].sum(),
                    len(came),
                    span,
                )
            elif hole.asked[rows].any():
                _logger.warning(
                    "%s: the server's history has nothing of the %d points that it was asked for, for the gap from %s; "
                    "the gap stays",
                    self._device,
                    hole.asked[rows].sum(),
                    span,
                )
        self._ledger.done(hole)


def _groups(hole: Hole, rows: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Rows whose windows are alike, oldest first: those of one request have one window between them.

    Points that stood still for long before the gap have long windows with little in them; they must not make the others
    read what is there already.
    """
    rows = rows[np.argsort(hole.low[rows], kind="stable")]
    low, high = hole.low[rows], hole.high[rows]
    start = 0
    for at in range(1, len(rows) + 1):
        if at < len(rows):
            most = max(_SAME_TIME_NS, int(high[at] - low[at]) // 2)
            if low[at] - low[start] <= most and abs(high[at] - high[start]) <= most:
                continue
        yield rows[start:at]
        start = at


def _missing(batch: Batch, low: int, high: int, known: set[Hashable] | None) -> Batch | None:
    """Of one point's history what lies between two times, both excluded: in order, marked, nothing twice.

    With `known` the readings of the time `low` itself that are not among these, too.
    """
    times = batch.source_time
    own = batch.basis != Basis.GATEWAY
    keep = (times > low) & (times < high) & own
    if known is not None:
        rows_at_low = np.flatnonzero((times == low) & own).tolist()
        keep[[row for row in rows_at_low if _reading(batch, row) not in known]] = True
    if not keep.any():
        return None
    rows = np.flatnonzero(keep)
    if (np.diff(times[rows]) < 0).any():
        rows = rows[np.argsort(times[rows], kind="stable")]
    at, before = rows[1:], rows[:-1]
    twice = times[at] == times[before]
    if twice.any():
        # Two values may share a time; the same one again is a server that repeats itself.
        twice &= (batch.values[at] == batch.values[before]) & (batch.status[at] == batch.status[before])
        rows = rows[np.concatenate(([True], ~twice.astype(np.bool_)))]
    missing = batch if len(rows) == len(batch) else batch.take(rows)
    return replace(missing, flags=missing.flags | np.uint8(Flag.BACKFILLED))


def _readings_at(batches: Iterable[Batch], time: int) -> Iterator[Hashable]:
    for batch in batches:
        for row in np.flatnonzero(batch.source_time == time).tolist():
            yield _reading(batch, row)


def _reading(batch: Batch, row: int) -> Hashable:
    """What tells readings of one time apart; as text, since NaN is like no other number."""
    return batch.type, repr(batch.values[row]) if batch.valid[row] else None, int(batch.status[row])


def _filled(
    hole: Hole, claim: Claim, rows: npt.NDArray[np.int64], came: npt.NDArray[np.int64], oldest: int
) -> Iterator[Filled]:
    """What to tell of a gap of which readings came: all its points at once, or those that had some by name.

    In the gap's own times, which are the gateway's: the windows are what they were by the server's clock.
    """
    start = int(hole.first[came].min()) if claim.start is None else max(claim.start, oldest)
    parts = [came] if len(came) == len(rows) else np.array_split(came, -(-len(came) // _MOST_NAMED))
    for part in parts:
        points = () if part is came else tuple(hole.points[part].tolist())
        yield Filled(claim.id, start, claim.end, int(hole.readings[part].sum()), points)


def _text(time_ns: int | None) -> str:
    """Seconds are enough for people."""
    if time_ns is None:
        return "an unknown time"
    return datetime.datetime.fromtimestamp(time_ns / 1e9, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
