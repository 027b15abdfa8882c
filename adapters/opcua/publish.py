"""The publish loop: several requests outstanding, values offered as they come, acknowledged only once they are durable.

Answers are taken in the order in which they arrived, by one task; a sink that makes it wait leaves the server without
requests, and its queues fill: that is the back-pressure. Another task waits for receipts, so that a slow commit delays
acknowledgements alone.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from asyncua import ua

from adapters.opcua import stack
from adapters.opcua.batches import BatchBuilder, Built, Moment
from adapters.opcua.decode import Items, decode_items
from adapters.opcua.envelope import Message, read_publish, read_republish
from adapters.opcua.errors import service_failed, status_name, translate_errors
from adapters.opcua.fallback import decode_other
from adapters.opcua.sequence import SequenceWatch
from adapters.opcua.session import Session
from adapters.opcua.variant import DecodeError
from gateway.contract import Clock, Gap, LinkLost, Origin, Receipt, Sink

_logger = logging.getLogger(__name__)

OUTSTANDING: Final = 4
"""PublishRequests that wait at the server: enough that one is there while others are on their way"""
_UNACKNOWLEDGED: Final = 256
"""offers that may wait for their commit before no more are taken"""
_REPUBLISHED: Final = 64
"""numbers asked for again after a jump; a server rarely keeps more"""
_TOO_MANY_PUBLISH_REQUESTS: Final = 0x80780000
_TIMEOUT: Final = 0x800A0000


class _Arrival(NamedTuple):
    answer: bytes | BaseException
    moment: Moment


class PublishLoop:
    """Receives one subscription's notifications."""

    def __init__(
        self,
        session: Session,
        subscription: ua.CreateSubscriptionResult,
        builder: BatchBuilder,
        sink: Sink,
        clock: Clock,
        vanished: Callable[[Iterable[int]], None],
    ) -> None:
        """`vanished` is told the points whose nodes are gone."""
        self._session = session
        self._id: int = subscription.SubscriptionId
        # Silence is longer than three keep-alives; each may be late by one timeout.
        keep_alive_s = subscription.RevisedPublishingInterval / 1000 * subscription.RevisedMaxKeepAliveCount
        self._silence_s = 3 * keep_alive_s + session.timeout
        self._builder = builder
        self._sink = sink
        self._clock = clock
        self._vanished = vanished
        self._watch = SequenceWatch()
        self._covered = clock.time_ns()
        self._outstanding = 0
        self._arrivals: asyncio.Queue[_Arrival] = asyncio.Queue(OUTSTANDING)
        self._receipts: asyncio.Queue[tuple[Receipt, int]] = asyncio.Queue(_UNACKNOWLEDGED)
        self._durable: list[int] = []
        self._complained = False

    async def run(self) -> None:
        """Receive until cancelled. Raises AdapterError when the link, the session or the subscription ends."""
        while self._outstanding < OUTSTANDING:
            self._request()
        while True:
            await self._handle(await self._next())

    async def acknowledge(self) -> None:
        """For as long as it runs: pass on the sequence numbers of what has become durable."""
        while True:
            receipt, sequence = await self._receipts.get()
            await receipt.durable()
            self._durable.append(sequence)

    def _request(self) -> None:
        """Send a PublishRequest with every acknowledgement that is due."""
        request = ua.PublishRequest()
        request.Parameters.SubscriptionAcknowledgements = [
            ua.SubscriptionAcknowledgement(self._id, sequence) for sequence in self._durable
        ]
        with translate_errors(f"{self._session.url}: publishing"):
            future = stack.send(self._session.client, request, 0)
        self._durable.clear()
        self._outstanding += 1
        future.add_done_callback(self._arrived)

    def _arrived(self, future: asyncio.Future[Any]) -> None:
        """Callbacks run in the order of the answers, unlike tasks that await them."""
        if future.cancelled():
            return
        failure = future.exception()
        moment = Moment(self._clock.time_ns(), self._clock.monotonic_ns())
        # There is room: no more requests are outstanding than the queue has places.
        self._arrivals.put_nowait(_Arrival(failure or stack.body(future.result()), moment))

    async def _next(self) -> _Arrival:
        try:
            async with asyncio.timeout(self._silence_s):
                return await self._arrivals.get()
        except TimeoutError as error:
            raise LinkLost(
                f"{self._session.url}: the server has been silent for {self._silence_s:.0f} s, three times its "
                "keep-alive; the gateway will connect again"
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
        if published.subscription == self._id:
            await self._take(arrival.answer, message, arrival.moment)
        self._request()

    def _fault(self, where: str, code: int) -> None:
        if code == _TOO_MANY_PUBLISH_REQUESTS and self._outstanding:
            return
        if code != _TIMEOUT:
            raise service_failed(where, code)
        self._request()

    async def _take(self, data: bytes, message: Message, moment: Moment) -> None:
        missing = self._watch.missing(message.sequence, _REPUBLISHED)
        if missing is None:
            if not message.empty:
                self._durable.append(message.sequence)  # a repetition of what has been offered before
            return
        sequences, lost = missing
        for sequence in sequences:
            lost = not await self._republish(sequence) or lost
        if lost:
            self._sink.gap(Gap((), self._covered, moment.time, "sequence-gap"))
        self._watch.advance(message.sequence, message.empty)
        if not message.empty:
            await self._offer(data, message, moment)
        self._covered = moment.time
        if message.status_change is not None:
            raise LinkLost(
                f"{self._session.url}: the server ended the subscription with {status_name(message.status_change)}; "
                "the gateway will make a new one"
            )

    async def _republish(self, sequence: int) -> bool:
        """Ask once more for a notification that did not come; False if the server no longer has it."""
        request = ua.RepublishRequest()
        request.Parameters.SubscriptionId = self._id
        request.Parameters.RetransmitSequenceNumber = sequence
        with translate_errors(f"{self._session.url}: asking again for notification {sequence}"):
            async with asyncio.timeout(self._session.timeout):
                answer = stack.body(await stack.send(self._session.client, request, self._session.timeout))
        try:
            message = read_republish(answer).message
        except DecodeError as error:
            raise LinkLost(f"{self._session.url}: the server's answer cannot be read: {error}") from error
        if message is None or message.sequence != sequence:
            return False
        await self._offer(answer, message, Moment(self._clock.time_ns(), self._clock.monotonic_ns()))
        return True

    async def _offer(self, data: bytes, message: Message, moment: Moment) -> None:
        built = self._builder.build(self._decode(data, message, moment), moment)
        self._report(built)
        if not built.batches:
            self._durable.append(message.sequence)
            return
        origin = Origin(self._session.server_uri, self._id, message.sequence)
        receipt = await self._sink.offer(built.batches, origin)
        await self._receipts.put((receipt, message.sequence))

    def _decode(self, data: bytes, message: Message, moment: Moment) -> list[Items]:
        decoded: list[Items] = []
        base = 0
        for start, end in message.data_changes:
            try:
                found = decode_items(data, start, end, decode_other)
            except DecodeError as error:
                self._undecodable(message.sequence, error, moment)
                continue
            decoded += [dataclasses.replace(items, order=items.order + base) for items in found] if base else found
            base += sum(len(items) for items in found)
        return decoded

    def _undecodable(self, sequence: int, error: DecodeError, moment: Moment) -> None:
        """Count what cannot be read as lost and go on: a new connection would only bring it again."""
        self._sink.gap(Gap((), self._covered, moment.time, "undecodable"))
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
            self._vanished(built.vanished.tolist())
        if built.strangers and not self._complained:
            self._complained = True
            _logger.warning(
                "%s: the server sent values for items that we did not ask for; they are left out (reported once per "
                "connection)",
                self._session.url,
            )
