"""One destination: connects, delivers, backs off, reports, and leaves in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import tzinfo
from functools import partial
from typing import Any

from gateway.backoff import Backoff
from gateway.contract import Clock
from gateway.log.records import EventRecord, SeriesHead
from gateway.points.table import PointTable
from gateway.publishing import documents
from gateway.publishing.accounts import Accounts, Period
from gateway.publishing.attempt import Drained, Held, Progress, Tools
from gateway.publishing.books import SAVE_S, Books
from gateway.publishing.catalogues import Catalogues
from gateway.publishing.clearance import rule_of
from gateway.publishing.config import Broker, DestinationConfig
from gateway.publishing.delivery import Delivery
from gateway.publishing.errors import BrokerAbsent, BrokerError, BrokerRefused
from gateway.publishing.hidden import Hidden
from gateway.publishing.images import Images, Way
from gateway.publishing.login import make_login
from gateway.publishing.maker import Learned, Maker
from gateway.publishing.mqtt import LARGEST_PACKET, Connection, Heard, Listen, Will, publish_properties
from gateway.publishing.outbox import Outbox, Traffic
from gateway.publishing.pacing import next_alone
from gateway.publishing.refusals import Refusals
from gateway.publishing.replays import Replays
from gateway.publishing.reports import Reporter
from gateway.publishing.sources import LogReader, LogTail, Source, State
from gateway.publishing.statistics import Condition, Statistics, collect
from gateway.publishing.tls import expires
from gateway.publishing.verdicts import advice, word
from gateway.publishing.window import Window

IN_FLIGHT_BYTES = 8_000_000
DRAIN_S = 2.0
GOODBYE_S = 1.0
"""and what emptying left of its time: a machine that stalls must not cost the closing account"""
CUT_S = 0.1
ABSENT_S = 1.5
"""most between two looks for a broker where nothing listens: once it is back, readings flow within two seconds"""
STOP_S = 4.5
"""a stop takes no longer, whatever the broker does"""
_LEVELS = {
    "refused": logging.ERROR,
    "down": logging.WARNING,
    "holding": logging.WARNING,
    "unconfirmed": logging.WARNING,
}

logger = logging.getLogger(__name__)


class Publisher:
    """Delivers everything that a destination is entitled to, at least once; `run` it in a task of its own."""

    def __init__(  # noqa: PLR0913  all but one by name: each is something that tests replace
        self,
        config: DestinationConfig,
        *,
        enterprise: str,
        gateway: str,
        version: str,
        timezone: tzinfo,
        log: LogReader,
        tail: LogTail,
        state: State,
        points: PointTable,
        clock: Clock,
        health: Callable[[], Mapping[str, Any]] | None = None,
        streams: Callable[[], Sequence[str]] = tuple,
        write: Callable[[Sequence[EventRecord]], object] | None = None,
        draw: random.Random | None = None,
        save_s: float = SAVE_S,
    ) -> None:
        """`save_s`: least time between two writes of the position (flash wear against duplicates after a crash).

        `version` is the software's; `health` gives the metrics of health messages (None: none are sent); `write` takes
        events for the log, of `streams`, the ids of those that are written to (None: refusals are no events).
        """
        self._config = config
        self._origin = documents.Origin(enterprise, gateway)
        self._topic = config.topic.format(enterprise=enterprise, gateway=gateway)
        self._answers = f"{self._topic}/confirm/{config.name}"
        self._version = version
        self._source = Source(log, tail)
        self._points = points
        self._clock = clock
        self._random = draw or random.Random()
        confirming = config.confirm == "centre"
        self._books = Books(
            config.name,
            rule_of(config),
            config.start,
            self._source,
            state,
            points,
            clock,
            save_s,
            confirming=confirming,
        )
        self._replays = Replays(config.name, lambda: self._books.ledger.ranges, state, clock, save_s)
        self._accounts = Accounts(config.name, config.account, timezone, self._books, state, clock, self._account)
        self._reporter = Reporter(config, self._origin, self._topic, self._accounts, clock, health)
        self._refusals = None if write is None else Refusals(config.name, clock, streams, write)
        self._images: Images | None = None
        if config.image is not None:
            self._images = Images(
                config.name, config.image, self._source, points, clock, lambda: self._books.ledger.clearance
            )
        self._backoff = Backoff(self._random)
        self._hold_backoff = Backoff(self._random)
        self._traffic = Traffic()
        self._progress = Progress()
        self._state = "connecting"
        self._reason = ""
        self._broker = ""
        self._since = clock.time_ns()
        self._told = (self._state, self._reason, "")
        self._blocked = False
        self._alone = 0
        """messages that go one by one at the start of the next connection, beyond the first"""
        self._learned = Learned()
        self._stopping = asyncio.Event()
        self._leave_by = math.inf
        """time of the event loop"""
        self._connected = False
        self._useful = False
        """the connection has delivered something"""
        self._delivery: Delivery | None = None
        self._window: Window | None = None

    @property
    def name(self) -> str:
        """The destination's name."""
        return self._config.name

    async def run(self) -> None:
        """Deliver until cancelled; then finish what is under way, say goodbye and save, within 5 s.

        Raises LogError when the log or the state store fails; a broker that fails is a state, not an error.
        """
        await self._books.load()
        await self._accounts.load()
        name = self._config.name
        try:
            async with asyncio.TaskGroup() as group:
                books = group.create_task(self._books.run(), name=f"{name} books")
                sessions = group.create_task(self._sessions(), name=f"{name} sessions")
                followers = [books, group.create_task(self._replays.run(), name=f"{name} replays")]
                followers.append(group.create_task(self._accounts.run(), name=f"{name} accounts"))
                if self._images is not None:
                    followers.append(group.create_task(self._images.follow(), name=f"{name} last values"))
                try:
                    await asyncio.wait([sessions])
                except asyncio.CancelledError:
                    await self._stop(sessions)
                    raise
                finally:
                    for task in followers:
                        task.cancel()
        finally:
            self._set_state("stopped", "")
            await self._accounts.close()
            await self._books.save()
            await self._replays.look(save=True)

    @property
    def undelivered(self) -> int:
        """Nothing below this position of the log waits for delivery; 0 until the books are loaded."""
        return self._books.ledger.ranges.first if self._books.loaded.is_set() else 0

    async def loaded(self) -> None:
        """Return once the books are loaded."""
        await self._books.loaded.wait()

    @property
    def certificate_expires(self) -> float | None:
        """When our certificate, as its file is now, expires: seconds since the epoch; None where there is none."""
        ends = expires(self._config.tls)
        return None if ends is None else ends.timestamp()

    async def trimmed(self, position: int, heads: Iterable[SeriesHead], reason: str = "budget") -> None:
        """Count what is about to leave the log below `position`; returns when that is saved. `heads` in order."""
        await self._books.trimmed(position, heads, reason)

    def statistics(self) -> Statistics:
        """For metrics and `status`; cheap."""
        return collect(
            self._books,
            self._replays.shown(),
            self._traffic,
            self._progress,
            self._window,
            Condition(self._state, self._since, self._reason, self._broker if self._connected else ""),
        )

    # -- connections --

    async def _stop(self, sessions: asyncio.Task[None]) -> None:
        loop = asyncio.get_running_loop()
        self._leave_by = loop.time() + DRAIN_S + GOODBYE_S
        self._stopping.set()
        if not self._connected:
            sessions.cancel()
        elif self._delivery is not None:
            loop.call_later(DRAIN_S, self._delivery.end, Drained())
        await asyncio.wait([sessions], timeout=STOP_S)

    async def _sessions(self) -> None:
        while not self._stopping.is_set():
            most_s = math.inf
            if failures := await self._round():
                if all(isinstance(failure, BrokerAbsent) for failure in failures):
                    most_s = ABSENT_S
                refused = [failure for failure in failures if isinstance(failure, BrokerRefused)]
                self._set_state((refused or failures)[0].state, "; ".join(map(str, failures)))
            if not self._stopping.is_set():
                await self._pause(self._backoff, most_s)

    async def _round(self) -> list[BrokerError]:
        """Try the brokers in order until one was of use, or none is left; returns what they failed with.

        The first is the one to be preferred: after a connection that was of use ends, the next round begins there.
        """
        failures: list[BrokerError] = []
        for broker in self._config.brokers:
            self._useful = False
            try:
                await self._session(broker)
            except BrokerError as error:
                failures.append(error)
            self._connected = False
            self._delivery = self._window = None
            if self._useful:
                return failures[-1:]
            if self._stopping.is_set():
                break
        return failures

    async def _session(self, broker: Broker) -> None:
        """One connection from CONNECT to its end. Raises BrokerError."""
        session = f"{self._clock.time_ns():x}-{self._random.getrandbits(32):08x}"
        started, begun = self._clock.time_ns(), self._clock.monotonic_ns()
        will = self._status("offline", started, session)
        window = self._new_window()
        outbox = Outbox(window, self._clock, self._traffic)
        loop = asyncio.get_running_loop()
        lost: asyncio.Future[BrokerError] = loop.create_future()

        def closed(error: BrokerError) -> None:
            # A refusal and the cut that follows it arrive together: let the refusal be acted on first.
            loop.call_later(CUT_S, _tell, lost, error)

        connection = Connection(
            self._config,
            broker,
            make_login(self._config, *self._origin, broker.host, started, session),
            Will(f"{self._topic}/status", will),
            outbox.acknowledged,
            closed,
            Listen(self._answers, self._heard) if self._config.confirm == "centre" else None,
        )
        async with connection:
            window.slots = min(self._config.window, connection.limits.receive_maximum)
            outbox.attach(connection)
            self._connected = True
            self._broker = broker.where
            failure: BrokerError | None = None
            try:
                async with asyncio.TaskGroup() as group:
                    watch = group.create_task(_raise(lost), name=f"{self._config.name} connection")
                    maker = self._new_maker(connection)
                    reports = group.create_task(self._reporter.run(outbox, maker), name=f"{self._config.name} reports")
                    await self._publish_status(outbox, "online", session)
                    await self._deliver(outbox, window, maker)
                    reports.cancel()
                    connection.orderly = await self._goodbye(outbox, maker, session)
                    watch.cancel()
            except* BrokerError as errors:
                failure = _worst(errors)
            if failure is not None and not isinstance(failure, BrokerRefused):
                # A message that could not be handed over may fail before the broker's reason for the cut is read.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(2 * CUT_S):
                        failure = await asyncio.shield(lost)
            if failure is not None:
                self._alone = next_alone(self._alone, window.messages, self._clock.monotonic_ns() - begun)
                # Some brokers cut off who sends what they forbid: then the next connection has to prove itself.
                self._blocked = isinstance(failure, BrokerRefused) or (not self._useful and window.messages > 0)
                raise failure

    def _new_maker(self, connection: Connection) -> Maker:
        packet_bytes = min(connection.limits.packet_bytes, self._config.max_packet or LARGEST_PACKET)
        return Maker(self._config, self._origin, self._points, packet_bytes, self._learned)

    async def _deliver(self, outbox: Outbox, window: Window, maker: Maker) -> None:
        """Deliver until we are told to stop. Raises BrokerError."""
        if not self._blocked or not any(account.waiting for account in self._books.ledger.accounts.values()):
            self._set_state("online", "")
        # Begin with one message: Mosquitto cuts the connection after a refusal, and the reason is lost when more is
        # under way.
        slots, window.slots = window.slots, 1
        self._window = window
        hidden = Hidden(self._points, self._books.ledger.clearance)
        catalogues = Catalogues(
            self._origin,
            self._topic,
            self._points,
            self._books.ledger.clearance,
            hidden,
            outbox,
            self._clock,
            self._config.mqtt,
            maker.most_bytes,
        )

        alone = self._alone

        def delivered() -> None:
            nonlocal alone
            self._useful = True
            alone -= 1
            if self._state != "online" or (window.slots != slots and alone < 0):
                self._blocked = False
                self._set_state("online", "")
                self._hold_backoff.reset()
                window.slots = slots if alone < 0 else 1
                window.changed()
            self._backoff.reset()

        def taken() -> None:
            # The broker takes our messages, and the centre may never answer for this one: then another has its turn.
            if window.slots == 1 and alone <= 0:
                window.slots = min(slots, 2)
                window.changed()

        tools = Tools(
            self._config,
            self._origin,
            self._topic,
            self._answers,
            self._source,
            self._books,
            self._replays,
            outbox,
            catalogues,
            hidden,
            maker,
            self._clock,
            self._stopping,
            self._progress,
            delivered,
            taken,
            partial(self._set_state, "unconfirmed"),
            self._refusals,
        )

        def well() -> bool:
            return self._state == "online" and (window.slots == slots or not window.messages)

        async with asyncio.TaskGroup() as group:
            beside: list[asyncio.Task[None]] = []
            if self._images is not None:
                way = Way(self._topic, outbox, catalogues, hidden, maker, well)
                beside.append(group.create_task(self._images.run(way), name=f"{self._config.name} images"))
            await self._attempt(tools, window)
            for task in beside:
                task.cancel()

    async def _attempt(self, tools: Tools, window: Window) -> None:
        """Deliver again and again until we are told to stop. Raises BrokerError."""
        while not self._stopping.is_set():
            self._delivery = Delivery(tools)
            match await self._delivery.run():
                case BrokerError() as error:
                    raise error
                case Held(topic):
                    self._set_state(
                        "holding", f"nobody subscribes to {topic}; start the receiver, or set `no_subscribers: deliver`"
                    )
                    window.slots = 1  # one message is enough to find out
                    await self._pause(self._hold_backoff)
                case Drained():
                    return

    def _heard(self, batch: list[Heard]) -> None:
        if self._delivery is not None:
            self._delivery.heard(batch)

    def _account(self, number: int, period: Period) -> documents.Document:
        books, now = self._books, self._clock.time_ns()
        return documents.account(
            self._origin, self._config.name, books.ledger, number, now, *period, books.complete_until()
        )

    async def _goodbye(self, outbox: Outbox, maker: Maker, session: str) -> bool:
        try:
            async with asyncio.timeout_at(self._leave_by):
                await self._accounts.close()
                await self._reporter.publish_accounts(outbox, maker)
                await self._publish_status(outbox, "offline", session, "stopped")
        except TimeoutError:
            return False  # then the will says it
        return True

    async def _publish_status(self, outbox: Outbox, state: str, session: str, reason: str | None = None) -> None:
        payload = self._status(state, self._clock.time_ns(), session, reason)
        topic = f"{self._topic}/status"
        properties = publish_properties(self._config.mqtt, "status/1", "none")
        code = await outbox.call(topic, payload, retain=True, properties=properties)
        if code >= 0x80:
            raise BrokerRefused(f"the broker refuses {topic} ({word(code)}): {advice(code)}")

    def _status(self, state: str, time: int, session: str, reason: str | None = None) -> bytes:
        return documents.encode(documents.status(self._origin, state, time, self._version, session, reason))

    def _new_window(self) -> Window:
        share = max(2 * self._config.batch.max_bytes, 500_000)
        return Window(self._config.window, IN_FLIGHT_BYTES, share, self._clock, self._config.bandwidth)

    async def _pause(self, backoff: Backoff, most_s: float = math.inf) -> None:
        try:
            async with asyncio.timeout(backoff.next_s(most_s)):
                await self._stopping.wait()
        except TimeoutError:
            return

    def _set_state(self, state: str, reason: str) -> None:
        told = (state, reason, self._broker if state == "online" else "")
        if told == self._told:
            return
        changed = state != self._state
        if changed:
            self._since = self._clock.time_ns()
        self._state, self._reason, self._told = state, reason, told
        if state == "down" and not changed:
            return  # one line for an outage; `reason` keeps up with what the last attempt met
        level = _LEVELS.get(state, logging.INFO)
        place = f" at {self._broker}" if state == "online" else ""
        logger.log(level, "destination %s: %s%s%s", self._config.name, state, place, f": {reason}" if reason else "")


def _tell(lost: asyncio.Future[BrokerError], error: BrokerError) -> None:
    """The watch that waits for `lost` may be gone already."""
    if not lost.done():
        lost.set_result(error)


async def _raise(error: asyncio.Future[BrokerError]) -> None:
    raise await asyncio.shield(error)


def _worst(errors: BaseExceptionGroup[BrokerError]) -> BrokerError:
    """The refusal if there is one: it says more than the cut connection."""
    refused, _ = errors.split(BrokerRefused)
    group: BaseExceptionGroup[BrokerError] = refused or errors
    error = group.exceptions[0]
    return _worst(error) if isinstance(error, BaseExceptionGroup) else error
