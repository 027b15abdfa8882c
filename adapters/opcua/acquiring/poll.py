"""Poll mode: groups of points that are read at fixed intervals, for servers that handle subscriptions badly.

Every cycle is a reading of each point, changed or not. Its time follows the clock rule of the device as any other's:
where the source's time is trusted, an unchanged value carries the time at which its source says that it was taken, as
often as it is read. A cycle that could not begin before the next one was due is left out: cycles never pile up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import numpy as np

from adapters.opcua.acquiring.plan import PlannedPoll
from adapters.opcua.acquiring.reading import Asks, Learner, ValueReader, Wanted
from adapters.opcua.config import NodeAddress, OpcUaPointConfig
from adapters.opcua.decoding.batches import BatchBuilder, Moment
from adapters.opcua.decoding.decode import Items
from adapters.opcua.decoding.variant import DecodeError
from adapters.opcua.errors import status_name
from adapters.opcua.session.nodes import Namespaces, node_id
from adapters.opcua.session.pace import Priority
from gateway.contract import Clock, LinkLost, Sink
from gateway.contract.status import BAD_NODE_ID_UNKNOWN, CODE_MASK

_logger = logging.getLogger(__name__)

RETRY_S: Final = 30.0
_AGE: Final = 0.5
"""How old a value may be, in intervals (MaxAge: Part 4, 5.11.2). Below 1, so that no two cycles are served by one look
of the server at the device; above 0, so that what the server has just fetched for others need not be fetched again."""
_REFUSED: Final = np.array(
    [
        0x801F0000,  # BadUserAccessDenied
        0x80330000,  # BadNodeIdInvalid
        0x80340000,  # BadNodeIdUnknown
        0x80350000,  # BadAttributeIdInvalid
        0x803A0000,  # BadNotReadable
        0x803D0000,  # BadNotSupported
        0x80400000,  # BadNotImplemented
        0x80E60000,  # BadSecurityModeInsufficient
    ],
    np.uint32,
)
"""statuses that speak of the node and not of its value: something has to be put right (Part 4, 7.39.2)"""
_TOO_LATE: Final = 0.5
"""intervals by which a cycle may begin late; after that it is left out"""
_WINDOW_S: Final = 10.0
"""for so long, up to twice that, a late cycle counts as late of now"""
_PUNCTUAL: Final = 10
"""cycles on time after which a group that was late is well again"""


class Polled(Asks, Namespaces, Protocol):
    """What is needed of a session."""

    async def inspect(self) -> None:
        """Learn the server's namespaces anew. Raises AdapterError."""


class PollCount:
    """What is counted of a device's cycles; it outlives connections."""

    def __init__(self) -> None:
        self.cycles = 0
        self.missed = 0
        """cycles that were left out because one before them took too long"""
        self.timeouts = 0
        """Reads that were not answered in time; each ends the connection"""
        self.bad_replies = 0
        """answers that were none to a Read; likewise"""
        self._since = 0.0
        self._worst_s = self._before_s = 0.0

    def began(self, late_s: float, now: float) -> None:
        """A cycle begins so late; `now`, here and below: seconds of the monotonic clock."""
        self.cycles += 1
        self._turn(now)
        self._worst_s = max(self._worst_s, late_s)

    def failed(self, error: LinkLost) -> None:
        """A Read has ended the connection."""
        self.timeouts += isinstance(error.__cause__, TimeoutError)
        self.bad_replies += isinstance(error.__cause__, DecodeError)

    def late_s(self, now: float) -> float:
        """The worst of the last 10 to 20 s, seconds; 0 where nothing was late."""
        self._turn(now)
        return max(self._worst_s, self._before_s)

    def _turn(self, now: float) -> None:
        age_s = now - self._since
        if age_s >= _WINDOW_S:
            self._before_s = self._worst_s if age_s < 2 * _WINDOW_S else 0.0
            self._worst_s, self._since = 0.0, now


