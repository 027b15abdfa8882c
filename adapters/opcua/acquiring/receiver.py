"""One subscription's notifications: taken in order, offered once, acknowledged when durable, asked for when missing.

What has been offered is written down in `Progress` without an await in between, so that a connection may end anywhere
and the next one goes on exactly there.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, Protocol

from asyncua import ua

from adapters.opcua.acquiring.items import MonitoredItems
from adapters.opcua.acquiring.progress import Progress
from adapters.opcua.acquiring.reading import Wanted
from adapters.opcua.acquiring.refresh import refresh
from adapters.opcua.decoding.batches import BatchBuilder, Built, Moment
from adapters.opcua.decoding.decode import Items, decode_items
from adapters.opcua.decoding.envelope import Message, Published, read_republish
from adapters.opcua.decoding.fallback import decode_other
from adapters.opcua.decoding.structures import Structures
from adapters.opcua.decoding.variant import DecodeError
from adapters.opcua.errors import status_name
from adapters.opcua.model.definitions import Definitions
from adapters.opcua.session.pace import Priority
from adapters.opcua.session.session import Session
from gateway.contract import Clock, Gap, LinkLost, Origin, Sink
from gateway.contract.status import BAD

_logger = logging.getLogger(__name__)

_UNACKNOWLEDGED: Final = 256
"""offers that may wait for their commit before no more are taken"""
_REPUBLISHED: Final = 64
"""numbers asked for again after a jump; a server rarely keeps more"""
_MOST_RESUMED: Final = 100_000
"""numbers asked for when a subscription is taken up again, whatever lifetime the server has granted"""
_SETTLED_S: Final = 1.0
"""after which what a server queued during an outage has come"""
_TRANSFERRED: Final = 0x002D0000
"""GoodSubscriptionTransferred: told to the session that has lost it, also where that one has timed out"""
GONE: Final = frozenset({0x80280000, 0x80790000})
"""BadSubscriptionIdInvalid, BadNoSubscription"""


class SubscriptionEnded(LinkLost):
    """One subscription is of no use any more; its siblings and the session may be."""


class Stalled(LinkLost):
    """The server has stopped publishing altogether: none of its subscriptions is of use any more."""


class Listening(Protocol):
    """What a receiver must know of the session's publish loop."""

    heard_at: float
    """loop time of the last answer of any subscription"""

    @property
    def deaf(self) -> bool:
        """We take nothing at the moment, whatever the server has to say."""
        ...


@dataclasses.dataclass(slots=True)
class Tally:
    """What is counted of a device."""

    lost_copies: int = 0
    """notifications that the server forgot before their commit"""


class Kit:
    """What all receivers of a connection share."""

    def __init__(
        self,
        session: Session,
        sink: Sink,
        builder: BatchBuilder,
        clock: Clock,
        structures: Structures,
        look: Callable[[Sequence[Items]], None],
        tally: Tally,
    ) -> None:
        """`structures` grows as the server sends new ones; `look` sees all items that are decoded."""
        self.session = session
        self.look = look
        self.sink = sink
        self.builder = builder
        self.clock = clock
        self.definitions = Definitions(session, structures)
        self.tally = tally
        self.decode_other = functools.partial(decode_other, structures=structures)
        self.told_undecodable = self.told_strangers = False

    def now(self) -> Moment:
        """The moment."""
        return Moment(self.clock.time_ns(), self.clock.monotonic_ns())


