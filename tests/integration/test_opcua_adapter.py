"""What the OPC UA adapter makes of a real server's values, statuses, times and nodes."""

from __future__ import annotations

import base64
import datetime
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from asyncua import Server, ua

from gateway.contract import Basis, Flag, ValueType
from gateway.contract.status import BAD_NODE_ID_UNKNOWN, BAD_TYPE_MISMATCH
from tests.support.opcua_corner import Plant, Sink, build, corner, seen, serving
from tests.support.opcua_rig import running

# A server takes seconds to start, so that all tests share one; each test has a namespace of its own.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def open_server() -> AsyncIterator[tuple[Server, int]]:
    async with serving() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def p(open_server: tuple[Server, int]) -> Plant:
    return await corner(*open_server)


GUID = uuid.UUID("12345678-9abc-def0-1234-56789abcdef0")
DAY = datetime.datetime(2026, 3, 1, 8, 30, 0, 250000, tzinfo=datetime.UTC)
VALUES: dict[str, tuple[Any, ua.VariantType, ValueType, Any]] = {
    "bool": (True, ua.VariantType.Boolean, ValueType.BOOL, True),
    "sbyte": (-5, ua.VariantType.SByte, ValueType.INT64, -5),
    "byte": (200, ua.VariantType.Byte, ValueType.UINT64, 200),
    "int16": (-30000, ua.VariantType.Int16, ValueType.INT64, -30000),
    "uint16": (60000, ua.VariantType.UInt16, ValueType.UINT64, 60000),
    "int32": (-(2**31), ua.VariantType.Int32, ValueType.INT64, -(2**31)),
    "uint32": (2**32 - 1, ua.VariantType.UInt32, ValueType.UINT64, 2**32 - 1),
    "int64": (-(2**63), ua.VariantType.Int64, ValueType.INT64, -(2**63)),
    "uint64": (2**64 - 1, ua.VariantType.UInt64, ValueType.UINT64, 2**64 - 1),
    "float": (1.5, ua.VariantType.Float, ValueType.FLOAT32, 1.5),
    "double": (20.1, ua.VariantType.Double, ValueType.FLOAT64, 20.1),
    "string": ("温度", ua.VariantType.String, ValueType.STRING, "温度"),
    "datetime": (DAY, ua.VariantType.DateTime, ValueType.STRING, "2026-03-01T08:30:00.2500000Z"),
    "guid": (GUID, ua.VariantType.Guid, ValueType.STRING, str(GUID)),
    "bytes": (b"\x00\xff", ua.VariantType.ByteString, ValueType.BYTES, b"\x00\xff"),
    "text": (ua.LocalizedText("running", "en"), ua.VariantType.LocalizedText, ValueType.STRING, "running"),
    "doubles": ([1.0, 2.5], ua.VariantType.Double, ValueType.JSON, [1.0, 2.5]),
    "strings": (["a", "b"], ua.VariantType.String, ValueType.JSON, ["a", "b"]),
    "blobs": ([b"\x01"], ua.VariantType.ByteString, ValueType.JSON, [base64.b64encode(b"\x01").decode()]),
    "node": (ua.NodeId("x", 2), ua.VariantType.NodeId, ValueType.STRING, "ns=2;s=x"),
    "structure": (ua.Range(1.0, 9.0), ua.VariantType.ExtensionObject, ValueType.JSON, {"Low": 1.0, "High": 9.0}),
}


async def test_every_type_arrives_with_its_value_status_and_time(p: Plant) -> None:
    for name, (value, type, _, _) in VALUES.items():
        await p.add(name, value, type)
        await p.write(name, ua.DataValue(ua.Variant(value, type), SourceTimestamp=DAY))
    sink = Sink()
    adapter = build(p.config(*(p.point(name) for name in VALUES)), first=100)
    async with running(adapter, sink) as task:
        for i, (name, (_, _, expected_type, expected)) in enumerate(VALUES.items()):
            await seen(sink, task, 100 + i)
            type, value, status, at, basis, flags = sink.readings(100 + i)[0]
            assert (name, type, value) == (name, expected_type, expected)
            assert (status, basis, flags) == (0, Basis.SOURCE, Flag.INITIAL), name
            assert at == int(DAY.timestamp() * 1000) * 10**6, name
        assert sink.onlines
        assert sink.gaps == []
        origin = sink.origins[0]
        assert origin is not None
        assert origin.server
        assert origin.sequence == 1


async def test_bad_status_null_and_missing_time_are_readings(p: Plant) -> None:
    await p.add("level", 1.0, ua.VariantType.Float)
    sink = Sink()
    async with running(build(p.config()), sink) as task:
        await seen(sink, task, 0)
        before = time.time_ns()
        await p.write("level", ua.DataValue(ua.Variant(None), ua.StatusCode(0x808C0000)))
        await seen(sink, task, 0, 2)
        type, value, status, at, basis, flags = sink.readings(0)[1]
        assert (type, value, status, basis, flags) == (ValueType.FLOAT32, None, 0x808C0000, Basis.GATEWAY, 0)
        assert before <= at <= time.time_ns()


