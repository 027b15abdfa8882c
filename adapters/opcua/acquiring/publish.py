"""The session's publish loop: PublishRequests are the session's, and each answer names the subscription it is of.

Answers are taken in the order in which they arrived, by one task. While a sink makes it wait no request is sent, so
the server's queues fill: that is the back-pressure. Acknowledgements of all subscriptions travel on whichever request
is sent next.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any, Final, NamedTuple

from asyncua import ua

from adapters.opcua.acquiring import services
from adapters.opcua.acquiring.progress import Progress
from adapters.opcua.acquiring.receiver import GONE, Kit, Receiver
from adapters.opcua.decoding.batches import Moment
from adapters.opcua.decoding.envelope import read_publish
from adapters.opcua.decoding.variant import DecodeError
from adapters.opcua.errors import service_failed, status_name, translate_errors
from adapters.opcua.session import stack
from adapters.opcua.session.pace import Priority
from gateway.contract import LinkLost

_logger = logging.getLogger(__name__)

MOST_OUTSTANDING: Final = 32
"""PublishRequests that wait at the server, at most"""
_SPARE: Final = 2
"""beyond those that a commit keeps busy: one is at the server while another is on its way"""
_FASTEST_S: Final = 0.02
"""publishing faster than this needs no more requests"""
_STRANGE: Final = 2
"""messages of a subscription that nobody here knows, after which it is deleted"""
_STRANGERS: Final = 64
"""subscriptions that nobody here knows and that are looked at at a time, whatever a server makes up"""
_TOO_MANY_PUBLISH_REQUESTS: Final = 0x80780000
_TIMEOUT: Final = 0x800A0000
_HASTY_S: Final = 1.0
"""no request has waited too long that was sent so shortly ago"""


class _Sent(NamedTuple):
    at: float
    """loop time"""
    acknowledged: list[tuple[Progress, list[int]]]


class _Arrival(NamedTuple):
    answer: bytes | BaseException
    moment: Moment
    sent: _Sent


class PublishLoop:
    """Fetches the notifications of all subscriptions of one session."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._session = kit.session
        self._receivers: dict[int, Receiver] = {}
        self.wanted = 0
        """requests that should be at the server"""
        self._limit = MOST_OUTSTANDING
        self._hasty = 0
        """answers in a row that say at once that the request waited too long"""
        self._open = 0
        """requests that are at the server, or whose answer has not been dealt with"""
        self._arrivals: asyncio.Queue[_Arrival] = asyncio.Queue(MOST_OUTSTANDING)
        self._sent: dict[asyncio.Future[Any], _Sent] = {}
        self._wake = asyncio.Event()
        self._busy = False
        self._strangers: dict[int, int] = {}
        """subscriptions that are none of ours, and how often each has sent something"""
        self._orphaned = asyncio.Event()
        self.offering = asyncio.Lock()
        """held while a notification is dealt with"""
        self.heard_at = asyncio.get_running_loop().time()
        """loop time of the last answer of any subscription"""

    @property
    def deaf(self) -> bool:
        """We take nothing at the moment, or no request of ours is at the server."""
        return self._busy or not self._arrivals.empty() or not self._sent

    def add(self, receiver: Receiver) -> None:
        """From now on this subscription's notifications are taken; before it has items, lest some go by."""
        self._receivers[receiver.progress.id] = receiver
        self._strangers.pop(receiver.progress.id, None)
        self._reckon()
        self._fill()

    def remove(self, receiver: Receiver) -> None:
        """No more of them."""
        if self._receivers.get(receiver.progress.id) is receiver:
            del self._receivers[receiver.progress.id]
            self._reckon()

    async def run(self) -> None:
        """Receive until cancelled. Raises AdapterError when the link or the session ends."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send(), name=f"{self._session.url}: publish requests")
            group.create_task(self._receive(), name=f"{self._session.url}: notifications")
            group.create_task(self._delete_orphans(), name=f"{self._session.url}: orphans")

    def _reckon(self) -> None:
        """How many requests should be at the server: as many as it answers during a commit, and two; one more for
        each further subscription; never more than it bears.
        """
        self.wanted = 0
        if self._receivers:
            fastest_s = min(receiver.progress.made.publishing_s for receiver in self._receivers.values())
            during_commit = math.ceil(self._kit.sink.commit_s / max(fastest_s, _FASTEST_S))
            self.wanted = min(during_commit + _SPARE + len(self._receivers) - 1, self._limit)

    async def _send(self) -> None:
        """Send the requests for which the device's budget makes us wait."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._may_send():
                await self._session.pace.wait(Priority.PUBLISH)
                if self._may_send():
                    self._request()
                self._fill()

    def _may_send(self) -> bool:
        return not self._busy and self._open < self.wanted

    def _fill(self) -> None:
        while self._may_send():
            if not self._session.pace.take(Priority.PUBLISH):
                self._wake.set()
                return
            self._request()

    def _request(self) -> None:
        """Send a PublishRequest with every acknowledgement that is due."""
        due = [(each.progress, each.progress.durable.copy()) for each in self._receivers.values()]
        request = ua.PublishRequest()
        request.Parameters.SubscriptionAcknowledgements = [
            ua.SubscriptionAcknowledgement(progress.id, sequence) for progress, numbers in due for sequence in numbers
        ]
        with translate_errors(f"{self._session.url}: publishing"):
            future = stack.send(self._session.client, request, 0)
        for progress, _ in due:
            progress.durable.clear()
        self._sent[future] = _Sent(asyncio.get_running_loop().time(), due)
        self._open += 1
        future.add_done_callback(self._arrived)

    def _arrived(self, future: asyncio.Future[Any]) -> None:
        """Callbacks run in the order of the answers, unlike tasks that await them."""
        sent = self._sent.pop(future)
        if future.cancelled():
            return
        failure = future.exception()
        if failure is not None:
            _unheard(sent)
        # There is room: no more requests are open than the queue has places.
        self._arrivals.put_nowait(_Arrival(failure or stack.body(future.result()), self._kit.now(), sent))

    async def _receive(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            arrival = await self._arrivals.get()
            self._busy, started = True, loop.time()
            try:
                async with self.offering:
                    await self._handle(arrival)
            finally:
                self._busy = False
                self._open -= 1
            paused = loop.time() - started
            for receiver in self._receivers.values():
                receiver.silent_at += paused
            self._fill()

    async def _handle(self, arrival: _Arrival) -> None:
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
            _unheard(arrival.sent)
            self._fault(where, published.service_result, arrival.sent.at)
            return
        for progress, numbers in arrival.sent.acknowledged:
            progress.released(numbers)
        self._hasty = 0
        self._kit.sink.online()
        self.heard_at = asyncio.get_running_loop().time()
        receiver = self._receivers.get(published.subscription)
        if receiver is not None:
            await receiver.take(arrival.answer, published, message, arrival.moment)
        else:
            self._stranger(published.subscription)

    def _stranger(self, subscription: int) -> None:
        """A subscription of our session that nobody here knows: one whose making was cut off before the answer came.

        As long as the session is published to, the server would keep it for ever. One that has only just been made or
        deleted sends no more than one message meanwhile.
        """
        seen = self._strangers.pop(subscription, 0) + 1
        if len(self._strangers) == _STRANGERS:
            del self._strangers[next(iter(self._strangers))]
        self._strangers[subscription] = seen
        if seen >= _STRANGE:
            self._orphaned.set()

    async def _delete_orphans(self) -> None:
        while True:
            await self._orphaned.wait()
            self._orphaned.clear()
            while orphans := [each for each, seen in self._strangers.items() if seen >= _STRANGE]:
                _logger.info(
                    "%s: deleting subscription %d, which a lost connection left behind while it was being made",
                    self._session.url,
                    orphans[0],
                )
                del self._strangers[orphans[0]]
                await services.delete(self._session, orphans[:1])

    def _fault(self, where: str, code: int, sent_at: float) -> None:
        if code == _TOO_MANY_PUBLISH_REQUESTS and self._open > 1:
            self._limit = self._open - 1
            self._reckon()
        elif code in GONE:
            # Of those that it has got since, the server did not know yet.
            for receiver in list(self._receivers.values()):
                if receiver.since <= sent_at:
                    receiver.end(f"the server answered {status_name(code)}: it has given up the subscription")
        elif code != _TIMEOUT:
            raise service_failed(where, code)
        elif asyncio.get_running_loop().time() - sent_at < _HASTY_S:
            # Else a server that answers so to whatever is asked would be asked for ever, and never be silent.
            self._hasty += 1
            if self._hasty > MOST_OUTSTANDING:
                raise service_failed(where, code)


def _unheard(sent: _Sent) -> None:
    """The server has refused the request, or nobody knows whether it came: acknowledge once more."""
    for progress, numbers in sent.acknowledged:
        progress.durable += numbers
