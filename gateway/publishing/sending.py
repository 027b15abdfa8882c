"""The messages of one attempt: made, sent, and what becomes of them by the word of the broker, or of the centre."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from gateway.log.records import Series
from gateway.publishing import documents
from gateway.publishing.attempt import Held, Outcome, Tools
from gateway.publishing.confirming import Confirmations, Part, Waiting
from gateway.publishing.errors import BrokerRefused
from gateway.publishing.lanes import Chunk, Event, Lane
from gateway.publishing.mqtt import Ask, Heard, publish_properties
from gateway.publishing.parked import entry
from gateway.publishing.runs import Run, within
from gateway.publishing.verdicts import TOO_LARGE, Verdict, advice, verdict, word

ASK_S = 0.5
"""between two looks for answers that are overdue"""
PASSED_OVER = 3
"""a message that was overdue so often while the centre answered for others is told: a loss alone does not do that"""
TURN_S = 0.002
"""after so long everything else has its turn on the event loop; a thousand small messages need few turns"""
_LOCAL_REFUSAL = "packet-too-large"

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Message:
    """What an acknowledgement is about. Not frozen, which would cost more than all else that is done with it."""

    lane: Lane
    chunk: Chunk
    content: Run | Event
    topic: str
    schema: str
    encoding: str
    payload: bytes

    @property
    def readings(self) -> int:
        """How many readings; an event counts as one."""
        return self.content.count if isinstance(self.content, Run) else 1

    @property
    def series(self) -> Series:
        """Whose offsets it carries."""
        return self.content.series if isinstance(self.content, Run) else self.content.record.series

    @property
    def n(self) -> int:
        """Offset of the first."""
        return self.content.n if isinstance(self.content, Run) else self.content.record.n


class Sender:
    """Sends runs and events for a delivery, and tells their lanes when they are done with."""

    def __init__(self, tools: Tools, end: Callable[[Outcome], None]) -> None:
        self._tools = tools
        self._outcome = end
        self._ended = False
        """the outcome is told; a message more may have gone out before the lanes learnt of it"""
        self._name = tools.config.name
        self._hold = tools.config.no_subscribers == "hold"
        self._resend: deque[Message] = deque()
        self._resend_wanted = asyncio.Event()
        self._confirmations: Confirmations[Message] | None = None
        if tools.config.confirm == "centre":
            self._confirmations = Confirmations(tools.origin, tools.config.confirm_timeout, tools.clock)
        self._passed_over_told = False
        self._loop = asyncio.get_running_loop()
        self._turn = 0.0
        """when others had their turn last, the event loop's time"""
        self._over = False
        self._others_may = asyncio.Event()
        """nothing live is being sent"""
        self._others_may.set()

    @property
    def busy(self) -> bool:
        """Something is to be split and sent once more."""
        return bool(self._resend)

    def close(self) -> None:
        """The attempt is over: what is under way is sent again by the next one, from the ranges."""
        self._over = True
        for waiting in self._confirmations or ():
            if waiting.taken:
                self._release(waiting.message)
        self._tools.progress.unconfirmed = 0

    @contextlib.contextmanager
    def going_first(self) -> Iterator[None]:
        """Inside, lanes that yield make no message: to make one takes long, and what is live would wait for each."""
        self._others_may.clear()
        try:
            yield
        finally:
            self._others_may.set()

    async def run(self) -> None:
        """Split and send again what the broker finds too large, until cancelled."""
        while True:
            while self._resend:
                message = self._resend[0]
                if isinstance(message.content, Run):
                    halves = message.content.split(message.readings // 2)
                    await self.send_runs(message.lane, message.chunk, filter(None, halves))
                self._resend.popleft()
                message.lane.acknowledge(message.chunk)  # only now: its halves count in its place
            self._resend_wanted.clear()
            await self._resend_wanted.wait()

    async def send_runs(self, lane: Lane, chunk: Chunk, runs: Iterable[Run]) -> None:
        """As many messages as it takes."""
        for run in runs:
            rest: Run | None = run
            while rest is not None:
                rest = await self.send_piece(lane, chunk, rest)

    async def send_piece(self, lane: Lane, chunk: Chunk, run: Run) -> Run | None:
        """One message of as much of the run as fits; returns the rest.

        It waits for nothing but what is really to be waited for: a thousand small devices need a thousand of these.
        """
        tools, device = self._tools, run.series.device
        if lane.yields:
            await self._others_may.wait()
        while (version := tools.catalogues.version(device)) is None:
            await tools.catalogues.ensure(device)
        payload, piece, rest = tools.maker.make(run, lane.name, version)
        topic = f"{tools.topic}/{device}/readings"
        message = Message(lane, chunk, piece, topic, tools.maker.schema, tools.config.compression, payload)
        # What was parked is tried whatever was refused before: somebody mended the broker.
        tried = lane.name == "replay" and lane.counted
        if len(payload) > (tools.maker.packet_bytes if tried else tools.maker.payload_bytes):
            chunk.pending += 1
            self._park(message, _LOCAL_REFUSAL)
        else:
            if not tools.outbox.window.take(len(payload), lane.yields):
                await tools.outbox.window.acquire(len(payload), lane.yields)
            self._send(message)
        if self._loop.time() - self._turn > TURN_S:
            await asyncio.sleep(0)
            self._turn = self._loop.time()
        return rest

    async def send_event(self, lane: Lane, chunk: Chunk, event: Event) -> None:
        """One message."""
        document = documents.event(self._tools.origin, event.record)
        topic, payload = f"{self._tools.topic}/events", documents.encode(document)
        await self._tools.outbox.window.acquire(len(payload), lane.yields)
        self._send(Message(lane, chunk, event, topic, document["schema"], "none", payload))

    def _send(self, message: Message) -> None:
        """Send what has its place in the window."""
        message.chunk.pending += 1
        if self._confirmations is None:
            self._hand_over(message, partial(self._acknowledged, message))
            return
        waiting = self._confirmations.expect(message, message.series, message.n, message.n + message.readings)
        self._tools.progress.unconfirmed = len(self._confirmations)
        self._hand_over(message, partial(self._taken, waiting), waiting.correlation)

    def _hand_over(self, message: Message, done: Callable[[int], None], correlation: bytes | None = None) -> None:
        """Over to the broker; with `correlation` the slot stays taken until the centre has answered."""
        tools = self._tools
        ask = None if correlation is None else Ask(tools.answers, correlation)
        if ask is None and isinstance(message.content, Run):
            properties = tools.maker.properties
        else:
            properties = publish_properties(tools.config.mqtt, message.schema, message.encoding, ask)
        tools.outbox.hand_over(
            message.topic,
            message.payload,
            done,
            backlog=message.lane.yields,
            properties=properties,
            keep=correlation is not None,
        )

    def _release(self, message: Message) -> None:
        self._tools.outbox.window.release(len(message.payload), message.lane.yields)

    # -- what the broker says --

    def _acknowledged(self, message: Message, code: int) -> None:
        if self._over:  # sent again by the next attempt, from the ranges
            return
        nbytes = len(message.payload)
        if code == TOO_LARGE:
            self._tools.maker.too_large(nbytes, message.readings)
        match verdict(code, message.readings, self._hold):
            case Verdict.DELIVERED:
                self._tools.maker.took(nbytes)
                self._delivered(message)
            case Verdict.HOLD:
                self._end(Held(message.topic))
            case Verdict.SPLIT:
                self._resend.append(message)
                self._resend_wanted.set()
            case Verdict.PARK:
                self._park(message, word(code))
            case Verdict.STOP:
                if self._tools.refusals is not None:
                    self._tools.refusals.stopped(word(code), advice(code))
                self._end(BrokerRefused(f"the broker refuses {message.topic} ({word(code)}): {advice(code)}"))

    def _end(self, outcome: Outcome) -> None:
        self._ended = True
        self._outcome(outcome)

    def _delivered(self, message: Message) -> None:
        if not self._ended:
            self._tools.delivered()
        if isinstance(message.content, Run) and message.lane.name == "live":
            received = message.content.slices[-1].record.batch.received_time
            self._tools.progress.delay_s = (self._tools.clock.time_ns() - received) / 1e9
        message.lane.acknowledge(message.chunk)

    def _park(self, message: Message, reason: str) -> None:
        self._set_aside(message, message.content, reason, "broker")
        message.lane.acknowledge(message.chunk)

    def _set_aside(self, message: Message, content: Run | Event, reason: str, who: str) -> None:
        """Never taken by `who`: counted as parked once the chunk is settled."""
        parked = message.chunk.parked
        if isinstance(content, Run):
            series, n, count = content.series, content.n, content.count
            for part in content.slices:
                parked[part.position][series] += part.readings
            positions = content.slices[0].position, content.slices[-1].position
        else:
            series, n, count = content.record.series, content.record.n, 1
            parked[content.position][series] += 1
            positions = content.position, content.position
        time = self._tools.clock.time_ns()
        message.lane.park(entry(series, n, count, positions, reason, message.topic, time))
        if message.lane.counted and self._tools.refusals is not None:
            self._tools.refusals.parked(series, reason, count, who)
        if message.lane.counted and reason not in self._tools.progress.parking:
            self._tools.progress.parking.add(reason)
            logger.error(
                "destination %s: set aside %d readings of %s from n=%d, the %s never takes them (%s); "
                "further ones are counted as parked",
                self._name,
                count,
                series.device,
                n,
                who,
                reason,
            )

    # -- what the centre says --

    def heard(self, batch: Iterable[Heard]) -> None:
        """Answers of the centre came, for whichever messages."""
        for payload, correlation in batch:
            done = None if self._confirmations is None else self._confirmations.answered(payload, correlation)
            if done is None:
                self._tools.progress.ignored += 1
                if self._tools.progress.ignored == 1:
                    logger.warning(
                        "destination %s: an answer on %s names nothing that is waited for: %.200r; further ones are "
                        "passed over silently",
                        self._name,
                        self._tools.answers,
                        payload,
                    )
            for waiting in done or ():
                if waiting.taken:  # else once the broker has said so: its window is ours
                    self._confirmed(waiting)

    async def keep_asking(self) -> None:
        """Send again what the centre does not answer for, until cancelled."""
        if self._confirmations is None:
            return
        while True:
            await asyncio.sleep(min(ASK_S, self._tools.config.confirm_timeout / 4))
            for waiting in self._confirmations.overdue():
                message = waiting.message
                self._tools.outbox.window.charge(len(message.payload))
                self._confirmations.sent_again(waiting)
                self._tools.progress.resent += 1
                self._hand_over(message, partial(self._taken, waiting), waiting.correlation)
                if waiting.passed_over >= PASSED_OVER:
                    self._tell_passed_over(message)
            if self._confirmations.silent:
                self._tools.unanswered(
                    f"the broker takes readings, and no answer of the centre comes on {self._tools.answers}; see "
                    "whether the centre runs and confirms (docs/centre.md), and whether the broker's access rules let "
                    "this client read there, or set `confirm: broker`"
                )

    def _tell_passed_over(self, message: Message) -> None:
        if self._passed_over_told:
            return
        self._passed_over_told = True
        logger.warning(
            "destination %s: the centre answers for others and has not answered for %s n=%d (stream %s), a %s message "
            "that was sent more than %d times; it keeps its place in the window, and where such messages fill that, "
            "nothing else is delivered: see why the centre does not confirm them (docs/centre.md)",
            self._name,
            message.series.device,
            message.n,
            message.series.stream,
            message.schema,
            PASSED_OVER,
        )

    def _taken(self, waiting: Waiting[Message], code: int) -> None:
        """The broker has acknowledged a message for which the centre is to answer."""
        message = waiting.message
        if self._over:
            self._release(message)
        elif not waiting.left:
            self._confirmed(waiting)
        elif verdict(code, message.readings, self._hold) is Verdict.DELIVERED:
            waiting.taken = True
            self._tools.maker.took(len(message.payload))
            self._tools.taken()
        else:
            self._let_go(waiting)
            self._acknowledged(message, code)

    def _confirmed(self, waiting: Waiting[Message]) -> None:
        """The centre has answered for every offset of a message."""
        self._let_go(waiting)
        for part in waiting.refused:
            self._refused(waiting.message, part)
        self._delivered(waiting.message)

    def _refused(self, message: Message, part: Part) -> None:
        content: Run | Event | None = message.content
        if isinstance(content, Run):
            content = within(content, part.first, part.end)
        if content is not None:
            self._set_aside(message, content, f"centre-{part.reason}", "centre")

    def _let_go(self, waiting: Waiting[Message]) -> None:
        if self._confirmations is not None:
            self._confirmations.forget(waiting)
            self._tools.progress.unconfirmed = len(self._confirmations)
        self._release(waiting.message)