async def test_a_server_time_stands_in_for_a_missing_source_time(p: Plant) -> None:
    await p.add("level", 1.0, ua.VariantType.Float)
    sink = Sink()
    async with running(build(p.config()), sink) as task:
        await seen(sink, task, 0)
        await p.write("level", ua.DataValue(ua.Variant(2.0, ua.VariantType.Float), ServerTimestamp=DAY))
        await seen(sink, task, 0, 2)
        assert sink.readings(0)[1][3:5] == (int(DAY.timestamp() * 1000) * 10**6, Basis.SERVER)


async def test_an_unknown_node_is_one_bad_reading_and_comes_back(p: Plant) -> None:
    await p.add("good", 1.0, ua.VariantType.Double)
    sink = Sink()
    points = [p.point("late"), p.point("good"), {"point": "foreign", "node": "nsu=http://nowhere;s=x"}]
    async with running(build(p.config(*points), retry_s=0.2), sink) as task:
        await seen(sink, task, 0)
        await seen(sink, task, 1)
        await seen(sink, task, 2)
        assert sink.readings(0)[0][1:3] == (None, BAD_NODE_ID_UNKNOWN)
        assert sink.readings(1)[0][1:3] == (1.0, 0)
        assert sink.readings(2)[0][1:3] == (None, BAD_NODE_ID_UNKNOWN)
        await p.add("late", 7, ua.VariantType.Int32)
        await seen(sink, task, 0, 2)
        assert sink.readings(0)[1][:3] == (ValueType.INT64, 7, 0)
        assert len(sink.readings(2)) == 1


async def test_configured_type_is_enforced(p: Plant) -> None:
    await p.add("count", 5.0, ua.VariantType.Double)
    sink = Sink()
    async with running(build(p.config(p.point("count", type="int16"))), sink) as task:
        await seen(sink, task, 0)
        assert sink.readings(0)[0][:3] == (ValueType.INT64, 5, 0)
        await p.write("count", ua.DataValue(ua.Variant(5.5, ua.VariantType.Double)))
        await seen(sink, task, 0, 2)
        assert sink.readings(0)[1][:3] == (ValueType.INT64, None, BAD_TYPE_MISMATCH)


async def test_many_values_per_notification_keep_their_order(p: Plant) -> None:
    await p.add("fast", 0, ua.VariantType.Int32)
    sink = Sink()
    checked = p.config(p.point("fast"), subscribe={"publishing": "200ms", "sampling": "50ms", "queue": "100s"})
    async with running(build(checked), sink) as task:
        await seen(sink, task, 0)
        for i in range(1, 200):
            bad = ua.StatusCode(0x40900000) if i % 3 else ua.StatusCode()
            await p.write("fast", ua.DataValue(ua.Variant(i, ua.VariantType.Int32), bad))
        await seen(sink, task, 0, 200)
        assert [reading[1] for reading in sink.readings(0)] == list(range(200))


async def test_rights_that_are_withdrawn_and_given_back_are_readings_of_that_point(p: Plant) -> None:
    """BadUserAccessDenied of an item, in the middle of a subscription: the item lives on, and the others too."""
    await p.add("secret", 1.0, ua.VariantType.Double)
    await p.add("open", 1.0, ua.VariantType.Double)
    sink = Sink()
    async with running(build(p.config(p.point("secret"), p.point("open")), retry_s=0.2), sink) as task:
        await seen(sink, task, 0)
        await seen(sink, task, 1)
        await p.write("secret", ua.DataValue(ua.Variant(None), ua.StatusCode(ua.UInt32(0x801F0000))))
        await seen(sink, task, 0, 2)
        await p.write("open", ua.DataValue(ua.Variant(2.0, ua.VariantType.Double)))
        await seen(sink, task, 1, 2)
        await p.write("secret", ua.DataValue(ua.Variant(3.0, ua.VariantType.Double)))
        await seen(sink, task, 0, 3)
        assert [(value, status) for _, value, status, *_ in sink.readings(0)] == [
            (1.0, 0),
            (None, 0x801F0000),
            (3.0, 0),
        ]
        assert [value for _, value, *_ in sink.readings(1)] == [1.0, 2.0]
        assert not task.done()


async def test_a_server_whose_clock_jumps_by_a_day_loses_no_reading_and_keeps_its_stamps(p: Plant) -> None:
    await p.add("level", 0.0, ua.VariantType.Double)
    sink, now = Sink(), datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    day = datetime.timedelta(days=1)
    async with running(build(p.config()), sink) as task:
        await seen(sink, task, 0)
        for n, at in enumerate((now, now - day, now + 2 * day, now), start=1):
            await p.write("level", ua.DataValue(ua.Variant(float(n), ua.VariantType.Double), SourceTimestamp=at))
            await seen(sink, task, 0, n + 1)
        changes = sink.readings(0)[1:]
        assert [value for _, value, *_ in changes] == [1.0, 2.0, 3.0, 4.0]
        times = [at for *_, at, _, _ in changes]
        assert times[:2] == [int(now.timestamp()) * 10**9, int((now - day).timestamp()) * 10**9]
        assert abs(times[2] - time.time_ns()) < 60 * 10**9, "two days ahead cannot be: another time is taken"
        originals = [batch.original_time for batch in sink.batches if batch.original_time is not None]
        assert int((now + 2 * day).timestamp()) * 10**7 in [at for each in originals for at in each.tolist()]
