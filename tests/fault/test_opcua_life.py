"""A supervised OPC UA device through everything that ends a connection; between it and node-opcua a proxy of ours.

A neighbour device, straight at the same server, shows that nobody else is delayed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from adapters.opcua.acquiring import services
from gateway.contract import Batch, Flag, Origin, Point, SystemClock
from gateway.contract.status import BAD_NODE_ID_INVALID, BAD_NODE_ID_UNKNOWN
from gateway.runtime.gaps import Gaps
from gateway.runtime.supervisor import DeviceState, Supervisor
from tests.support.fake_sink import FakeSink
from tests.support.interop import InteropServer, interop_server
from tests.support.machine import Taken, within
from tests.support.opcua_rig import KeepingSink, adapter_of, patient_device
from tests.support.opcua_wire import OpcUaWire
from tests.support.wait import eventually

CREATE_SESSION, CREATE_SUBSCRIPTION, CREATE_ITEMS, TRANSFER, REPUBLISH = 461, 787, 751, 841, 832
COUNTERS = 100
PERIOD_S = 0.2
"""well above the sampling interval: what a busy server does not sample is not what is tested"""
PUBLISHING_S = 0.1
RETURN_S = 5.0
SOON: dict[str, Any] = {"connection": {"timeout": "2s"}}
"""for devices whose server is silent: elsewhere a busy machine may keep it from answering for long"""
STEADY_S = 5.5
"""a link that lived for 5 s may try often when it is lost"""

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Device(KeepingSink):
    """An adapter with its supervisor."""

    def __init__(self, name: str, config: Any, **keys: Any) -> None:
        super().__init__()
        self.state = DeviceState()
        self.adapter = adapter_of(config, **keys)
        self.covered_until: int | None = None
        self.newest_s = asyncio.get_running_loop().time()
        self.slowest_s = 0.0
        """the longest pause between two offers"""
        self.taken = Taken()
        self.start: dict[int, int] = {}
        """how many values each point had when it was running; the server is not steady while it makes the items"""
        clock = SystemClock()
        gaps = Gaps(name, [], now=clock.time_ns, write=lambda _: None, points=dict)
        points = [Point(i, point) for i, point in enumerate(config.points)]
        self.supervisor = Supervisor(name, self.adapter, points, gaps, self.state, clock)

    async def offer(self, batches: Sequence[Batch], origin: Origin | None = None) -> FakeSink:
        now = asyncio.get_running_loop().time()
        self.slowest_s, self.newest_s = max(self.slowest_s, now - self.newest_s), now
        return await super().offer(batches, origin)

    async def offer_outage(self, batches: Sequence[Batch]) -> FakeSink:
        return self

    def online(self) -> None:
        super().online()
        self.supervisor.on_online()

    def degraded(self, why: str | None) -> None:
        super().degraded(why)
        self.supervisor.on_degraded(why)

    @asynccontextmanager
    async def running(self, points: int = COUNTERS, steady: bool = False) -> AsyncIterator[None]:
        task = asyncio.create_task(self.supervisor.run(self, 0), name="device")  # type: ignore[arg-type]
        try:
            await eventually(lambda: len(self.heard()) == points, timeout_s=60, message=f"first data, {self.state}")
            if steady:
                await asyncio.sleep(STEADY_S)
            self.newest_s, self.slowest_s = asyncio.get_running_loop().time(), 0.0
            self.taken = Taken()
            self.start = {point: len(self.values(point)) for point in range(points)}
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def last(self, point: int) -> int:
        return int(self.values(point)[-1])

    async def data_again(self, within_s: float) -> float:
        """Seconds until each point has a value that the server made after this call, as far as we all may run."""
        before = time.time_ns()

        def fresh() -> bool:
            return len({p for b, _ in self.offers[-20:] for p in b[0].points[b[0].source_time > before]}) >= COUNTERS

        return await within(fresh, within_s, f"data of all points, {self.state}")

    def assert_never_slower(self, than_s: float) -> None:
        """The longest pause between two offers, since it runs; what the machine took from all of us comes on top."""
        assert self.slowest_s < than_s + self.taken.seconds

    def assert_every_count(self, final: Sequence[int], points: Sequence[int] = range(COUNTERS)) -> None:
        """Each point has every number from the start of the test to the last, once and in order."""
        for point in points:
            values = self.values(point)[max(self.start[point] - 1, 0) :]
            assert values == list(range(values[0], final[point] + 1)), f"point {point}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InteropServer]:
    folder = tmp_path_factory.mktemp("life")
    async with interop_server(folder, counters=COUNTERS, period_ms=PERIOD_S * 1000) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def wire(server: InteropServer) -> AsyncIterator[OpcUaWire]:
    await server.tell("run")
    await server.tell("resume")
    async with OpcUaWire("127.0.0.1", server.port) as made:
        yield made


def supervised(
    server: InteropServer, port: int, name: str = "reactor", connection: dict[str, Any] | None = None, **keys: Any
) -> Device:
    nodes = [server.node(f"c{i}") for i in range(COUNTERS)]
    subscribe = {"publishing": f"{PUBLISHING_S}s", "sampling": "50ms", "queue": "30s"}
    return Device(name, patient_device(port, nodes, subscribe=subscribe, connection=connection or {}), **keys)


async def subscriptions(server: InteropServer) -> int:
    """How many the server has; those of tests before this one may still be among them until they expire."""
    return int((await server.tell("count"))["subscriptions"])


async def at_most(server: InteropServer, wanted: int) -> bool:
    """Whether the server has no more subscriptions than that."""
    return await subscriptions(server) <= wanted


async def all_final(server: InteropServer, *devices: Device) -> list[int]:
    """Stop the server's counting and wait until the devices have the last values."""
    final: list[int] = (await server.tell("pause"))["values"]
    for each in devices:
        await eventually(lambda each=each: all(each.last(p) == final[p] for p in range(COUNTERS)))
    return final


