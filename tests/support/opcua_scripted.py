"""A publish loop whose server is a script of the test: what is sent, and what is answered when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_to_binary

from adapters.opcua.acquiring.progress import Made, Progress
from adapters.opcua.acquiring.publish import PublishLoop
from adapters.opcua.acquiring.receiver import Kit, Receiver, Tally
from adapters.opcua.decoding.batches import BatchBuilder
from adapters.opcua.decoding.structures import Structures
from adapters.opcua.session import stack
from adapters.opcua.session.pace import Pace
from gateway.contract import SystemClock
from tests.support.fake_sink import FakeSink
from tests.support.wait import eventually

SUBSCRIPTION = 9
OUTSTANDING = 4
"""commit 0.2 s, publishing 0.1 s: two, and two"""


class ScriptedServer:
    """Stands where asyncua's connection does; the test answers each request."""

    def __init__(self) -> None:
        self.transport = object()
        self.waiting: list[asyncio.Future[Buffer]] = []
        self.acknowledgements: list[tuple[int, int]] = []
        self.republished: list[int] = []
        self.deleted: list[int] = []
        self.kept: dict[int, bytes] = {}
        self.unknown = fault(0x807B0000)

    @property
    def acknowledged(self) -> list[int]:
        return [sequence for _, sequence in self.acknowledgements]

    def _send_request(self, request: Any, timeout: float) -> asyncio.Future[Buffer]:
        future: asyncio.Future[Buffer] = asyncio.get_running_loop().create_future()
        if isinstance(request, ua.RepublishRequest):
            sequence = request.Parameters.RetransmitSequenceNumber
            self.republished.append(sequence)
            future.set_result(Buffer(self.kept.get(sequence) or self.unknown))
        else:
            acknowledged = request.Parameters.SubscriptionAcknowledgements
            self.acknowledgements += [(each.SubscriptionId, each.SequenceNumber) for each in acknowledged]
            self.waiting.append(future)
        return future

    def answer(self, body: bytes) -> None:
        self.waiting.pop(0).set_result(Buffer(body))


class Sink(FakeSink):
    @property
    def values(self) -> list[float]:
        return [value for batch in self.batches for value in batch.values.tolist()]


class Rig:
    """A publish loop with its receivers."""

    def __init__(self, server: ScriptedServer, sink: Sink, timeout: float = 5.0, requests_per_s: float | None = None):
        client = SimpleNamespace(uaclient=SimpleNamespace(protocol=server))

        async def raw(doing: str, request: Any, *, priority: Any) -> bytes:
            return stack.body(await server._send_request(request, 0))

        async def answer(doing: str, request: ua.DeleteSubscriptionsRequest, response: Any) -> tuple[None, int]:
            server.deleted += request.Parameters.SubscriptionIds
            return None, 0

        session: Any = SimpleNamespace(
            url="opc.tcp://h:1",
            client=client,
            timeout=timeout,
            server_uri="urn:server",
            pace=Pace(requests_per_s),
            raw=raw,
            answer=answer,
            nodes_per_read=100,
        )
        clock = SystemClock()
        self.now = clock.time_ns
        self.tally = Tally()
        builder = BatchBuilder("d", {1: 0, 2: 0}, "trust", clock.time_ns())
        self.kit = Kit(session, sink, builder, clock, Structures(), lambda _: None, self.tally)
        self.loop = PublishLoop(self.kit)
        self.receivers: list[Receiver] = []
        self.watches: list[asyncio.Task[Any]] = []
        self.settled: list[bool] = []
        self.task: asyncio.Task[None]

    def receiver(self, made: Made, progress: Progress | None = None) -> Receiver:
        items: Any = SimpleNamespace(vanished=lambda _: None, complete=True, nodes_of=lambda _: [])
        progress = progress or Progress(made, self.now())
        return Receiver(self.kit, progress, items, (), on_settled=self.settled.append)

    def add(self, receiver: Receiver) -> asyncio.Task[Any]:
        """Take its notifications; the task that watches over it."""
        self.receivers.append(receiver)
        self.loop.add(receiver)
        self.watches.append(asyncio.create_task(receiver.watch(self.loop), name="watch"))
        self.watches.append(asyncio.create_task(receiver.acknowledge(), name="acknowledge"))
        return self.watches[-2]


def message(sequence: int, value: float | None) -> ua.NotificationMessage:
    data = [] if value is None else [
        ua.DataChangeNotification(
            MonitoredItems=[ua.MonitoredItemNotification(1, ua.DataValue(ua.Variant(value, ua.VariantType.Double)))]
        )
    ]  # fmt: skip
    return ua.NotificationMessage(SequenceNumber=sequence, NotificationData=data)


def published(
    sequence: int,
    value: float | None = None,
    subscription: int = SUBSCRIPTION,
    *,
    more: bool = False,
    available: tuple[int, ...] | None = None,
) -> bytes:
    answer = ua.PublishResponse()
    answer.Parameters.SubscriptionId = subscription
    answer.Parameters.MoreNotifications = more
    answer.Parameters.AvailableSequenceNumbers = list(range(1, sequence + 1) if available is None else available)
    answer.Parameters.NotificationMessage = message(sequence, value)
    return struct_to_binary(answer)


def ended(sequence: int, code: int, subscription: int = SUBSCRIPTION) -> bytes:
    answer = ua.PublishResponse()
    answer.Parameters.SubscriptionId = subscription
    change = ua.StatusChangeNotification(Status=ua.StatusCode(ua.UInt32(code)))
    answer.Parameters.NotificationMessage = ua.NotificationMessage(SequenceNumber=sequence, NotificationData=[change])
    return struct_to_binary(answer)


def republished(sequence: int, value: float) -> bytes:
    return struct_to_binary(ua.RepublishResponse(NotificationMessage=message(sequence, value)))


def fault(code: int) -> bytes:
    answer = ua.ServiceFault()
    answer.ResponseHeader.ServiceResult = ua.StatusCode(ua.UInt32(code))
    return struct_to_binary(answer)


def made(keep_alive_s: float = 60.0, id: int = SUBSCRIPTION, publishing_s: float = 0.1) -> Made:
    return Made(id, publishing_s, keep_alive_s, 600.0)


@asynccontextmanager
async def publishing(rig: Rig) -> AsyncIterator[Rig]:
    rig.task = asyncio.create_task(rig.loop.run(), name="publish")
    try:
        yield rig
    finally:
        tasks = [rig.task, *rig.watches]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def one(
    server: ScriptedServer, sink: Sink, keep_alive_s: float = 60.0, timeout: float = 5.0
) -> AsyncIterator[Rig]:
    """One subscription, with every request sent."""
    async with publishing(Rig(server, sink, timeout)) as rig:
        rig.add(rig.receiver(made(keep_alive_s)))
        await eventually(lambda: len(server.waiting) == OUTSTANDING)
        yield rig


def cause(task: asyncio.Task[Any]) -> BaseException:
    error = task.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert error is not None
    return error
