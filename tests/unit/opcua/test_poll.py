"""Poll mode against answers in OPC UA binary, on a clock that jumps: on time, within limits, what is bad is told."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from adapters.opcua.acquiring.plan import PlannedPoll
from adapters.opcua.acquiring.poll import PollCount, PollLoop
from adapters.opcua.config import OpcUaPointConfig
from adapters.opcua.decoding.batches import BatchBuilder
from adapters.opcua.decoding.decode import Items
from adapters.opcua.decoding.structures import Structures
from adapters.opcua.decoding.variant import DecodeError
from adapters.opcua.session import stack
from adapters.opcua.session.limits import Limits
from adapters.opcua.session.pace import Pace, Priority
from gateway.contract import LinkLost, Refused
from gateway.contract.status import BAD_DECODING_ERROR, BAD_NODE_ID_UNKNOWN
from tests.support.fake_sink import FakeSink
from tests.support.virtual_time import run_virtually

T = ua.VariantType
TOO_MANY_OPERATIONS = 0x80100000
RESPONSE_TOO_LARGE = 0x80B90000


def good(value: Any, type: ua.VariantType = T.Double) -> ua.DataValue:
    return ua.DataValue(ua.Variant(value, type))


def bad(code: int) -> ua.DataValue:
    return ua.DataValue(None, ua.StatusCode(ua.UInt32(code)))


def parameters(request: stack.Encoded) -> ua.ReadParameters:
    assert request.type_id == ua.ReadRequest().TypeId
    return struct_from_binary(ua.ReadParameters, Buffer(request.parameters))


class Server:
    """Answers Reads of nodes ns=1;s=p0, p1, ... from `values`; takes `takes_s` for each."""

    def __init__(self, count: int, *, requests_per_s: float | None = None) -> None:
        self.url = "opc.tcp://plant:4840"
        self.limits = Limits()
        self.values: dict[str, ua.DataValue] = {f"p{n}": good(float(n)) for n in range(count)}
        self.takes_s = 0.0
        self.most = 10_000
        self.too_much = TOO_MANY_OPERATIONS
        self.garbage: set[str] = set()
        self.fault = 0
        self.asked: list[tuple[float, list[str]]] = []
        self.requests: list[ua.ReadParameters] = []
        self.open = 0
        self.namespaces = {"urn:plant": 1}
        self._pace = Pace(requests_per_s)

    async def raw(self, doing: str, request: Any, *, priority: Priority) -> bytes:
        assert priority is Priority.PUBLISH
        await self._pace.wait(priority)
        assert self.open == 0, "one Read at a time"
        asked = parameters(request)
        names = [wanted.NodeId.Identifier for wanted in asked.NodesToRead]
        self.requests.append(asked)
        self.asked.append((asyncio.get_running_loop().time() - 1000.0, names))
        self.open += 1
        await asyncio.sleep(self.takes_s)
        self.open -= 1
        if self.fault or len(names) > self.most:
            fault = ua.ServiceFault()
            fault.ResponseHeader.ServiceResult = ua.StatusCode(ua.UInt32(self.fault or self.too_much))
            return struct_to_binary(fault)
        answer = ua.ReadResponse(Results=[])
        head = struct_to_binary(answer)[:-8] + struct.pack("<i", len(names))
        return head + b"".join(map(self._value, names)) + struct.pack("<i", -1)

    def _value(self, name: str) -> bytes:
        if name in self.garbage:
            return b"\x01\x0c" + struct.pack("<i", 1 << 30)  # a text longer than the message
        return struct_to_binary(self.values.get(name) or bad(BAD_NODE_ID_UNKNOWN))

    def namespace(self, uri: str) -> int | None:
        return self.namespaces.get(uri)

    async def inspect(self) -> None:
        pass

    def times(self, name: str) -> list[float]:
        return [round(at, 6) for at, names in self.asked if name in names]


class Clock:
    def time_ns(self) -> int:
        return round((asyncio.get_running_loop().time() + 1_700_000_000) * 1e9)

    def monotonic_ns(self) -> int:
        return round(asyncio.get_running_loop().time() * 1e9)


class NothingToLearn:
    structures = Structures()

    async def learn(self, decoded: Sequence[Items], nodes_of: Callable[[Sequence[int]], Sequence[ua.NodeId]]) -> bool:
        return False


def poll(
    server: Server,
    groups: dict[float, Sequence[int]],
    seconds: float,
    sink: FakeSink | None = None,
    then: Callable[[], None] | None = None,
    more_s: float = 0.0,
    count: PollCount | None = None,
) -> tuple[FakeSink, PollCount]:
    """Poll for so many virtual seconds, and `more_s` after `then`."""
    sink, count = sink or FakeSink(), count or PollCount()
    indexes = [index for members in groups.values() for index in members]
    points = {n: OpcUaPointConfig(point=f"p{n}", node=f"nsu=urn:plant;s=p{n}") for n in indexes}

    async def main() -> PollCount:
        builder = BatchBuilder("reactor", dict.fromkeys(points, 0), "trust", Clock().time_ns())
        polls = [PlannedPoll(every, tuple(members)) for every, members in groups.items()]
        loop = PollLoop(server, sink, builder, Clock(), points, polls, NothingToLearn(), count)
        task = asyncio.create_task(loop.run())
        done, _ = await asyncio.wait([task], timeout=seconds)
        if then is not None and not done:
            then()
            await asyncio.wait([task], timeout=more_s)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return count

    return sink, run_virtually(main())


def readings(sink: FakeSink, point: int) -> list[tuple[Any, int]]:
    """(value or None, status) of a point, in order."""
    return [
        (batch.values[row].item() if batch.valid[row] else None, int(batch.status[row]))
        for batch in sink.batches
        for row in (batch.points == point).nonzero()[0].tolist()
    ]


def test_every_cycle_is_a_reading_on_time() -> None:
    server = Server(3)
    server.takes_s = 0.3
    sink, count = poll(server, {1.0: (0, 1), 0.7: (2,)}, 1000.5)
    assert server.times("p0")[:3] == [0.0, 1.0, 2.0]
    assert len(server.times("p0")) == 1001, "no drift: the thousandth cycle is on time"
    assert max(at - n for n, at in enumerate(server.times("p0"))) < 0.31, "late by the other group's request at most"
    assert len(server.times("p2")) == 1430
    assert readings(sink, 0) == [(0.0, 0)] * 1001, "an unchanged value is read again and again"
    assert readings(sink, 2)[:2] == [(2.0, 0)] * 2
    assert (count.cycles, count.missed) == (1001 + 1430, 0)
    assert sink.onlines > 1000
    assert sink.gaps == []


def test_a_request_names_both_times_and_an_age_below_the_interval() -> None:
    server = Server(1)
    poll(server, {2.0: (0,)}, 3)
    wanted = server.requests[0]
    assert (wanted.MaxAge, wanted.TimestampsToReturn) == (1000.0, ua.TimestampsToReturn.Both)
    assert wanted.NodesToRead[0].AttributeId == ua.AttributeIds.Value


def test_cycles_that_take_too_long_are_left_out_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server = Server(2)
    server.takes_s = 2.8

    def recover() -> None:
        server.takes_s = 0.0

    sink, count = poll(server, {1.0: (0, 1)}, 30.0, then=recover, more_s=29.5)
    assert server.times("p0")[:4] == [0.0, 3.0, 6.0, 9.0]
    assert server.times("p0")[-3:] == [57.0, 58.0, 59.0]
    assert count.missed == 60 - len(readings(sink, 0))
    told = [record.getMessage() for record in caplog.records if "poll" in record.getMessage()]
    assert len(told) == 2
    assert "2 points cannot be polled every 1 s: a cycle took 2.8 s" in told[0]
    assert "is on time again; 20 cycles were left out" in told[1]


def test_a_cycle_that_is_a_little_late_is_still_read() -> None:
    server = Server(1)
    server.takes_s = 1.1
    _, count = poll(server, {1.0: (0,)}, 10.9)
    assert server.times("p0") == [0.0, 1.1, 2.2, 3.3, 4.4, 6.0, 7.1, 8.2, 9.3, 10.4]
    assert (count.cycles, count.missed) == (10, 1)


def test_how_late_cycles_begin_is_the_worst_of_the_last_seconds() -> None:
    count = PollCount()
    assert count.late_s(100.0) == 0
    for at, late in ((100.0, 0.3), (105.0, 0.1), (112.0, 0.2)):
        count.began(late, at)
    assert count.late_s(119.0) == 0.3
    assert count.late_s(123.0) == 0.2
    assert count.late_s(160.0) == 0
    assert count.cycles == 3


@pytest.mark.parametrize(
    ("cause", "timeouts", "bad_replies"), [(TimeoutError(), 1, 0), (DecodeError("?"), 0, 1), (OSError(), 0, 0)]
)
def test_what_ends_a_connection_is_counted(cause: Exception, timeouts: int, bad_replies: int) -> None:
    server, count = Server(1), PollCount()

    async def fail(*_: Any, **__: Any) -> bytes:
        raise LinkLost("polling") from cause

    server.raw = fail  # type: ignore[method-assign]
    with pytest.raises(LinkLost):
        poll(server, {1.0: (0,)}, 3.0, count=count)
    assert (count.timeouts, count.bad_replies) == (timeouts, bad_replies)


def test_a_full_memory_leaves_cycles_out_and_piles_nothing_up() -> None:
    server, sink = Server(1), FakeSink()
    sink.room.clear()
    poll(server, {1.0: (0,)}, 10.0, sink, then=sink.room.set, more_s=2.5)
    assert server.times("p0") == [0.0, 10.0, 11.0, 12.0]


def test_requests_are_of_the_size_and_pace_that_the_server_bears() -> None:
    server = Server(25, requests_per_s=5)
    server.limits = Limits(nodes_per_read=10)
    poll(server, {1.0: range(25)}, 2.5)
    assert [(round(at, 3), len(names)) for at, names in server.asked[:6]] == [
        (0.0, 10), (0.2, 10), (0.4, 5), (1.0, 10), (1.2, 10), (1.4, 5),
    ]  # fmt: skip


@pytest.mark.parametrize("code", [TOO_MANY_OPERATIONS, 0x80080000, RESPONSE_TOO_LARGE])
def test_a_server_that_bears_less_than_it_says_is_asked_for_less(code: int) -> None:
    server = Server(100)
    server.most, server.too_much = 30, code
    sink, _ = poll(server, {1.0: range(100)}, 1.5)
    assert all(readings(sink, n) == [(float(n), 0)] * 2 for n in range(100))
    second = [len(names) for at, names in server.asked if at >= 1.0]
    assert second == [25, 25, 25, 25], "it is remembered"


def test_one_value_too_large_for_an_answer_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    class Large(Server):
        async def raw(self, doing: str, request: Any, *, priority: Priority) -> bytes:
            self.fault = 0
            if any(wanted.NodeId.Identifier == "p5" for wanted in parameters(request).NodesToRead):
                self.fault = RESPONSE_TOO_LARGE
            return await super().raw(doing, request, priority=priority)

    server = Large(16)
    sink, _ = poll(server, {1.0: range(16)}, 10.5)
    assert readings(sink, 5) == [(None, RESPONSE_TOO_LARGE)] * 11
    assert all(readings(sink, n) == [(float(n), 0)] * 11 for n in range(16) if n != 5)
    assert [len(names) for at, names in server.asked if at >= 1.0] == [15] * 10, "the others stay together"
    assert sum("cannot be read" in record.getMessage() for record in caplog.records) == 1


def test_one_value_that_cannot_be_decoded_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server = Server(16)
    server.garbage = {"p3"}
    sink, _ = poll(server, {1.0: range(16)}, 20.5, then=server.garbage.clear, more_s=15)
    found = readings(sink, 3)
    assert found[:21] == [(None, BAD_DECODING_ERROR)] * 21
    assert found[-1] == (3.0, 0), "it is tried again"
    assert readings(sink, 4) == [(4.0, 0)] * 36
    told = [record.getMessage() for record in caplog.records]
    assert sum("p3" in line and "cannot be read" in line for line in told) == 1
    assert sum("1 polled points have returned" in line for line in told) == 1


def test_a_bad_node_is_a_bad_reading_each_cycle_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server = Server(3)
    del server.values["p1"]
    server.values["p2"] = bad(0x808C0000)

    def restore() -> None:
        server.values["p1"] = good(7.5)

    sink, _ = poll(server, {1.0: (0, 1, 2)}, 4.5, then=restore, more_s=2)
    assert readings(sink, 1) == [(None, BAD_NODE_ID_UNKNOWN)] * 5 + [(7.5, 0)] * 2
    assert readings(sink, 2) == [(None, 0x808C0000)] * 7, "a sensor failure is a value's, not the node's"
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert "1 polled points cannot be read, for example p1 (node nsu=urn:plant;s=p1): BadNodeIdUnknown" in told[0]
    assert "1 polled points have returned" in told[1]


def test_nodes_of_an_unknown_namespace_are_bad_until_the_server_knows_it() -> None:
    server = Server(2)
    server.namespaces = {}
    sink, _ = poll(server, {1.0: (0, 1)}, 3.5, then=lambda: server.namespaces.update({"urn:plant": 1}), more_s=28)
    assert readings(sink, 0)[:4] == [(None, BAD_NODE_ID_UNKNOWN)] * 4
    assert readings(sink, 0)[-1] == (0.0, 0)
    assert server.times("p0")[0] == 30.0, "nothing is asked before"


@pytest.mark.parametrize(("code", "error"), [(0x80250000, LinkLost), (0x801F0000, Refused)])
def test_a_fault_is_a_lost_link(code: int, error: type[Exception]) -> None:
    server = Server(1)

    def fail() -> None:
        server.fault = code

    with pytest.raises(error, match="polling"):
        poll(server, {1.0: (0,)}, 2.5, then=fail, more_s=2)


def test_an_answer_of_another_kind_is_a_lost_link() -> None:
    class Wrong(Server):
        async def raw(self, doing: str, request: Any, *, priority: Priority) -> bytes:
            return struct_to_binary(ua.BrowseResponse())

    with pytest.raises(LinkLost, match="expected a ReadResponse"):
        poll(Wrong(1), {1.0: (0,)}, 2.5)


def test_values_keep_what_is_hard_to_keep() -> None:
    nested = ua.Variant([ua.Variant([1.5], T.Double), ua.Variant("a", T.String)], T.Variant)
    values = [
        good(float("inf")), good(b"\x00\xff", T.ByteString), ua.DataValue(nested), good([b"\x01"], T.ByteString),
        ua.DataValue(ua.Variant([[1, 2], [3, 4]], T.Int32, Dimensions=[2, 2])), good(20.1, T.Float),
    ]  # fmt: skip
    server = Server(0)
    server.values = {f"p{n}": value for n, value in enumerate(values)}
    sink, _ = poll(server, {1.0: range(len(values))}, 0.5)
    found = {
        int(point): value for batch in sink.batches for point, value in zip(batch.points, batch.values, strict=True)
    }
    assert found[0] == float("inf")
    assert found[1] == b"\x00\xff"
    assert found[2] == [[1.5], "a"]
    assert found[3] == ["AQ=="]
    assert found[4] == [[1, 2], [3, 4]]
    assert str(found[5]) == "20.1"
