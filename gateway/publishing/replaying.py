"""Sends replays over one connection: behind everything else, in lane `replay`."""

from __future__ import annotations

import asyncio

from gateway.publishing.attempt import Tools
from gateway.publishing.lanes import Chunk, Lane
from gateway.publishing.replays import Replay
from gateway.publishing.runs import Run
from gateway.publishing.selection import Exempt, Found, select
from gateway.publishing.sending import Sender

READ_BYTES = 64_000
"""encoded segments per read of the log: the progress is saved in such steps, which may take long under a narrow cap"""
TURN_S = 0.5
"""between two looks whether the backlog is drained"""


class Replaying:
    """One connection's part of a destination's replays; what it had not got acknowledged, the next one sends again."""

    def __init__(self, tools: Tools, sender: Sender) -> None:
        self._tools = tools
        self._replays = tools.replays
        self._stopping = tools.stopping
        self._sender = sender

    async def run(self) -> None:
        """Send what is asked for, until we are told to stop. Raises BrokerError."""
        while not self._stopping.is_set():
            replay = await self._replays.next()
            if await self._send(replay):
                await replay.over.wait()
                await self._replays.ended(replay)

    async def _send(self, replay: Replay) -> bool:
        """Hand everything over; False when it was cancelled, or we are stopping."""
        replay.begin()
        lane = Lane("replay", replay.at, replay.settle, _passed_over, yields=True, counted=False)
        end = replay.request.end
        if lane.position >= end:
            replay.over.set()
        while lane.position < end:
            if not await self._turn(replay):
                return False
            await self._replays.begun(replay)
            found, chunk = await self._read(lane, replay)
            for run in found.runs:
                rest: Run | None = run
                while rest is not None:
                    if not await self._turn(replay):
                        return False
                    rest = await self._sender.send_piece(lane, chunk, rest)
            for event in found.events:
                if not await self._turn(replay):
                    return False
                await self._sender.send_event(lane, chunk, event)
            lane.seal(chunk)
            await asyncio.sleep(0)
        return True

    async def _read(self, lane: Lane, replay: Replay) -> tuple[Found, Chunk]:
        tools, selection, end = self._tools, replay.request.selection, replay.request.end
        start = await tools.source.next_with(lane.position, end, selection.wants)
        read = [] if start >= end else await tools.source.read(start, READ_BYTES)
        segments = [segment for segment in read if segment.position < end]
        exempt = Exempt(replay.undelivered or (), await tools.books.parked())
        found = select(segments, selection, tools.books.ledger.clearance, tools.hidden, exempt)
        replay.handed(found.counts)
        return found, lane.begin(segments, segments[-1].position + 1 if segments else end)

    async def _turn(self, replay: Replay) -> bool:
        """Wait until nothing of the backlog waits; False when there is no more to do."""
        while not self._stopping.is_set() and not replay.over.is_set():
            if not self._tools.books.ledger.ranges.backlog:
                return True
            await asyncio.sleep(TURN_S)
        return False


def _passed_over(_: object) -> None:
    """What the broker refuses was delivered before: it is not parked, only counted by the chunk."""