class PollLoop:
    """Polls one device over one connection."""

    def __init__(
        self,
        session: Polled,
        sink: Sink,
        builder: BatchBuilder,
        clock: Clock,
        points: Mapping[int, OpcUaPointConfig],
        polls: Sequence[PlannedPoll],
        learner: Learner,
        count: PollCount,
        *,
        retry_s: float = RETRY_S,
        look: Callable[[Sequence[Items]], None] = lambda _: None,
    ) -> None:
        """`look` sees all that is read; `retry_s`: how often bad nodes are looked for anew."""
        self._session = session
        self._sink = sink
        self._builder = builder
        self._clock = clock
        self._points = points
        self._addresses = {point: NodeAddress(points[point].node) for poll in polls for point in poll.points}
        self._polls = polls
        self._retry_s = retry_s
        self._look = look
        self._reader = ValueReader(session, learner, doing="polling", priority=Priority.PUBLISH)
        self._nodes: dict[PlannedPoll, list[Wanted]] = {}
        self._failing: set[int] = set()
        """points whose nodes are refused; each has been told"""
        self._count = count

    async def run(self) -> None:
        """Poll until cancelled. Raises AdapterError when the link fails."""
        self._find()
        async with asyncio.TaskGroup() as group:
            for poll in self._polls:
                group.create_task(self._poll(poll), name=f"{self._session.url}: poll every {poll.every:g} s")
            group.create_task(self._retry(), name=f"{self._session.url}: retry polled nodes")

    async def _poll(self, poll: PlannedPoll) -> None:
        """Cycles on a fixed grid: lateness of one does not move those that follow."""
        loop = asyncio.get_running_loop()
        start, cycle = loop.time(), 0
        lateness = _Lateness(self._session.url, poll)
        while True:
            await asyncio.sleep(start + cycle * poll.every - loop.time())
            began = loop.time()
            late_s = max(0.0, began - start - cycle * poll.every)
            self._count.began(late_s, self._clock.monotonic_ns() / 1e9)
            await self._cycle(poll)
            now = loop.time()
            following = max(cycle + 1, int((now - start) / poll.every))
            if now - (start + following * poll.every) >= poll.every * _TOO_LATE:
                following += 1
            missed = following - cycle - 1
            self._count.missed += missed
            lateness.tell(missed, now - began)
            cycle = following

    async def _cycle(self, poll: PlannedPoll) -> None:
        refused: dict[int, int] = {}
        nodes, unreadable = self._nodes[poll], self._reader.unreadable

        async def take(decoded: list[Items], moment: Moment) -> None:
            self._sink.online()
            refused.update(self._watch(decoded))
            self._look(decoded)
            built = self._builder.build(decoded, moment)
            await self._sink.offer(built.batches)
            for gap in built.gaps:
                self._sink.gap(gap)

        try:
            await self._reader.read(nodes, self._now, take, poll.every * _AGE)
        except LinkLost as error:
            self._count.failed(error)
            raise
        lost = {point: unreadable[point] for point in poll.points if point in unreadable} if unreadable else {}
        if len(nodes) < len(poll.points):
            found = {wanted.point for wanted in nodes}
            lost |= {point: BAD_NODE_ID_UNKNOWN for point in poll.points if point not in found}
        if lost:
            await self._sink.offer(self._builder.bad(list(lost), list(lost.values()), self._now()))
        self._tell(refused | lost)

    def _watch(self, decoded: Sequence[Items]) -> dict[int, int]:
        """The points whose nodes are refused, with the status; those that are not any more have returned."""
        refused: dict[int, int] = {}
        for items in decoded:
            if int(items.status.max()) >> 31:
                rows = np.flatnonzero(np.isin(items.status & np.uint32(CODE_MASK), _REFUSED))
                refused.update(zip(items.handles[rows].tolist(), items.status[rows].tolist(), strict=True))
        if self._failing:
            read = {point for items in decoded for point in items.handles.tolist()}
            returned = (self._failing & read) - refused.keys()
            self._failing -= returned
            if returned:
                _logger.info("%s: %d polled points have returned", self._session.url, len(returned))
        return refused

    def _tell(self, refused: Mapping[int, int]) -> None:
        new = [point for point in refused if point not in self._failing]
        if not new:
            return
        self._failing.update(new)
        _logger.warning(
            "%s: %d polled points cannot be read, for example %s (node %s): %s; check the node, the point reads bad "
            "until then",
            self._session.url,
            len(new),
            self._points[new[0]].point,
            self._points[new[0]].node,
            status_name(refused[new[0]]),
        )

    async def _retry(self) -> None:
        """After a download to the PLC nodes may have another namespace index, or be of another size."""
        while True:
            await asyncio.sleep(self._retry_s)
            self._reader.unreadable.clear()
            if self._failing:
                await self._session.inspect()
                self._find()

    def _find(self) -> None:
        for poll in self._polls:
            located = ((point, node_id(self._session, self._addresses[point])) for point in poll.points)
            self._nodes[poll] = [Wanted(point, node) for point, node in located if node is not None]

    def _now(self) -> Moment:
        return Moment(self._clock.time_ns(), self._clock.monotonic_ns())


class _Lateness:
    """Says once that a group cannot be polled as often as asked, and once that it can again."""

    def __init__(self, url: str, poll: PlannedPoll) -> None:
        self._url = url
        self._poll = poll
        self._missed = 0
        self._punctual = 0

    def tell(self, missed: int, took_s: float) -> None:
        """A cycle is over; `missed` others should have begun meanwhile."""
        if missed:
            if not self._missed:
                _logger.warning(
                    "%s: %d points cannot be polled every %g s: a cycle took %.1f s, so others are left out; raise "
                    "`poll`, or load.requests_per_s if the server bears more",
                    self._url,
                    len(self._poll.points),
                    self._poll.every,
                    took_s,
                )
            self._missed += missed
            self._punctual = 0
        elif self._missed:
            self._punctual += 1
            if self._punctual == _PUNCTUAL:
                _logger.info(
                    "%s: polling every %g s is on time again; %d cycles were left out",
                    self._url,
                    self._poll.every,
                    self._missed,
                )
                self._missed = 0