@pytest.mark.parametrize("expired", [False, True], ids=["session kept", "session expired"])
async def test_seven_seconds_without_a_network(server: InteropServer, wire: OpcUaWire, expired: bool) -> None:
    away, neighbour = supervised(server, wire.port), supervised(server, server.port, "neighbour")
    async with away.running(steady=True), neighbour.running():
        wire.broken = True
        wire.cut()
        await eventually(lambda: away.state.state == "down", 1)
        await asyncio.sleep(7)
        if expired:
            await server.tell("expire")
        wire.broken = False
        assert await away.data_again(RETURN_S) < RETURN_S
        assert away.state.state == "up"
        final = await all_final(server, away, *([] if expired else [neighbour]))
        away.assert_every_count(final)
        assert away.gaps == []
        assert wire.count(CREATE_SUBSCRIPTION) == 1
        assert wire.count(CREATE_ITEMS) == 1
        assert wire.count(TRANSFER) == expired
        assert wire.count(CREATE_SESSION) == 1 + expired
        if not expired:
            neighbour.assert_never_slower(1)
            neighbour.assert_every_count(final)
        wire.assert_read_only()


async def test_what_was_offered_before_a_cut_is_acknowledged_after_it_and_not_offered_again(
    server: InteropServer, wire: OpcUaWire
) -> None:
    away = supervised(server, wire.port)
    async with away.running():
        await eventually(wire.acknowledged)
        away.commit.clear()
        offered = len(away.offers)
        await eventually(lambda: len(away.offers) > offered + 5)
        acknowledged = len(wire.acknowledged())
        wire.cut()
        await away.data_again(RETURN_S)
        assert len(wire.acknowledged()) <= acknowledged + 5, "nothing is acknowledged before its commit"
        away.commit.set()
        numbers = [origin.sequence for _, origin in away.offers if origin]
        assert numbers == sorted(set(numbers)), "each notification once, in order"
        await eventually(lambda: {sequence for _, sequence in wire.acknowledged()} >= set(numbers))
        away.assert_every_count(await all_final(server, away))
    assert away.gaps == []


async def test_points_that_stand_still_are_well_again_after_an_outage(server: InteropServer, wire: OpcUaWire) -> None:
    names = ["Double", "String", "ExtensionObject", "Matrix", "Int64"]
    nodes = [server.node(name) for name in names]
    one = Device("still", patient_device(wire.port, nodes))
    async with one.running(len(nodes)):
        wire.cut()
        await within(lambda: all(len(one.readings(point)) == 2 for point in range(len(nodes))), RETURN_S)
        for point in range(len(nodes)):
            before, after = one.readings(point)
            assert (before.type, before.value, before.status) == (after.type, after.value, after.status)
            assert after.time > before.time, "a statement of now"
            assert after.flags == Flag.INITIAL
    wire.assert_read_only()