class Receiver:
    """Receives one subscription's notifications over one connection."""

    def __init__(
        self,
        kit: Kit,
        progress: Progress,
        items: MonitoredItems,
        points: tuple[int, ...],
        *,
        on_settled: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """`items` is told the points whose nodes are gone; `points`: what gaps name, () = the whole device.

        `on_settled` is called once, when everything that the server queued before this connection has been offered;
        with False if a part of it never came.
        """
        self.progress = progress
        self._kit = kit
        self._session = kit.session
        self._sink = kit.sink
        self._items = items
        self._points = points
        self._on_settled = on_settled
        self._settled = False
        # Silence is longer than three keep-alives; each may be late by one timeout.
        self.silence_s = 3 * progress.made.keep_alive_s + kit.session.timeout
        self.since = asyncio.get_running_loop().time()
        """loop time from which the session has this subscription"""
        self.silent_at = self.since + self.silence_s
        """loop time at which the server has been silent for too long"""
        self._ended: asyncio.Future[NoReturn] = asyncio.get_running_loop().create_future()
        self._bounded = False
        self._resuming = False
        self._offered = asyncio.Event()
        self._room = asyncio.Event()
        self._heard: set[int] | None = None
        """points with a reading since `resume`, None when nobody asks"""

    async def resume(self) -> bool:
        """After a lost connection, before all else: fetch what the server has sent since and still keeps (Part 4, 6.7).

        False if the server does not know the subscription any more. Raises AdapterError.
        """
        self._heard = set()
        self._resuming = True
        self.progress.watch.hold()
        made = self.progress.made
        # No more can have been sent while nobody listened; a server may have something for every number.
        for _ in range(min(math.ceil(made.lifetime_s / made.publishing_s) + _REPUBLISHED, _MOST_RESUMED)):
            result = await self._republish(self.progress.watch.expected)
            if result:
                return result not in GONE
        return True

    async def recall(self, sequence: int) -> None:
        """After a crash of the gateway, before `resume`: look at the newest notification that the log holds.

        It tells whether the server sends the same once more under another number. Raises AdapterError.
        """
        answer, _, message = await self._ask(sequence)
        if message is not None:
            self.progress.offered = (answer, message.data_changes)

    async def watch(self, loop: Listening) -> NoReturn:
        """For as long as the subscription lives. Raises SubscriptionEnded, or Stalled when no other one lives."""
        clock = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout_at(self.silent_at):
                    await asyncio.shield(self._ended)
            except TimeoutError as error:
                now = clock.time()
                if loop.deaf:
                    self.silent_at = now + self.silence_s
                elif now >= self.silent_at:
                    alone = now - loop.heard_at < self.silence_s
                    raise (SubscriptionEnded if alone else Stalled)(
                        f"{self._session.url}: the subscription has been silent for {self.silence_s:.0f} s, three "
                        "times its keep-alive; the gateway will make a new one"
                    ) from error

    def end(self, why: str) -> None:
        """The server has given up this subscription."""
        if not self._ended.done():
            self._ended.set_exception(SubscriptionEnded(f"{self._session.url}: {why}; the gateway will make a new one"))
            self._ended.exception()  # seen, also where `watch` has ended already

    async def take(self, data: bytes, published: Published, message: Message, moment: Moment) -> None:
        """Deal with one answer of the server to a PublishRequest. Raises AdapterError."""
        if message.status_change == _TRANSFERRED:
            # The number of this message is not one of the subscription's.
            raise LinkLost(f"{self._session.url}: our subscription has gone to another session; connecting again")
        self._bounded = True
        progress = self.progress
        self.silent_at = asyncio.get_running_loop().time() + self.silence_s
        self._kit.tally.lost_copies += progress.lost_copies(published.available)
        missing = progress.watch.missing(message.sequence, _REPUBLISHED)
        if missing is None:
            if not message.empty and not progress.repeated(message.sequence):
                self.end(f"the server numbers its notifications anew, from {message.sequence} on")
            return
        sequences, more = missing
        progress.missed |= more
        for sequence in sequences:
            if await self._republish(sequence):
                progress.missed = True
                progress.watch.advance(sequence, False)
        whole = not progress.missed
        if not message.empty:
            await self._offer(data, message, moment)
            self._resuming = False
        self._done(message, moment)
        if not self._settled and (not published.more or not whole):
            self._settled = True
            self._on_settled(whole)
        if message.status_change is not None:
            self.end(f"the server ended the subscription with {status_name(message.status_change)}")

    async def refresh(self) -> None:
        """After `resume`, beside `watch`: read the points that have not been heard of since. Raises AdapterError."""
        if self._heard is None:
            return
        await asyncio.sleep(max(_SETTLED_S, 3 * self.progress.made.publishing_s))
        nodes = self._items.node_ids().items()
        silent = [Wanted(point, node) for point, node in nodes if point not in self._heard]
        self._heard = None
        kit = self._kit
        await refresh(self._session, kit.definitions, kit.builder, self._sink, kit.now, silent, self._report)

    async def acknowledge(self) -> None:
        """For as long as it runs: pass on the sequence numbers of what has become durable."""
        pending = self.progress.pending
        while True:
            while not pending:
                self._offered.clear()
                await self._offered.wait()
            await pending[0][0].durable()
            self.progress.committed()
            self._room.set()

    async def _republish(self, sequence: int) -> int:
        """Ask once more for a notification that did not come, and offer it.

        Returns 0, or the status with which the server does not have it any more. Raises AdapterError.
        """
        answer, code, message = await self._ask(sequence)
        if message is None:
            return code
        moment = self._kit.now()
        await self._offer(answer, message, moment)
        self._done(message, moment, republished=True)
        return 0

    async def _ask(self, sequence: int) -> tuple[bytes, int, Message | None]:
        request = ua.RepublishRequest()
        request.Parameters.SubscriptionId = self.progress.id
        request.Parameters.RetransmitSequenceNumber = sequence
        doing = f"asking again for notification {sequence}"
        answer = await self._session.raw(doing, request, priority=Priority.PUBLISH)
        try:
            published = read_republish(answer)
        except DecodeError as error:
            raise LinkLost(f"{self._session.url}: the server's answer cannot be read: {error}") from error
        message = published.message
        if message is None or message.sequence != sequence or message.empty:
            return answer, published.service_result or BAD, None
        return answer, 0, message

    async def _offer(self, data: bytes, message: Message, moment: Moment) -> None:
        """Offer a notification's readings; from the return of the sink's `offer` on, nothing is awaited."""
        progress = self.progress
        content = [data[start:end] for start, end in message.data_changes] if self._resuming else []
        if content and content == progress.newest():
            # Seen at node-opcua: what it sent as the connection broke comes once more under the next number, the same
            # to the last bit, times included.
            progress.durable.append(message.sequence)
            return
        # While resuming nobody waits for receipts yet; what a server keeps to send again is bounded by itself.
        while self._bounded and len(progress.pending) >= _UNACKNOWLEDGED:
            self._room.clear()
            await self._room.wait()
        built = self._kit.builder.build(await self._decode(data, message, moment), moment)
        if built.batches:
            origin = Origin(self._session.server_uri, progress.id, message.sequence)
            progress.pending.append((await self._sink.offer(built.batches, origin), message.sequence))
            progress.offered = (data, message.data_changes)
            self._offered.set()
            if self._heard is not None:
                self._heard.update(*(batch.points.tolist() for batch in built.batches))
        else:
            progress.durable.append(message.sequence)
        self._report(built)

    def _done(self, message: Message, moment: Moment, republished: bool = False) -> None:
        """A notification has been dealt with: write down how far we are, and report what was lost before it."""
        progress = self.progress
        progress.watch.advance(message.sequence, message.empty)
        if progress.missed and not republished:
            progress.missed = False
            self._sink.gap(Gap(self._points, progress.covered, moment.time, "sequence-gap"))
        if progress.lost_since is not None and self._items.complete and not message.empty:
            self._sink.gap(Gap(self._points, progress.lost_since, moment.time, "subscription-lost"))
            progress.lost_since = None
        if not progress.missed:
            progress.covered = moment.time

    async def _decode(self, data: bytes, message: Message, moment: Moment) -> list[Items]:
        """The notification's items. A structure that is met for the first time is looked up at the server once."""
        decoded, failure = self._decode_all(data, message)
        if await self._kit.definitions.learn(decoded, self._items.nodes_of):
            decoded, failure = self._decode_all(data, message)
        if failure is not None:
            self._undecodable(message.sequence, failure, moment)
        self._kit.look(decoded)
        return decoded

    def _decode_all(self, data: bytes, message: Message) -> tuple[list[Items], DecodeError | None]:
        decoded: list[Items] = []
        failure: DecodeError | None = None
        base = 0
        for start, end in message.data_changes:
            try:
                found = decode_items(data, start, end, self._kit.decode_other)
            except DecodeError as error:
                failure = error
                continue
            decoded += [dataclasses.replace(items, order=items.order + base) for items in found] if base else found
            base += sum(len(items) for items in found)
        return decoded, failure

    def _undecodable(self, sequence: int, error: DecodeError, moment: Moment) -> None:
        """Count what cannot be read as lost and go on: a new connection would only bring it again."""
        self._sink.gap(Gap(self._points, self.progress.covered, moment.time, "undecodable"))
        if not self._kit.told_undecodable:
            self._kit.told_undecodable = True
            _logger.error(
                "%s: notification %d cannot be decoded: %s; its readings are lost, find the point whose type the "
                "server encodes wrongly and take it out (reported once per connection)",
                self._session.url,
                sequence,
                error,
            )

    def _report(self, built: Built) -> None:
        for gap in built.gaps:
            self._sink.gap(gap)
        if len(built.vanished):
            self._items.vanished(built.vanished.tolist())
        if built.strangers and not self._kit.told_strangers:
            self._kit.told_strangers = True
            _logger.warning(
                "%s: the server sent values for items that we did not ask for; they are left out (reported once per "
                "connection)",
                self._session.url,
            )
