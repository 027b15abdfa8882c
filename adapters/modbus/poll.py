"""The adapter: polls groups of blocks at fixed rates and offers what came.

A poll is at most 20 requests of one period; each of its cycles is one offer. A device with 10,000 registers is so
offered in four parts: the first readings do not wait for the last request, memory stays below 2,500 registers for
each connection, and most devices are still one offer a cycle. With several connections the polls are smaller, so that
each connection has its share, and whichever is free takes the next one that is due.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from adapters.modbus.address import Table
from adapters.modbus.client import CannotConnect, Connection, LinkFault, NoReply, Reply, tcp
from adapters.modbus.config import ModbusDeviceConfig, ModbusPointConfig
from adapters.modbus.decode import Layout, Replies
from adapters.modbus.pdu import ILLEGAL_ADDRESS, ILLEGAL_VALUE, BadReply, Request, ShortReply, status_of
from adapters.modbus.planner import Block, Isolation, Limits, Span, isolate, plan
from adapters.modbus.schedule import Pacer, Schedule, stagger_ns
from gateway.contract import Clock, LinkLost, Point, Sink
from gateway.contract.status import BAD_COMMUNICATION_ERROR, BAD_TIMEOUT, GOOD

log = logging.getLogger(__name__)

REQUESTS_PER_OFFER = 20
QUARANTINE_NS = 60_000_000_000
"""how long a refused address is left alone"""
SILENCE_NS = 10_000_000_000
"""how long a block is left alone that the device did not answer while it answered others"""
BAD_REPLIES_IN_A_ROW = 3
"""blocks in a row whose replies did not fit, each asked twice, before the link as a whole is given up"""
REFUSALS = (ILLEGAL_ADDRESS, ILLEGAL_VALUE)
NO_ANSWER = (0x0A, 0x0B)
"""exceptions of a gateway whose device does not answer"""


@dataclass(slots=True)
class _Read:
    """A block and what is known about it."""

    block: Block
    request: Request
    retry_ns: int = 0
    """monotonic: not before; more than 0 while the device refuses the block"""
    isolated: bool = False
    """comes from a bisection just now and need not be bisected again before its next retry"""

    @classmethod
    def of(cls, block: Block, isolated: bool = False) -> _Read:
        return cls(block, Request.of(block), isolated=isolated)


class _Poll:
    """Blocks that are read and offered together."""

    def __init__(self, device: str, points: Sequence[Point], blocks: Sequence[Block], period_ns: int) -> None:
        self._device, self._points, self._planned = device, points, blocks
        self.period_ns = period_ns
        self._set([_Read.of(block) for block in blocks])

    def _set(self, reads: list[_Read]) -> None:
        self.reads = reads
        self.layout = Layout(self._device, self._points, [read.block for read in reads])

    def split(self, place: int, isolation: Isolation) -> None:
        """Read a refused block in the pieces that its isolation found."""
        pieces = [_Read.of(block) for block in isolation.good]
        pieces += [_Read.of(block, isolated=True) for block in isolation.refused]
        self._set([*self.reads[:place], *pieces, *self.reads[place + 1 :]])

    def restore(self) -> None:
        """Go back to the planned blocks once the device refuses nothing any more."""
        if not any(read.retry_ns for read in self.reads):
            self._set([_Read.of(block) for block in self._planned])


class _Cycle:
    """The outcomes of one cycle so far, one per block."""

    def __init__(self) -> None:
        self.payloads: list[bytes | None] = []
        self.status: list[int] = []
        self.read: list[bool] = []
        self.middle_ns: list[int] = []
        self.last_ns = 0
        self.answered = False
        """the device itself said something"""
        self.recovered = False
        """the device serves again what it had refused"""
        self.refused: list[tuple[Block, str]] = []
        """blocks that the device refuses since this cycle, and how"""
        self.set_aside: list[_Read] = []
        """blocks that were not answered; innocent if the device turns out to be dead"""

    def add(self, data: bytes | None, status: int, sent_ns: int, received_ns: int) -> None:
        """A block was tried."""
        self.payloads.append(data)
        self.status.append(status)
        self.read.append(True)
        self.middle_ns.append((sent_ns + received_ns) // 2)
        self.last_ns = received_ns

    def skip(self, blocks: int = 1) -> None:
        """Blocks were not tried."""
        self.payloads += [None] * blocks
        self.status += [GOOD] * blocks
        self.read += [False] * blocks
        self.middle_ns += [0] * blocks


@dataclass(slots=True)
class Counters:
    """What an adapter did since it was built."""

    requests: int = 0
    cycles: int = 0
    missed_cycles: int = 0
    bad_replies: int = 0
    connections: int = 0


class ModbusAdapter:
    """See `gateway.contract.Adapter`. Made by `ModbusAdapterType.build`."""

    def __init__(self, config: ModbusDeviceConfig, points: Sequence[Point], clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._polls = plan_polls(config, points)
        self._pacer = Pacer(config.load.requests_per_s) if config.load.requests_per_s else None
        self._bad_in_a_row = 0
        self._silent_in_a_row = 0
        self.counters = Counters()

    async def run(self, sink: Sink) -> None:
        """See `gateway.contract.Adapter.run`. Raises LinkLost."""
        self._bad_in_a_row = self._silent_in_a_row = 0
        connection = self._config.connection
        connections = [
            Connection(tcp(connection.endpoint), connection.station, connection.timeout, self._clock)
            for _ in range(min(self._config.load.connections, len(self._polls)))
        ]
        try:
            await _Round(self, connections, sink).run()
        finally:
            for each in connections:
                each.abort()
                self.counters.connections += each.opened

    async def cycle(self, connection: Connection, poll: _Poll, sink: Sink) -> None:
        """Read all blocks of a poll and offer what came, even if the link is lost on the way. Raises LinkLost."""
        cycle = _Cycle()
        lost: LinkFault | None = None
        while len(cycle.read) < len(poll.reads):
            try:
                await self._step(connection, poll, cycle)
            except LinkFault as fault:
                if isinstance(fault, CannotConnect) and not cycle.read:
                    raise
                if isinstance(fault, NoReply) and self._others_may_answer(poll.reads[len(cycle.read)]):
                    self._set_aside(poll.reads[len(cycle.read)], cycle, fault)
                    continue
                lost = fault
                for read in cycle.set_aside:
                    read.retry_ns = 0
                cycle.skip(len(poll.reads) - len(cycle.read))
        if any(cycle.read):
            await self._offer(poll, cycle, sink)
        if cycle.refused:
            self._tell_refused(cycle)
        if cycle.recovered:
            poll.restore()
        if lost is not None:
            raise lost

    async def _step(self, connection: Connection, poll: _Poll, cycle: _Cycle) -> None:
        """Deal with the next block: read it, or find out which part of it the device refuses."""
        place = len(cycle.read)
        read = poll.reads[place]
        if read.retry_ns and self._clock.monotonic_ns() < read.retry_ns:
            cycle.skip()
            return
        begun_ns = self._clock.monotonic_ns()
        try:
            (data, exception), sent_ns, received_ns = await self._ask(connection, read.request)
        except BadReply as fault:
            if self._bad_in_a_row >= BAD_REPLIES_IN_A_ROW:
                raise LinkFault(str(fault)) from fault
            data, status, refused = b"", BAD_COMMUNICATION_ERROR, isinstance(fault, ShortReply)
            sent_ns, received_ns = begun_ns, self._clock.monotonic_ns()
            reason = str(fault)
        else:
            status = status_of(exception) if exception else GOOD
            cycle.answered = cycle.answered or exception not in NO_ANSWER
            refused = exception in REFUSALS
            reason = f"exception {exception}"
        if refused and not read.isolated and len(read.block.spans) > 1:
            poll.split(place, await self._isolate(connection, read.block))
            return
        cycle.add(None if status else data, status, sent_ns, received_ns)
        if refused:
            self._quarantine(read, cycle, reason)
        elif read.retry_ns and status == GOOD:
            log.info("%s: the device serves %s again", self._config.device, read.block)
            read.retry_ns = 0
            cycle.recovered = True
        read.isolated = False

    def _others_may_answer(self, silent: _Read) -> bool:
        """Whether silence may be this block's alone: there are others to tell, and the one before was not silent."""
        self._silent_in_a_row += 1
        now_ns = self._clock.monotonic_ns()
        others = (read for poll in self._polls for read in poll.reads if read is not silent)
        return self._silent_in_a_row == 1 and any(read.retry_ns <= now_ns for read in others)

    def _set_aside(self, read: _Read, cycle: _Cycle, fault: NoReply) -> None:
        """Some devices do not answer for an address that they do not have; that must not cost their other points."""
        now_ns = self._clock.monotonic_ns()
        if not read.retry_ns:
            log.warning(
                "%s: the device does not answer for %s (%s); its points are Bad and tried again every %d s: check "
                "their addresses",
                self._config.device,
                read.block,
                fault,
                SILENCE_NS // 10**9,
            )
        read.retry_ns = now_ns + SILENCE_NS
        cycle.set_aside.append(read)
        cycle.add(None, BAD_TIMEOUT, now_ns, now_ns)

    def _quarantine(self, read: _Read, cycle: _Cycle, reason: str) -> None:
        if not read.retry_ns:
            cycle.refused.append((read.block, reason))
        read.retry_ns = self._clock.monotonic_ns() + QUARANTINE_NS

    def _tell_refused(self, cycle: _Cycle) -> None:
        """One line for a cycle, however much the device refuses."""
        block, reason = cycle.refused[0]
        points = sum(len(refused.spans) for refused, _ in cycle.refused)
        log.warning(
            "%s: the device refuses %s%s (%s); %d point%s Bad and tried again every %d s: check the addresses",
            self._config.device,
            block,
            f" and {len(cycle.refused) - 1} more blocks" if len(cycle.refused) > 1 else "",
            reason,
            points,
            " is" if points == 1 else "s are",
            QUARANTINE_NS // 10**9,
        )

    async def _isolate(self, connection: Connection, block: Block) -> Isolation:
        """Find out which part of a refused block the device refuses. Raises LinkFault."""
        trial = isolate(block)
        served: bool | None = None
        while True:
            try:
                piece = trial.send(served)  # type: ignore[arg-type]  # None starts a generator
            except StopIteration as end:
                isolation: Isolation = end.value
                return isolation
            try:
                served = (await self._ask(connection, Request.of(piece))).answer.exception not in REFUSALS
            except BadReply as fault:
                served = not isinstance(fault, ShortReply)

    async def _ask(self, connection: Connection, request: Request) -> Reply:
        """The device's answer, asked for once more on a fresh connection if the first reply fails.

        Raises LinkFault or BadReply for the second failure.
        """
        try:
            reply = await self._read(connection, request)
        except CannotConnect:
            raise
        except (LinkFault, BadReply):
            try:
                reply = await self._read(connection, request)
            except BadReply as fault:
                self.counters.bad_replies += 1
                if not isinstance(fault, ShortReply):
                    self._bad_in_a_row += 1
                raise
        self._bad_in_a_row = self._silent_in_a_row = 0
        return reply

    async def _read(self, connection: Connection, request: Request) -> Reply:
        if self._pacer is not None and (wait_ns := self._pacer.reserve(self._clock.monotonic_ns())):
            await asyncio.sleep(wait_ns / 1e9)
        self.counters.requests += 1
        return await connection.read(request)

    async def _offer(self, poll: _Poll, cycle: _Cycle, sink: Sink) -> None:
        """Hand the cycle over. Its times are monotonic until here, so that a step of the clock cannot tear it."""
        offset_ns = self._clock.time_ns() - self._clock.monotonic_ns()
        replies = Replies(cycle.payloads, cycle.status, cycle.read, [at + offset_ns for at in cycle.middle_ns])
        if cycle.answered:
            sink.online()
        await sink.offer(poll.layout.decode(replies, cycle.last_ns + offset_ns, cycle.last_ns))

    def lost(self, fault: LinkFault) -> LinkLost:
        """The error that tells an operator what to check."""
        at = self._config.connection
        where = f"{self._config.device}: {at.endpoint} station {at.station}"
        if isinstance(fault, CannotConnect):
            advice = (
                "check that the device is on, the address and port in connection.url, and whether another client "
                "holds its only connection"
            )
        elif isinstance(fault.__cause__, BadReply):
            advice = "check connection.station, and that what listens there is a Modbus TCP device"
        else:
            advice = "check that the device is on, connection.station, and whether connection.timeout is long enough"
        return LinkLost(f"{where}: {fault}; {advice}")