async def test_a_server_that_says_it_is_not_running(
    server: InteropServer, wire: OpcUaWire, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one = supervised(server, wire.port)

    def said(text: str) -> list[str]:
        return [r.levelname for r in caplog.records if text in r.getMessage()]

    async with one.running():
        try:
            await server.tell("state", state=3)
            await eventually(lambda: said("state is Suspended"))
        finally:
            await server.tell("state", state=0)
        await eventually(lambda: said("well again"))
    assert said("state is Suspended") == ["WARNING"]
    assert said("well again") == ["INFO"]
    assert one.state.outages == 0, "its values are still asked for"


async def test_a_half_open_connection(server: InteropServer, wire: OpcUaWire) -> None:
    away, neighbour = supervised(server, wire.port, **SOON), supervised(server, server.port, "neighbour")
    async with away.running(), neighbour.running():
        loop = asyncio.get_running_loop()
        started = loop.time()
        wire.freeze()
        await eventually(lambda: away.state.state != "up", message="it is detected")
        assert loop.time() - started < 15, "within three keep-alives of 5 s"
        wire.cut()
        wire.resume()
        await away.data_again(RETURN_S)
        neighbour.assert_never_slower(1)
        away.assert_every_count(await all_final(server, away))
    assert away.gaps == []


async def test_a_server_that_stops_publishing_while_the_channel_stays_open(
    server: InteropServer, wire: OpcUaWire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(services, "KEEP_ALIVE_S", 0.5)
    stuck = supervised(server, wire.port, **SOON)
    others = await subscriptions(server)
    async with stuck.running():
        await server.tell("stall")
        await within(lambda: stuck.state.state == "down", 6)
        stopped = stuck.offers[-1][0][0].received_time
        await server.tell("resume")
        await stuck.data_again(10)
        (gap,) = stuck.gaps
        assert (gap.points, gap.reason) == ((), "subscription-lost")
        assert gap.start <= stopped < gap.end
        await eventually(lambda: stuck.state.state == "up")
        await eventually(lambda: at_most(server, others + 1), message="the old one is deleted")
    assert [r.levelname for r in caplog.records if "silent" in r.getMessage()] == ["WARNING"]


async def test_three_of_a_hundred_nodes_deleted_and_restored(server: InteropServer, wire: OpcUaWire) -> None:
    one = supervised(server, wire.port, retry_s=0.5)
    well = Device("well", patient_device(server.port, [server.node("c0")]))
    gone = [3, 50, 99]
    others = [point for point in range(COUNTERS) if point not in gone]
    async with one.running(), well.running(1):
        await server.tell("delete", nodes=[f"c{point}" for point in gone])
        for point in gone:
            await eventually(lambda point=point: one.readings(point)[-1].status >> 31)
            assert one.readings(point)[-1].status in (BAD_NODE_ID_UNKNOWN, BAD_NODE_ID_INVALID)
        await server.tell("restore")
        await one.data_again(RETURN_S)
        one.assert_never_slower(max(1, well.slowest_s + 0.5))
        final = await all_final(server, one)
        one.assert_every_count(final, others)
    assert wire.connections == 1
    assert one.gaps == []


async def test_a_server_that_restarts(server: InteropServer, wire: OpcUaWire, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    one = supervised(server, wire.port)
    async with one.running(steady=True):
        await server.kill()
        await eventually(lambda: one.state.state == "down")
        stopped = one.offers[-1][0][0].received_time
        await server.start()
        await one.data_again(10)
        (gap,) = one.gaps
        assert gap.reason == "subscription-lost"
        assert gap.start <= stopped < gap.end
        assert (await server.tell("count"))["sessions"] == 1, "no flood of sessions"
    changes = [r.getMessage() for r in caplog.records if r.name == "gateway.runtime.supervisor"]
    assert len(changes) == 3, f"one line per change of state: {changes}"


async def test_a_server_that_refuses_sessions(tmp_path: Path) -> None:
    async with interop_server(tmp_path, counters=COUNTERS, max_sessions=1) as server:
        first, second = supervised(server, server.port), supervised(server, server.port, "second")
        task = None
        async with first.running():
            task = asyncio.create_task(second.supervisor.run(second, 0))  # type: ignore[arg-type]
            await eventually(lambda: second.state.state == "refused")
            assert "session" in (second.state.error or "")
        try:
            await eventually(lambda: second.state.state == "up", 60)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
