"""The publish loop against a scripted server: jumps in the sequence, faults, silence, what cannot be decoded."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_to_binary

from adapters.opcua.batches import BatchBuilder
from adapters.opcua.progress import Progress
from adapters.opcua.publish import OUTSTANDING, PublishLoop
from adapters.opcua.structures import Structures
from gateway.contract import LinkLost, Origin, Refused, SystemClock
from tests.support.fake_sink import FakeSink
from tests.support.wait import eventually

SUBSCRIPTION = 9


class ScriptedServer:
    """Stands where asyncua's connection does; the test answers each request."""

    def __init__(self) -> None:
        self.transport = object()
        self.waiting: list[asyncio.Future[Buffer]] = []
        self.acknowledged: list[int] = []
        self.republished: list[int] = []
        self.kept: dict[int, bytes] = {}
        self.unknown = fault(0x807B0000)

    def _send_request(self, request: Any, timeout: float) -> asyncio.Future[Buffer]:
        future: asyncio.Future[Buffer] = asyncio.get_running_loop().create_future()
        if isinstance(request, ua.RepublishRequest):
            sequence = request.Parameters.RetransmitSequenceNumber
            self.republished.append(sequence)
            future.set_result(Buffer(self.kept.get(sequence) or self.unknown))
        else:
            self.acknowledged += [a.SequenceNumber for a in request.Parameters.SubscriptionAcknowledgements]
            self.waiting.append(future)
        return future

    def answer(self, body: bytes) -> None:
        self.waiting.pop(0).set_result(Buffer(body))


class Sink(FakeSink):
    @property
    def values(self) -> list[float]:
        return [value for batch in self.batches for value in batch.values.tolist()]


def message(sequence: int, value: float | None) -> ua.NotificationMessage:
    data = [] if value is None else [
        ua.DataChangeNotification(
            MonitoredItems=[ua.MonitoredItemNotification(1, ua.DataValue(ua.Variant(value, ua.VariantType.Double)))]
        )
    ]  # fmt: skip
    return ua.NotificationMessage(SequenceNumber=sequence, NotificationData=data)


def published(sequence: int, value: float | None = None, subscription: int = SUBSCRIPTION) -> bytes:
    answer = ua.PublishResponse()
    answer.Parameters.SubscriptionId = subscription
    answer.Parameters.NotificationMessage = message(sequence, value)
    return struct_to_binary(answer)


def republished(sequence: int, value: float) -> bytes:
    return struct_to_binary(ua.RepublishResponse(NotificationMessage=message(sequence, value)))


def fault(code: int) -> bytes:
    answer = ua.ServiceFault()
    answer.ResponseHeader.ServiceResult = ua.StatusCode(ua.UInt32(code))
    return struct_to_binary(answer)


def made(keep_alive_s: float) -> Any:
    return SimpleNamespace(
        SubscriptionId=SUBSCRIPTION, RevisedPublishingInterval=keep_alive_s * 1000, RevisedMaxKeepAliveCount=1
    )


@asynccontextmanager
async def loop(
    server: ScriptedServer,
    sink: Sink,
    keep_alive_s: float = 60.0,
    timeout: float = 5.0,
    progress: Progress | None = None,
) -> AsyncIterator[asyncio.Task[None]]:
    client = SimpleNamespace(uaclient=SimpleNamespace(protocol=server))
    session: Any = SimpleNamespace(url="opc.tcp://h:1", client=client, timeout=timeout, server_uri="urn:server")
    clock = SystemClock()
    resuming, progress = progress is not None, progress or Progress(made(keep_alive_s), clock.time_ns())
    items: Any = SimpleNamespace(vanished=lambda _: None, complete=True)
    publish = PublishLoop(
        session, progress, BatchBuilder("d", {1: 0}, "trust", clock.time_ns()), sink, clock, items, Structures()
    )
    if resuming:
        assert await publish.resume(), "cannot be resumed"
    task = asyncio.create_task(publish.run(), name="publish")
    task.progress = progress  # type: ignore[attr-defined]
    acknowledging = asyncio.create_task(publish.acknowledge(), name="acknowledge")
    try:
        await eventually(lambda: task.done() or len(server.waiting) == OUTSTANDING)
        yield task
    finally:
        task.cancel()
        acknowledging.cancel()
        await asyncio.gather(task, acknowledging, return_exceptions=True)


@pytest.fixture
def server() -> ScriptedServer:
    return ScriptedServer()


@pytest.fixture
def sink() -> Sink:
    return Sink()


async def test_offers_in_order_and_acknowledges(server: ScriptedServer, sink: Sink) -> None:
    async with loop(server, sink):
        for sequence in range(1, 5):
            server.answer(published(sequence, float(sequence)))
        await eventually(lambda: len(server.waiting) == OUTSTANDING)
        server.answer(published(5, 5.0))
        await eventually(lambda: len(server.waiting) == OUTSTANDING)
        assert sink.values == [1.0, 2.0, 3.0, 4.0, 5.0]
        assert sink.origins[2] == Origin("urn:server", SUBSCRIPTION, 3)
        assert sink.onlines == 5
        server.answer(published(6))
        await eventually(lambda: sorted(server.acknowledged) == [1, 2, 3, 4, 5])
        assert sink.gaps == []


async def test_a_jump_is_filled_by_republish(server: ScriptedServer, sink: Sink) -> None:
    async with loop(server, sink):
        server.kept = {2: republished(2, 2.0), 3: republished(3, 3.0)}
        server.answer(published(1, 1.0))
        server.answer(published(4, 4.0))
        await eventually(lambda: len(sink.values) == 4)
        assert sink.values == [1.0, 2.0, 3.0, 4.0]
        assert server.republished == [2, 3]
        assert sink.gaps == []


