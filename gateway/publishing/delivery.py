"""Delivers the log over one connection: the live lane and, beside it, the backlog."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from gateway.log.records import Segment
from gateway.publishing.again import Again
from gateway.publishing.attempt import Drained, Outcome, Tools
from gateway.publishing.errors import BrokerError
from gateway.publishing.gathering import READ_BYTES, Gatherer
from gateway.publishing.lanes import Lane, contents
from gateway.publishing.mqtt import Heard
from gateway.publishing.parked import Marked
from gateway.publishing.replaying import Replaying
from gateway.publishing.runs import within
from gateway.publishing.sending import Sender

BACKLOG_BYTES = 2_000_000
"""encoded segments per read of the backlog: with less, messages of a hundred devices hold few readings each, and with
more a thread decodes so long that what is live, which shares the interpreter with it, waits"""
PARKED_S = 2.0
"""between two looks for parked entries that somebody wants to be sent again"""
GONE = "no-longer-in-the-log"
"""reason of a parked entry that cannot be sent again"""
SILENCE_S = 60.0
"""a connection on which nothing is acknowledged for so long is given up"""

logger = logging.getLogger(__name__)


class Delivery:
    """One attempt: from the ranges as they are until an outcome. Lanes die with it, positions stay."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._ledger = tools.books.ledger
        self._name = tools.config.name
        self._in_order = tools.config.catch_up == "oldest-first"
        self._outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._sender = Sender(tools, self.end)

    def end(self, outcome: Outcome) -> None:
        """Let `run` return `outcome`, unless it has one already."""
        if not self._outcome.done():
            self._outcome.set_result(outcome)

    def heard(self, batch: Sequence[Heard]) -> None:
        """Answers of the centre came."""
        self._sender.heard(batch)

    async def run(self) -> Outcome:
        """Deliver until something ends it: a refusal, nobody subscribed, or nothing left to do when stopping."""
        await self._tools.books.follow()
        self._ledger.go_live(self._ledger.observed)
        try:
            async with asyncio.TaskGroup() as group:
                if self._in_order:
                    lanes = [self._start(group, "lane", self._oldest_first)]
                else:
                    lanes = [self._start(group, "live", self._live), self._start(group, "backlog", self._backlog)]
                others = [
                    self._start(group, "resend", self._sender.run),
                    self._start(group, "confirmations", self._sender.keep_asking),
                    self._start(group, "parked", self._parked),
                    self._start(group, "replay", Replaying(self._tools, self._sender).run),
                    self._start(group, "watch", self._watch),
                    self._start(group, "drain", partial(self._drain, lanes)),
                ]
                outcome = await self._outcome
                for task in lanes + others:
                    task.cancel()
        finally:
            self._sender.close()
        return outcome

    def _start(self, group: asyncio.TaskGroup, name: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        return group.create_task(self._guarded(work), name=f"{self._name} {name}")

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except BrokerError as error:
            self.end(error)

    async def _drain(self, lanes: list[asyncio.Task[None]]) -> None:
        await asyncio.wait(lanes)
        while self._tools.outbox.window.messages or self._sender.busy:
            await self._tools.outbox.window.idle()
            await asyncio.sleep(0)
        self.end(Drained())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            if self._tools.outbox.silent_s() > SILENCE_S:
                raise BrokerError(f"the broker has acknowledged nothing for {SILENCE_S:.0f} s; connecting anew")

    # -- lanes --

    async def _oldest_first(self) -> None:
        await self._backlog()
        await self._live()

    async def _live(self) -> None:
        lane = Lane("live", self._ledger.ranges.live.start, self._ledger.settle, self._tools.books.parking.add)
        tools = self._tools
        gatherer = Gatherer(self._name, tools.source, tools.config.batch, tools.stopping, tools.clock, hurry=True)
        while segments := await gatherer.gather(lane.position):
            for segment in segments:
                self._ledger.observe(segment.position, segment.heads)
            with self._sender.going_first():
                await self._send_chunk(lane, segments, segments[-1].position + 1)

    async def _backlog(self) -> None:
        for part in self._ledger.ranges.backlog:
            lane = Lane(
                "backlog",
                part.start,
                self._ledger.settle,
                self._tools.books.parking.add,
                yields=not self._in_order,
            )
            end = part.end or part.start
            while lane.position < end:
                segments = await self._tools.source.read(lane.position, BACKLOG_BYTES)
                within = [segment for segment in segments if segment.position < end]
                last = not within or len(within) < len(segments)
                await self._send_chunk(lane, within, end if last else within[-1].position + 1)

    async def _send_chunk(self, lane: Lane, segments: list[Segment], end: int) -> None:
        runs, events, withheld = contents(segments, self._ledger.clearance, self._tools.hidden)
        chunk = lane.begin(segments, end)
        for position, series, readings in withheld:
            chunk.withheld[position][series] += readings
        await self._sender.send_runs(lane, chunk, runs)
        for event in events:
            await self._sender.send_event(lane, chunk, event)
        lane.seal(chunk)
        await asyncio.sleep(0)

    # -- what was parked and is to be sent again --

    async def _parked(self) -> None:
        while True:
            for marked in await self._tools.books.marked():
                await self._send_again(marked)
            await asyncio.sleep(PARKED_S)

    async def _send_again(self, marked: Marked) -> None:
        """Message by message, each with its place in the account: a broker that cuts the connection at a refusal leaves
        the rest for the next one.
        """
        segments = await self._read(marked.first, marked.last + 1)
        if segments is None:
            self._tools.books.parking.give_up(marked, GONE, self._tools.clock.time_ns())
            logger.error("destination %s: parked readings of %s cannot be sent: %s", self._name, marked.series, GONE)
            return
        found = contents(segments, self._ledger.clearance, self._tools.hidden)
        again = Again(marked, self._ledger, self._tools.books.parking)
        for run in found.runs:
            rest = within(run, marked.n, marked.end) if run.series == marked.series else None
            while rest is not None:
                chunk = again.begin(rest.n)
                after = await self._sender.send_piece(again.lane, chunk, rest)
                await again.sent(chunk, rest.n + rest.count if after is None else after.n)
                rest = after
        for event in found.events:
            if event.record.series == marked.series and marked.n <= event.record.n < marked.end:
                chunk = again.begin(event.record.n)
                await self._sender.send_event(again.lane, chunk, event)
                await again.sent(chunk, event.record.n + 1)
        again.close()
        logger.info("destination %s: sent again from n=%d of %s: %s", self._name, marked.n, marked.series.device, again)

    async def _read(self, start: int, end: int) -> list[Segment] | None:
        """All segments start <= position < end; None when the log does not hold them any more."""
        if (await self._tools.source.bounds())[0] > start:
            return None
        found: list[Segment] = []
        while start < end:
            more = [part for part in await self._tools.source.read(start, READ_BYTES) if part.position < end]
            if not more or any(part.damage is not None for part in more):
                return None
            found += more
            start = more[-1].position + 1
        return found
