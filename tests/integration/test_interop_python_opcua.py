"""The adapter against python-opcua, the older FreeOpcUa: a server that forgets a subscription with its connection."""

from __future__ import annotations

from gateway.contract import LinkLost
from tests.support.interop import InteropServer, old_server
from tests.support.opcua_rig import KeepingSink, adapter_of, all_heard, running
from tests.support.opcua_rig import patient_device as device
from tests.support.opcua_wire import OpcUaWire
from tests.support.wait import eventually

TRANSFER = 841
COUNTERS = 20


async def last_values(server: InteropServer, sink: KeepingSink) -> list[int]:
    """Stop the server's counting and wait until the last values have come."""
    final: list[int] = (await server.tell("pause"))["values"]
    await eventually(lambda: all(sink.values(point)[-1] == final[point] for point in range(COUNTERS)))
    return final


async def test_nothing_is_missing_outside_of_the_gap_that_is_reported() -> None:
    async with old_server(counters=COUNTERS, period_ms=50) as server, OpcUaWire("127.0.0.1", server.port) as wire:
        adapter = adapter_of(device(wire.port, [server.node(f"c{i}") for i in range(COUNTERS)]))
        sink = KeepingSink()
        async with running(adapter, sink) as task:
            await all_heard(sink, task, COUNTERS)
            await eventually(lambda: sink.values(0)[-1] > sink.values(0)[0] + 10)
            wire.cut()
            await eventually(task.done)
            assert isinstance(task.exception(), LinkLost)
        before = [len(sink.values(point)) for point in range(COUNTERS)]
        async with running(adapter, sink) as task:
            await eventually(lambda: task.done() or all(len(sink.values(p)) > before[p] for p in range(COUNTERS)))
            await eventually(lambda: sink.gaps)
            final = await last_values(server, sink)
            assert (await server.tell("count"))["subscriptions"] == 1
        (gap,) = sink.gaps
        assert (gap.reason, gap.points) == ("subscription-lost", ())
        for point in range(COUNTERS):
            readings = sink.readings(point)
            values = [reading.value for reading in readings]
            old, new = values[: before[point]], values[before[point] :]
            assert old == list(range(old[0], old[-1] + 1)), "no break before the gap"
            assert new == list(range(new[0], final[point] + 1)), "no break after it"
            assert gap.start is not None
            assert readings[before[point] - 1].time <= gap.start
            assert readings[before[point]].time <= gap.end
        assert wire.count(TRANSFER), "the server was asked, and its refusal taken"
        wire.assert_read_only()