async def test_a_jump_that_the_server_cannot_fill_is_a_gap(server: ScriptedServer, sink: Sink) -> None:
    async with loop(server, sink):
        server.kept = {3: republished(3, 3.0)}
        server.answer(published(1, 1.0))
        server.answer(published(4, 4.0))
        await eventually(lambda: len(sink.values) == 3)
        (gap,) = sink.gaps
        assert (gap.points, gap.reason) == ((), "sequence-gap")
        assert gap.start <= gap.end


async def test_a_keep_alive_reveals_a_loss(server: ScriptedServer, sink: Sink) -> None:
    async with loop(server, sink):
        server.answer(published(1, 1.0))
        server.answer(published(3))
        await eventually(lambda: sink.gaps)
        server.answer(published(3, 3.0))
        await eventually(lambda: sink.values == [1.0, 3.0])
        assert len(sink.gaps) == 1


async def test_a_repetition_is_acknowledged_and_not_offered(server: ScriptedServer, sink: Sink) -> None:
    async with loop(server, sink):
        for sequence in (1, 2, 2, 1):
            server.answer(published(sequence, float(sequence)))
        await eventually(lambda: len(server.waiting) == OUTSTANDING)
        server.answer(published(3))
        await eventually(lambda: set(server.acknowledged) == {1, 2})
        assert sink.values == [1.0, 2.0]


async def test_a_new_connection_fetches_what_was_sent_and_not_received(server: ScriptedServer, sink: Sink) -> None:
    async with loop(server, sink) as first:
        server.answer(published(1, 1.0))
        await eventually(lambda: sink.values == [1.0])
        for future in server.waiting:
            future.set_exception(ConnectionError("connection lost"))
        server.waiting.clear()
        await eventually(first.done)
    server.kept = {2: republished(2, 2.0), 3: republished(3, 3.0)}
    async with loop(server, sink, progress=first.progress):  # type: ignore[attr-defined]
        assert server.republished == [2, 3, 4]
        server.answer(published(4, 3.0))  # under a new number, what has been fetched under the old one
        server.answer(published(5, 5.0))
        await eventually(lambda: sink.values == [1.0, 2.0, 3.0, 5.0])
        server.answer(published(6))
        await eventually(lambda: set(server.acknowledged) >= {1, 2, 3, 4, 5})
    assert sink.gaps == []


async def test_a_subscription_that_the_server_forgot(server: ScriptedServer, sink: Sink) -> None:
    server.unknown = fault(0x80280000)
    with pytest.raises(AssertionError, match="cannot be resumed"):
        async with loop(server, sink, progress=Progress(made(1.0), 0)):
            pass


async def test_what_cannot_be_decoded_is_a_gap_and_not_the_end(server: ScriptedServer, sink: Sink) -> None:
    async with loop(server, sink) as task:
        server.answer(published(1, 1.0))
        broken = published(2, 2.0)
        at = broken.index(struct.pack("<Bd", 11, 2.0)) - 1
        server.answer(broken[:at] + b"\xff" + broken[at + 1 :])
        server.answer(published(3, 3.0))
        await eventually(lambda: sink.values == [1.0, 3.0])
        assert [gap.reason for gap in sink.gaps] == ["undecodable"]
        assert not task.done()
        server.answer(published(4))
        await eventually(lambda: 2 in server.acknowledged)


async def test_an_unreadable_answer_is_a_lost_link(server: ScriptedServer, sink: Sink) -> None:
    async with loop(server, sink) as task:
        server.answer(published(1, 1.0)[:-1])
        await eventually(task.done)
        with pytest.raises(LinkLost, match="cannot be read"):
            task.result()


async def test_silence_is_a_lost_link(server: ScriptedServer, sink: Sink) -> None:
    async with loop(server, sink, keep_alive_s=0.02, timeout=0.05) as task:
        await eventually(task.done)
        with pytest.raises(LinkLost, match="silent"):
            task.result()


@pytest.mark.parametrize(
    ("code", "error"), [(0x80790000, LinkLost), (0x80250000, LinkLost), (0x801F0000, Refused)]
)  # fmt: skip
async def test_faults_end_the_connection(server: ScriptedServer, sink: Sink, code: int, error: type[Exception]) -> None:
    async with loop(server, sink) as task:
        server.answer(fault(code))
        await eventually(task.done)
        with pytest.raises(error):
            task.result()


async def test_too_many_requests_means_fewer(server: ScriptedServer, sink: Sink) -> None:
    async with loop(server, sink) as task:
        server.answer(fault(0x80780000))
        server.answer(published(1, 1.0))
        await eventually(lambda: sink.values == [1.0])
        await eventually(lambda: len(server.waiting) == OUTSTANDING - 1)
        assert not task.done()


async def test_a_request_that_waited_too_long_is_sent_again(server: ScriptedServer, sink: Sink) -> None:
    async with loop(server, sink) as task:
        server.answer(fault(0x800A0000))
        await eventually(lambda: len(server.waiting) == OUTSTANDING)
        assert not task.done()


async def test_another_subscription_is_none_of_ours(server: ScriptedServer, sink: Sink) -> None:
    async with loop(server, sink):
        server.answer(published(1, 1.0, subscription=SUBSCRIPTION + 1))
        server.answer(published(1, 2.0))
        await eventually(lambda: sink.values == [2.0])


async def test_a_cut_connection(server: ScriptedServer, sink: Sink) -> None:
    async with loop(server, sink) as task:
        server.waiting[0].set_exception(ConnectionError("connection lost"))
        await eventually(task.done)
        with pytest.raises(LinkLost, match="connection lost"):
            task.result()
