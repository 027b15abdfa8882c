"""Replays: time ranges that somebody wants a destination to be sent again; entries "replay/<id>" of the state store.

`edge-gateway log replay` writes an entry, whether the gateway runs or not; the running publisher, or the next one,
takes it up. Its progress is saved in the entry, so that it goes on after a crash; what was under way then is sent
twice. The account is not touched: a reading that is sent again was counted when it was delivered first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gateway.contract import Clock, GatewayError
from gateway.log.errors import StateConflictError
from gateway.publishing.ledger import Settled
from gateway.publishing.ranges import Range
from gateway.publishing.selection import Selection
from gateway.publishing.sources import State
from gateway.rfc3339 import rfc3339

PREFIX = "replay/"
LOOK_S = 2.0
"""between two looks for what somebody asks for, or cancels"""
KEPT = 20
"""ended replays that are kept to be shown, of each destination"""
OPEN = ("waiting", "running")
COUNTS = ("sent", "withheld", "waiting", "parked", "refused")

logger = logging.getLogger(__name__)


class Request(NamedTuple):
    """What somebody asked for."""

    destination: str
    selection: Selection
    first: int
    """positions first <= p < end hold everything that is meant"""
    end: int
    readings: int
    """how many readings and events are meant"""
    requested: int
    """ns since the Unix epoch"""
    user: str
    """who asked for it"""


@dataclass(slots=True)
class Replay:
    """A request and how far it is."""

    id: int
    request: Request
    state: str = "waiting"
    """waiting, running, done or cancelled"""
    at: int = 0
    """everything below this position is sent again, or was left out"""
    undelivered: list[Range] | None = None
    """what of it had not been delivered when the gateway heard of the request: that goes in the lanes live and backlog,
    before this, and is not sent twice; None = it has not heard of it yet"""
    counts: Counter[str] = field(default_factory=Counter)
    """of what lies below: readings and events by `COUNTS`"""
    ended: int | None = None
    """ns since the Unix epoch"""
    over: asyncio.Event = field(default_factory=asyncio.Event, compare=False)
    """there is nothing more to send, or it was cancelled"""
    _handed: deque[Counter[str]] = field(default_factory=deque, compare=False)

    @property
    def key(self) -> str:
        """Its place in the state store."""
        return key_of(self.id)

    @property
    def missing(self) -> int:
        """Readings that were meant and are neither sent nor left out: still to come; in the end, not in the log."""
        return max(0, self.request.readings - sum(self.counts[name] for name in COUNTS))

    def heard(self, ranges: Iterable[Range]) -> None:
        """The gateway hears of the request; `ranges` are undelivered now."""
        first, end = self.request.first, self.request.end
        parts = ((max(one.start, first), end if one.end is None else min(one.end, end)) for one in ranges)
        self.undelivered = [Range(low, high) for low, high in parts if low < high]

    def begin(self) -> None:
        """A new connection: what was handed over and is not settled is handed over again."""
        self._handed.clear()

    def handed(self, counts: Counter[str]) -> None:
        """The next stretch of the log was handed over."""
        self._handed.append(counts)

    def settle(self, end: int, segments: Sequence[Settled]) -> None:
        """The next stretch, up to position `end`, is acknowledged."""
        self.counts += self._handed.popleft()
        refused = sum(sum(segment.parked.values()) for segment in segments)
        self.counts["sent"] -= refused
        self.counts["refused"] += refused
        self.at = end
        if self.at >= self.request.end:
            self.over.set()

    def to_state(self) -> dict[str, Any]:
        """JSON-able."""
        destination, selection, first, end, readings, requested, user = self.request
        return {
            "destination": destination,
            "from": selection.since,
            "to": selection.until,
            "by": "received" if selection.by_received else "source",
            "devices": None if selection.devices is None else sorted(selection.devices),
            "positions": [first, end],
            "readings": readings,
            "requested": requested,
            "user": user,
            "state": self.state,
            "at": self.at,
            "undelivered": None if self.undelivered is None else [[part.start, part.end] for part in self.undelivered],
            "counts": {name: self.counts[name] for name in COUNTS},
            "ended": self.ended,
        }

    @classmethod
    def from_state(cls, key: str, state: dict[str, Any]) -> Replay:
        """What `to_state` gave."""
        devices = None if state["devices"] is None else frozenset(state["devices"])
        selection = Selection(state["from"], state["to"], state["by"] == "received", devices)
        first, end = state["positions"]
        request = Request(
            state["destination"], selection, first, end, state["readings"], state["requested"], state["user"]
        )
        id = int(key.removeprefix(PREFIX))
        undelivered = None if state["undelivered"] is None else [Range(*part) for part in state["undelivered"]]
        return cls(id, request, state["state"], state["at"], undelivered, Counter(state["counts"]), state["ended"])

    def __str__(self) -> str:
        selection = self.request.selection
        devices = "all devices" if selection.devices is None else ", ".join(sorted(selection.devices))
        by = "time of arrival" if selection.by_received else "source time"
        return (
            f"{self.request.readings} readings of {devices}, {rfc3339(selection.since)} to {rfc3339(selection.until)} "
            f"({by}), asked for by {self.request.user}"
        )


def key_of(id: int) -> str:
    """Keys are in the order of the requests."""
    return f"{PREFIX}{id:08}"


def put_request(state: State, request: Request) -> Replay:
    """Write a new request, durable on return; blocks. Raises LogError."""
    while True:
        known = [int(key.removeprefix(PREFIX)) for key, _, _ in state.items(PREFIX)]
        replay = Replay(max(known, default=0) + 1, request, at=request.first)
        try:
            state.put_many([(replay.key, replay.to_state(), 0)])
        except StateConflictError:  # somebody else asked for something at the same moment
            continue
        return replay


def all_replays(state: State) -> list[Replay]:
    """Every replay that is known, oldest first; blocks. Raises LogError."""
    return [Replay.from_state(key, one) for key, _, one in state.items(PREFIX)]


def cancel(state: State, id: int, now: int) -> Replay | None:
    """End a replay that is open; returns it as it was left, None when there is none of this id. Raises LogError."""
    while (found := state.get(key_of(id))) is not None:
        replay = Replay.from_state(key_of(id), found[1])
        if replay.state not in OPEN:
            return replay
        replay.state, replay.ended = "cancelled", now
        try:
            state.put_many([(replay.key, replay.to_state(), found[0])])
        except StateConflictError:  # the gateway saved its progress
            continue
        return replay
    return None


class Shown(NamedTuple):
    """What metrics show of a destination's replays."""

    open: int = 0
    """replays that are not at their end"""
    waiting: int = 0
    """readings that they still have before them"""
    sent: int = 0
    """readings sent again since the process began"""


