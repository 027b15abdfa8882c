"""The adapter: reads its polls block by block, isolates what the device refuses, and offers what came."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from adapters.lines import CannotConnect, LineFault, NoReply
from adapters.modbus.config import ModbusDeviceConfig
from adapters.modbus.decode import Replies
from adapters.modbus.link import Link
from adapters.modbus.links import open_links
from adapters.modbus.pdu import ILLEGAL_ADDRESS, ILLEGAL_VALUE, BadReply, Request, ShortReply, status_of
from adapters.modbus.planner import Block, Isolation, isolate
from adapters.modbus.polls import Poll, Read, plan_polls
from adapters.modbus.rounds import Round
from adapters.modbus.schedule import Lateness
from adapters.modbus.station import Counters, Station
from gateway.contract import Clock, Facts, LinkLost, Point, Sink
from gateway.contract.status import BAD_COMMUNICATION_ERROR, BAD_TIMEOUT, GOOD

log = logging.getLogger(__name__)

QUARANTINE_NS = 60_000_000_000
"""how long a refused address is left alone"""
SILENCE_NS = 10_000_000_000
"""how long a block is left alone that the device did not answer while it answered others"""
BAD_REPLIES_IN_A_ROW = 3
"""blocks in a row whose replies did not fit, each asked twice, before the link as a whole is given up"""
_LOOKS = 5
"""at both clocks, of which the least interrupted counts"""
_AT_ONCE_NS = 50_000
"""a look that took no longer was not interrupted by anything that matters"""
REFUSALS = (ILLEGAL_ADDRESS, ILLEGAL_VALUE)
NO_ANSWER = (0x0A, 0x0B)
"""exceptions of a gateway whose device does not answer"""


class _Cycle:
    """The outcomes of one cycle so far, one per block."""

    __slots__ = (
        "answered",
        "first_ns",
        "last_ns",
        "middle_ns",
        "payloads",
        "read",
        "recovered",
        "refused",
        "relayed",
        "status",
    )

    def __init__(self) -> None:
        self.payloads: list[bytes | None] = []
        self.status: list[int] = []
        self.read: list[bool] = []
        self.middle_ns: list[int] = []
        self.first_ns = self.last_ns = 0
        """when the first request was sent if it was answered, and the last answer came; monotonic, 0 = never"""
        self.answered = False
        """the device itself said something"""
        self.relayed = 0
        """exception with which a gateway in between said that the device does not answer; 0 = none"""
        self.recovered = False
        """the device serves again what it had refused"""
        self.refused: list[tuple[Block, str]] = []
        """blocks that the device refuses since this cycle, and how"""

    def add(self, data: bytes | None, status: int, sent_ns: int, received_ns: int) -> None:
        """A block was tried."""
        self.payloads.append(data)
        self.status.append(status)
        self.read.append(True)
        self.middle_ns.append((sent_ns + received_ns) // 2)
        if not self.last_ns and received_ns > sent_ns:
            self.first_ns = sent_ns
        self.last_ns = received_ns

    def skip(self, blocks: int = 1) -> None:
        """Blocks were not tried."""
        self.payloads += [None] * blocks
        self.status += [GOOD] * blocks
        self.read += [False] * blocks
        self.middle_ns += [0] * blocks


class _Suspect(NamedTuple):
    """The block that was not answered last; innocent if the device turns out to be dead."""

    read: Read
    how: str
    """empty = it has been told of before"""
    link: Link
    opened: int
    """times that the link had been opened by then"""
    on_one_connection: bool
    """all its attempts"""


class ModbusAdapter:
    """See `gateway.contract.Adapter`. Made by `ModbusAdapterType.build`."""

    def __init__(self, config: ModbusDeviceConfig, points: Sequence[Point], clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._polls = plan_polls(config, points)
        self.counters = Counters()
        self._station = Station(config, clock, self.counters)
        self._lateness = Lateness()
        self._told = False
        """that the device answers, since it was connected to last"""
        self._suspect: _Suspect | None = None
        self._spared: Read | None = None
        """the block that was found innocent last, because a dead connection explains its silence as well"""

    async def run(self, sink: Sink) -> None:
        """See `gateway.contract.Adapter.run`. Raises LinkLost."""
        self._station.bad_in_a_row = self._station.silent_in_a_row = 0
        self._told = False
        load = self._config.load
        cycle = partial(self.cycle, sink=sink)
        lost: LinkLost | None = None
        with open_links(self._config, self._clock, len(self._polls)) as links:
            opened = sum(link.opened for link in links)
            try:
                await Round(self._config.device, self._polls, links, cycle, self._clock, self.counters).run(
                    load.outstanding
                )
            except* LineFault as faults:
                self._station.doubtful |= self._station.silent_in_a_row > 0 or self._station.bad_in_a_row > 0
                lost = self.lost(_first(faults))
            finally:
                self.counters.connections += sum(link.opened for link in links) - opened
        if lost is not None:
            raise lost

    def facts(self) -> Facts:
        """See `gateway.contract.HasFacts`."""
        counters = self.counters
        return Facts(
            polls=counters.cycles,
            polls_missed=counters.missed_cycles,
            poll_late_s=self._lateness.worst_ns(self._clock.monotonic_ns()) / 1e9,
            timeouts=counters.timeouts,
            bad_replies=counters.bad_replies,
        )

    async def cycle(self, link: Link, poll: Poll, due_ns: int, sink: Sink) -> None:
        """Read all blocks of a poll and offer what came, even if the link is lost on the way. Raises LinkLost."""
        cycle = _Cycle()
        lost: LineFault | None = None
        while len(cycle.read) < len(poll.reads):
            opened = link.opened
            try:
                await self._step(link, poll, cycle, due_ns)
            except LineFault as fault:
                if isinstance(fault, NoReply) and self._others_may_answer(poll.reads[len(cycle.read)]):
                    self._set_aside(poll.reads[len(cycle.read)], cycle, fault, link, opened)
                    continue
                lost = fault
                self._acquit()
                cycle.skip(len(poll.reads) - len(cycle.read))
        if cycle.first_ns:
            self._lateness.add(cycle.first_ns - due_ns, cycle.first_ns)
        if any(cycle.read):
            await self._offer(poll, cycle, sink)
        if cycle.refused:
            self._tell_refused(cycle)
        if cycle.recovered:
            poll.restore()
        if lost is None and cycle.relayed and not cycle.answered:
            self._acquit()
            lost = NoReply(f"a gateway in between says that the device does not answer (exception {cycle.relayed})")
        if lost is not None:
            raise lost

    async def _step(self, link: Link, poll: Poll, cycle: _Cycle, due_ns: int) -> None:
        """Deal with the next block: read it, or find out which part of it the device refuses."""
        place = len(cycle.read)
        read = poll.reads[place]
        if read.retry_ns and self._clock.monotonic_ns() < read.retry_ns:
            cycle.skip()
            return
        # who shares the wire takes turns with each request, not with each cycle
        due_ns = max(due_ns, cycle.last_ns)
        try:
            (data, exception), sent_ns, received_ns = await self._station.ask(link, read.request, due_ns)
        except BadReply as fault:
            if self._station.bad_in_a_row >= BAD_REPLIES_IN_A_ROW:
                raise LineFault(str(fault)) from fault
            data, status, refused = b"", BAD_COMMUNICATION_ERROR, isinstance(fault, ShortReply)
            sent_ns = received_ns = self._clock.monotonic_ns()
            reason = str(fault)
        else:
            status = status_of(exception) if exception else GOOD
            if exception in NO_ANSWER:
                cycle.relayed = exception
            else:
                cycle.answered = True
                if self._suspect is not None:
                    self._convict(self._suspect)
            refused = exception in REFUSALS
            reason = f"exception {exception}"
        if refused and not read.isolated and len(read.block.spans) > 1:
            poll.split(place, await self._isolate(link, read.block, due_ns))
            return
        cycle.add(None if status else data, status, sent_ns, received_ns)
        if refused:
            self._quarantine(read, cycle, reason)
        elif read.retry_ns and status == GOOD:
            log.info("%s: the device serves %s again", self._config.device, read.block)
            read.retry_ns = 0
            cycle.recovered = True
        read.isolated = False

    def _others_may_answer(self, silent: Read) -> bool:
        """Whether silence may be this block's alone: there are others to tell, and the one before was not silent."""
        self._station.silent_in_a_row += 1
        now_ns = self._clock.monotonic_ns()
        others = (read for poll in self._polls for read in poll.reads if read is not silent)
        return self._station.silent_in_a_row == 1 and any(read.retry_ns <= now_ns for read in others)

    def _set_aside(self, read: Read, cycle: _Cycle, fault: NoReply, link: Link, opened: int) -> None:
        """Some devices do not answer for an address that they do not have; that must not cost their other points."""
        now_ns = self._clock.monotonic_ns()
        cycle.add(None, BAD_TIMEOUT, now_ns, now_ns)
        if not self._station.doubtful:  # else it may come back in the middle of this cycle
            self._suspect = _Suspect(
                read, "" if read.retry_ns else str(fault), link, link.opened, opened == link.opened
            )
            read.retry_ns = now_ns + SILENCE_NS

    def _acquit(self) -> None:
        """The device does not answer for anything."""
        if self._suspect is not None:
            self._suspect.read.retry_ns = 0
            self._suspect = None

    def _convict(self, suspect: _Suspect) -> None:
        """The device answers, but it did not for the block before; once a replaced connection excuses it."""
        self._suspect = None
        read = suspect.read
        if suspect.on_one_connection and suspect.link.opened != suspect.opened and read is not self._spared:
            read.retry_ns, self._spared = 0, read
            return
        if suspect.how:
            log.warning(
                "%s: the device does not answer for %s (%s); its points are Bad and tried again every %d s: check "
                "their addresses",
                self._config.device,
                read.block,
                suspect.how,
                SILENCE_NS // 10**9,
            )

    def _quarantine(self, read: Read, cycle: _Cycle, reason: str) -> None:
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

    async def _isolate(self, link: Link, block: Block, due_ns: int) -> Isolation:
        """Find out which part of a refused block the device refuses. Raises LineFault."""
        trial = isolate(block)
        served: bool | None = None
        while True:
            try:
                piece = trial.send(served)  # type: ignore[arg-type]  # None starts a generator
            except StopIteration as end:
                isolation: Isolation = end.value
                return isolation
            try:
                reply = await self._station.ask(link, Request.of(piece), due_ns)
                served = reply.answer.exception not in REFUSALS
            except BadReply as fault:
                served = not isinstance(fault, ShortReply)
            due_ns = self._clock.monotonic_ns()  # neighbours that have come due meanwhile are first

    async def _offer(self, poll: Poll, cycle: _Cycle, sink: Sink) -> None:
        """Hand the cycle over. Its times are monotonic until here, so that a step of the clock cannot tear it."""
        offset_ns = epoch_offset_ns(self._clock)
        replies = Replies(cycle.payloads, cycle.status, cycle.read, [at + offset_ns for at in cycle.middle_ns])
        if cycle.answered and not self._told:
            self._told = True
            sink.online()
        await sink.offer(poll.layout.decode(replies, cycle.last_ns + offset_ns, cycle.last_ns))

    def lost(self, fault: LineFault) -> LinkLost:
        """The error that tells an operator what to check."""
        at = self._config.connection
        where = f"{self._config.device}: {at.place} station {at.station}"
        if isinstance(fault, CannotConnect):
            advice = (
                "check that the device is on, the address and port in connection.url, and whether another client "
                "holds its only connection"
            )
        elif isinstance(fault.__cause__, BadReply):
            advice = "check connection.station, and that what answers there speaks the Modbus of connection.url"
        else:
            advice = "check that the device is on, connection.station, and whether connection.timeout is long enough"
        return LinkLost(f"{where}: {fault}; {advice}")


def epoch_offset_ns(clock: Clock) -> int:
    """What makes ns since the epoch of a monotonic time.

    Whoever is interrupted between a look at one clock and at the other takes the pause for a step of time, and a
    point's reading would be earlier than the one before it: of some looks the least interrupted counts.
    """
    least = None
    for _ in range(_LOOKS):
        before_ns, epoch_ns, after_ns = clock.monotonic_ns(), clock.time_ns(), clock.monotonic_ns()
        if after_ns - before_ns < _AT_ONCE_NS:
            return epoch_ns - before_ns
        look = after_ns - before_ns, epoch_ns - before_ns
        least = look if least is None else min(least, look)
    assert least is not None
    return least[1]


def _first(faults: BaseExceptionGroup[LineFault]) -> LineFault:
    first = faults.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