class _Round:
    """One life of the link: who polls what when."""

    def __init__(self, adapter: ModbusAdapter, connections: Sequence[Connection], sink: Sink) -> None:
        self._adapter, self._connections, self._sink = adapter, connections, sink
        self._schedule: Schedule[_Poll] = Schedule()
        polls = adapter._polls
        self._ready: asyncio.Queue[tuple[_Poll, int, int]] = asyncio.Queue(len(polls))
        self._returned = asyncio.Event()
        now_ns = adapter._clock.monotonic_ns()
        for poll in polls:
            start_ns = now_ns + stagger_ns(adapter._config.device, poll.period_ns)
            self._schedule.add(poll, start_ns, poll.period_ns)

    async def run(self) -> None:
        """Poll until cancelled. Raises LinkLost."""
        device = self._adapter._config.device
        lost: LinkLost | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for number, connection in enumerate(self._connections):
                    group.create_task(self._work(connection), name=f"modbus {device} connection {number}")
                await self._dispatch()
        except* LinkFault as faults:
            lost = self._adapter.lost(next(iter(faults.exceptions)))  # type: ignore[arg-type]
        if lost is not None:
            raise lost

    async def _dispatch(self) -> None:
        """Pass on polls as they come due; a poll is never due while it is out."""
        clock = self._adapter._clock
        while True:
            now_ns = clock.monotonic_ns()
            while job := self._schedule.take(now_ns):
                self._ready.put_nowait(job)
            due_ns = self._schedule.next_due_ns()
            self._returned.clear()
            try:
                async with asyncio.timeout(None if due_ns is None else (due_ns - now_ns) / 1e9):
                    await self._returned.wait()
            except TimeoutError:
                continue

    async def _work(self, connection: Connection) -> None:
        """Run polls on one connection. A connection too many for the device retires, if another one stands."""
        adapter = self._adapter
        while True:
            poll, due_ns, period_ns = job = await self._ready.get()
            try:
                await adapter.cycle(connection, poll, self._sink)
            except CannotConnect as fault:
                if not any(other.is_open for other in self._connections):
                    raise
                self._ready.put_nowait(job)
                log.warning(
                    "%s: the device does not take another connection (%s); going on with fewer, set load.connections",
                    adapter._config.device,
                    fault,
                )
                return
            adapter.counters.cycles += 1
            now_ns = adapter._clock.monotonic_ns()
            adapter.counters.missed_cycles += self._schedule.done(poll, due_ns, period_ns, now_ns)
            self._returned.set()


def plan_polls(config: ModbusDeviceConfig, points: Sequence[Point]) -> list[_Poll]:
    """The device's polls: blocks of one period, at most `REQUESTS_PER_OFFER` together. Pure."""
    load = config.load
    limits = Limits(load.max_registers, load.max_bits, load.max_gap)
    spans: dict[int, dict[Table, list[Span]]] = {}
    for key, point in enumerate(points):
        at = point.config
        assert isinstance(at, ModbusPointConfig)
        period_ns = int((at.every or config.every) * 1e9)
        tables = spans.setdefault(period_ns, {})
        tables.setdefault(at.address.table, []).append(Span(at.address.offset, at.cells, key))
    polls = []
    for period_ns, tables in sorted(spans.items()):
        blocks = [block for table in sorted(tables) for block in plan(table, tables[table], limits)]
        size = min(REQUESTS_PER_OFFER, -(-len(blocks) // load.connections))
        polls += [
            _Poll(config.device, points, blocks[first : first + size], period_ns)
            for first in range(0, len(blocks), size)
        ]
    return polls