class Replays:
    """One destination's replays, one at a time in the order of the requests; `run` it beside the connections."""

    def __init__(
        self, destination: str, undelivered: Callable[[], Iterable[Range]], state: State, clock: Clock, save_s: float
    ) -> None:
        """`undelivered` gives what is, now; `save_s`: least time between two writes of the progress."""
        self._destination = destination
        self._undelivered = undelivered
        self._state = state
        self._clock = clock
        self._save_ns = int(save_s * 1e9)
        self._saved_ns = 0
        self._saved: dict[str, Any] | None = None
        self._current: Replay | None = None
        self._others: list[Replay] = []
        self._ready = asyncio.Event()
        self._busy = asyncio.Lock()
        self._sent_before = 0
        self._sent_of_others = 0

    async def run(self) -> None:
        """Look for requests and save the progress until cancelled. Raises LogError."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self, *, save: bool = False) -> None:
        """Take up what is asked for, let go what was cancelled, and save when it is time. Raises LogError."""
        try:
            async with self._busy:
                await self._look(save=save)
        except StateConflictError:
            return  # somebody asked or cancelled at this moment: the next look sees it
        except GatewayError as error:  # of a full disk the books tell, which lie in the same file
            if not error.retry:
                raise

    async def next(self) -> Replay:
        """The replay that is to be sent now."""
        while True:
            await self._ready.wait()
            if self._current is not None and self._current.state in OPEN:
                return self._current
            self._ready.clear()

    async def begun(self, replay: Replay) -> None:
        """Its turn has come."""
        if replay.state == "waiting":
            replay.state = "running"
            logger.info("destination %s: replay %d begins: %s", self._destination, replay.id, replay)
            await self.look(save=True)

    async def ended(self, replay: Replay) -> None:
        """Everything of it is sent."""
        if replay.state in OPEN:
            replay.state, replay.ended = "done", self._clock.time_ns()
            self._tell(replay, "is done")
        await self.look(save=True)

    def shown(self) -> Shown:
        """For metrics; cheap."""
        current = [] if self._current is None or self._current.state not in OPEN else [self._current]
        left = current + self._others
        sent = self._sent_of_others
        if self._current is not None:
            sent += self._current.counts["sent"] - self._sent_before
        return Shown(len(left), sum(one.missing for one in left), sent)

    async def _look(self, *, save: bool) -> None:
        current = self._current
        if current is not None:
            now = self._clock.monotonic_ns()
            due = save or current.state not in OPEN or now - self._saved_ns >= self._save_ns
            document = current.to_state()
            kept = await asyncio.to_thread(self._store, current.key, document if due else None)
            if due:
                self._saved, self._saved_ns = document, now
            if kept is None or kept["state"] not in OPEN:
                self._let_go(current)
        mine = await asyncio.to_thread(self._open, tuple(self._undelivered()))
        if self._current is None and mine:
            self._take_up(mine[0])
        self._others = [one for one in mine if self._current is None or one.id != self._current.id]

    def _take_up(self, replay: Replay) -> None:
        self._current = replay
        self._saved = replay.to_state()
        self._sent_before = replay.counts["sent"]
        if replay.state == "running":
            logger.info("destination %s: replay %d goes on: %s", self._destination, replay.id, replay)
        self._ready.set()

    def _let_go(self, replay: Replay) -> None:
        self._current = None
        self._sent_of_others += replay.counts["sent"] - self._sent_before
        if replay.state in OPEN:
            replay.state = "cancelled"
            self._tell(replay, "was cancelled")
        replay.over.set()

    def _open(self, undelivered: Iterable[Range]) -> list[Replay]:
        """What is to be sent, in the order of the requests; blocks."""
        found: list[Replay] = []
        for key, version, one in list(self._state.items(PREFIX)):
            replay = Replay.from_state(key, one)
            if replay.request.destination != self._destination or replay.state not in OPEN:
                continue
            if replay.undelivered is None:
                replay.heard(undelivered)
                self._state.put_many([(key, replay.to_state(), version)])
            found.append(replay)
        return found

    def _store(self, key: str, document: dict[str, Any] | None) -> dict[str, Any] | None:
        """Write the progress, but never over a cancellation; returns what is there then. Blocks."""
        while True:
            found = self._state.get(key)
            if found is None:
                return None
            version: int = found[0]
            there: dict[str, Any] = found[1]
            cancelled = there["state"] not in OPEN
            if document is None or document == self._saved or (cancelled and document["at"] == there["at"]):
                return there
            if cancelled:
                document = document | {"state": there["state"], "ended": there["ended"]}
            with contextlib.suppress(StateConflictError):  # somebody cancelled it in between
                self._state.put_many([(key, document, version), *self._outdated(key, document)])
                return document

    def _outdated(self, key: str, document: dict[str, Any]) -> list[tuple[str, None, int]]:
        """When a replay ends, those that ended long ago go."""
        if document["state"] in OPEN:
            return []
        ended = [
            (other, None, version)
            for other, version, one in self._state.items(PREFIX)
            if other != key and one["destination"] == self._destination and one["state"] not in OPEN
        ]
        return ended[: -(KEPT - 1)]

    def _tell(self, replay: Replay, what: str) -> None:
        logger.info("destination %s: replay %d %s: %s", self._destination, replay.id, what, outcome(replay))


def outcome(replay: Replay) -> str:
    """What became of the readings that were meant, in words."""
    counts = replay.counts
    words = [f"{counts['sent']:,} of {replay.request.readings:,} sent again"]
    for name, what in (
        ("withheld", "withheld, the clearance does not allow them"),
        ("waiting", "not delivered before, they go in lanes live and backlog"),
        ("parked", "parked, see `log parked`"),
        ("refused", "refused by the broker"),
    ):
        if counts[name]:
            words.append(f"{counts[name]:,} {what}")
    if replay.state == "done" and replay.missing:
        words.append(f"{replay.missing:,} no longer in the log, or damaged there")
    return "; ".join(words)
