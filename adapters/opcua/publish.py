"""The publish loop: several requests outstanding, values offered as they come, acknowledged only once they are durable.

Answers are taken in the order in which they arrived, by one task; a sink that makes it wait leaves the server without
requests, and its queues fill: that is the back-pressure. Another task waits for receipts, so that a slow commit delays
acknowledgements alone. What has been offered is written down in `Progress` without an await in between, so that a
connection may end anywhere and the next one goes on exactly there.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
from typing import Any, Final, NamedTuple

from asyncua import ua

from adapters.opcua import stack
from adapters.opcua.batches import BatchBuilder, Built, Moment
from adapters.opcua.decode import Items, decode_items
from adapters.opcua.definitions import learn_structures
from adapters.opcua.envelope import Message, read_publish, read_republish
from adapters.opcua.errors import service_failed, status_name, translate_errors
from adapters.opcua.fallback import decode_other
from adapters.opcua.items import MonitoredItems
from adapters.opcua.layouts import EXTENSION_OBJECT
from adapters.opcua.progress import Progress
from adapters.opcua.refresh import read_values
from adapters.opcua.session import Session
from adapters.opcua.structures import Structures
from adapters.opcua.variant import DecodeError
from gateway.contract import Clock, Gap, LinkLost, Origin, Sink
from gateway.contract.status import BAD

_logger = logging.getLogger(__name__)

OUTSTANDING: Final = 4
"""PublishRequests that wait at the server: enough that one is there while others are on their way"""
_UNACKNOWLEDGED: Final = 256
"""offers that may wait for their commit before no more are taken"""
_REPUBLISHED: Final = 64
"""numbers asked for again after a jump; a server rarely keeps more"""
_SETTLED_S: Final = 1.0
"""after which what a server queued during an outage has come"""
_TOO_MANY_PUBLISH_REQUESTS: Final = 0x80780000
_TIMEOUT: Final = 0x800A0000
_GONE: Final = frozenset({0x80280000, 0x80790000})
"""BadSubscriptionIdInvalid, BadNoSubscription"""


class SubscriptionEnded(LinkLost):
    """The subscription is of no use any more, while the session may be."""


class _Arrival(NamedTuple):
    answer: bytes | BaseException
    moment: Moment


class PublishLoop:
    """Receives one subscription's notifications."""

    def __init__(
        self,
        session: Session,
        progress: Progress,
        builder: BatchBuilder,
        sink: Sink,
        clock: Clock,
        items: MonitoredItems,
        structures: Structures,
    ) -> None:
        """`items` is told the points whose nodes are gone; `structures` grows as the server sends new ones."""
        self._session = session
        self._progress = progress
        # Silence is longer than three keep-alives; each may be late by one timeout.
        self._silence_s = 3 * progress.keep_alive_s + session.timeout
        self._builder = builder
        self._sink = sink
        self._clock = clock
        self._items = items
        self._structures = structures
        self._decode_other = functools.partial(decode_other, structures=structures)
        self._outstanding = 0
        self._running = False
        self._resuming = False
        self._arrivals: asyncio.Queue[_Arrival] = asyncio.Queue(OUTSTANDING)
        self._sent: dict[asyncio.Future[Any], list[int]] = {}
        self._offered = asyncio.Event()
        self._room = asyncio.Event()
        self._complained = False
        self._heard: set[int] | None = None
        """points with a reading since `resume`, None when nobody asks"""

    async def resume(self) -> bool:
        """After a lost connection, before `run`: fetch what the server has sent since and still keeps (Part 4, 6.7).

        False if the server does not know the subscription any more. Raises AdapterError.
        """
        self._heard = set()
        self._resuming = True
        while True:
            sequence = self._progress.watch.expected
            result = await self._republish(sequence)
            if result in _GONE:
                return False
            if result:
                return True

    async def run(self) -> None:
        """Receive until cancelled. Raises AdapterError when the link, the session or the subscription ends."""
        self._running = True
        while self._outstanding < OUTSTANDING:
            self._request()
        while True:
            await self._handle(await self._next())

    async def refresh(self) -> None:
        """After `resume`, beside `run`: read the points that have not been heard of since. Raises AdapterError."""
        if self._heard is None:
            return
        await asyncio.sleep(max(_SETTLED_S, 3 * self._progress.publishing_s))
        silent = [(point, node) for point, node in self._items.node_ids().items() if point not in self._heard]
        self._heard = None
        for body in await read_values(self._session, silent):
            moment = Moment(self._clock.time_ns(), self._clock.monotonic_ns())
            decoded = decode_items(body, 0, len(body), self._decode_other)
            self._builder.created(point for items in decoded for point in items.handles.tolist())
            built = self._builder.build(decoded, moment)
            if built.batches:
                await self._sink.offer(built.batches)
            self._report(built)

    async def acknowledge(self) -> None:
        """For as long as it runs: pass on the sequence numbers of what has become durable."""
        pending = self._progress.pending
        while True:
            while not pending:
                self._offered.clear()
                await self._offered.wait()
            receipt, sequence = pending[0]
            await receipt.durable()
            pending.popleft()
            self._progress.durable.append(sequence)
            self._room.set()

    def _request(self) -> None:
        """Send a PublishRequest with every acknowledgement that is due."""
        request = ua.PublishRequest()
        due = self._progress.durable
        request.Parameters.SubscriptionAcknowledgements = [
            ua.SubscriptionAcknowledgement(self._progress.id, sequence) for sequence in due
        ]
        with translate_errors(f"{self._session.url}: publishing"):
            future = stack.send(self._session.client, request, 0)
        self._sent[future] = due.copy()
        due.clear()
        self._outstanding += 1
        future.add_done_callback(self._arrived)

    def _arrived(self, future: asyncio.Future[Any]) -> None:
        """Callbacks run in the order of the answers, unlike tasks that await them."""
        acknowledged = self._sent.pop(future)
        if future.cancelled():
            return
        failure = future.exception()
        if failure is not None:
            self._progress.durable += acknowledged  # nobody knows whether the server heard of them
        moment = Moment(self._clock.time_ns(), self._clock.monotonic_ns())
        # There is room: no more requests are outstanding than the queue has places.
        self._arrivals.put_nowait(_Arrival(failure or stack.body(future.result()), moment))

    async def _next(self) -> _Arrival:
        try:
            async with asyncio.timeout(self._silence_s):
                return await self._arrivals.get()
        except TimeoutError as error:
            raise SubscriptionEnded(
                f"{self._session.url}: the subscription has been silent for {self._silence_s:.0f} s, three times its "
                "keep-alive; the gateway will make a new one"
            ) from error

    async def _handle(self, arrival: _Arrival) -> None:
        self._outstanding -= 1
        where = f"{self._session.url}: publishing"
        if isinstance(arrival.answer, BaseException):
            with translate_errors(where):
                raise arrival.answer
        try:
            published = read_publish(arrival.answer)
        except DecodeError as error:
            raise LinkLost(f"{where}: the server's answer cannot be read: {error}") from error
        message = published.message
        if message is None:
            self._fault(where, published.service_result)
            return
        self._sink.online()
        if published.subscription == self._progress.id:
            await self._take(arrival.answer, message, arrival.moment)
        self._request()

    def _fault(self, where: str, code: int) -> None:
        if code == _TOO_MANY_PUBLISH_REQUESTS and self._outstanding:
            return
        if code in _GONE:
            raise SubscriptionEnded(
                f"{where}: the server answered {status_name(code)}: it has given up the subscription; the gateway will "
                "make a new one"
            )
        if code != _TIMEOUT:
            raise service_failed(where, code)
        self._request()

    async def _take(self, data: bytes, message: Message, moment: Moment) -> None:
        progress = self._progress
        missing = progress.watch.missing(message.sequence, _REPUBLISHED)
        if missing is None:
            if not message.empty:
                progress.repeated(message.sequence)
            return
        sequences, more = missing
        progress.missed |= more
        for sequence in sequences:
            if await self._republish(sequence):
                progress.missed = True
                progress.watch.advance(sequence, False)
        if not message.empty:
            await self._offer(data, message, moment)
            self._resuming = False
        self._done(message, moment)
        if message.status_change is not None:
            raise SubscriptionEnded(
                f"{self._session.url}: the server ended the subscription with {status_name(message.status_change)}; "
                "the gateway will make a new one"
            )

    async def _republish(self, sequence: int) -> int:
        """Ask once more for a notification that did not come, and offer it.

        Returns 0, or the status with which the server does not have it any more. Raises AdapterError.
        """
        request = ua.RepublishRequest()
        request.Parameters.SubscriptionId = self._progress.id
        request.Parameters.RetransmitSequenceNumber = sequence
        with translate_errors(f"{self._session.url}: asking again for notification {sequence}"):
            async with asyncio.timeout(self._session.timeout):
                answer = stack.body(await stack.send(self._session.client, request, self._session.timeout))
        try:
            published = read_republish(answer)
        except DecodeError as error:
            raise LinkLost(f"{self._session.url}: the server's answer cannot be read: {error}") from error
        message = published.message
        if message is None or message.sequence != sequence or message.empty:
            return published.service_result or BAD
        moment = Moment(self._clock.time_ns(), self._clock.monotonic_ns())
        await self._offer(answer, message, moment)
        self._done(message, moment, republished=True)
        return 0

    async def _offer(self, data: bytes, message: Message, moment: Moment) -> None:
        """Offer a notification's readings; from the return of the sink's `offer` on, nothing is awaited."""
        progress = self._progress
        content = [data[start:end] for start, end in message.data_changes] if self._resuming else []
        if content and content == progress.newest():
            # Seen at node-opcua: what it sent as the connection broke comes once more under the next number, the same
            # to the last bit, times included.
            progress.durable.append(message.sequence)
            return
        # While resuming nobody waits for receipts yet; what a server keeps to send again is bounded by itself.
        while self._running and len(progress.pending) >= _UNACKNOWLEDGED:
            self._room.clear()
            await self._room.wait()
        built = self._builder.build(await self._decode(data, message, moment), moment)
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
        progress = self._progress
        progress.watch.advance(message.sequence, message.empty)
        if progress.missed and not republished:
            progress.missed = False
            self._sink.gap(Gap((), progress.covered, moment.time, "sequence-gap"))
        if progress.lost_since is not None and self._items.complete and not message.empty:
            self._sink.gap(Gap((), progress.lost_since, moment.time, "subscription-lost"))
            progress.lost_since = None
        if not progress.missed:
            progress.covered = moment.time

    async def _decode(self, data: bytes, message: Message, moment: Moment) -> list[Items]:
        """The notification's items. A structure that is met for the first time is looked up at the server once."""
        decoded, failure = self._decode_all(data, message)
        if self._structures.to_be_learnt():
            opaque = {point for items in decoded if items.type == EXTENSION_OBJECT for point in items.handles.tolist()}
            await learn_structures(self._session, self._items.nodes_of(sorted(opaque)), self._structures)
            decoded, failure = self._decode_all(data, message)
        if failure is not None:
            self._undecodable(message.sequence, failure, moment)
        return decoded

    def _decode_all(self, data: bytes, message: Message) -> tuple[list[Items], DecodeError | None]:
        decoded: list[Items] = []
        failure: DecodeError | None = None
        base = 0
        for start, end in message.data_changes:
            try:
                found = decode_items(data, start, end, self._decode_other)
            except DecodeError as error:
                failure = error
                continue
            decoded += [dataclasses.replace(items, order=items.order + base) for items in found] if base else found
            base += sum(len(items) for items in found)
        return decoded, failure

    def _undecodable(self, sequence: int, error: DecodeError, moment: Moment) -> None:
        """Count what cannot be read as lost and go on: a new connection would only bring it again."""
        self._sink.gap(Gap((), self._progress.covered, moment.time, "undecodable"))
        if not self._complained:
            self._complained = True
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
        if built.strangers and not self._complained:
            self._complained = True
            _logger.warning(
                "%s: the server sent values for items that we did not ask for; they are left out (reported once per "
                "connection)",
                self._session.url,
            )
