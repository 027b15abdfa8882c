"""What servers say of themselves, redundant servers, and servers that come back slowly: node-opcua behind proxies."""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from adapters.opcua.config import LoadConfig
from adapters.opcua.connecting.connect import open_session
from adapters.opcua.session.endpoints import Memory
from gateway.contract import LinkLost, Refused
from tests.fault.test_opcua_life import Device
from tests.support.interop import InteropServer, interop_server
from tests.support.machine import Taken, slowdown, within
from tests.support.opcua_rig import patient_device as device
from tests.support.opcua_wire import OpcUaWire
from tests.support.wait import eventually

OPEN_CHANNEL, CREATE_SESSION, ACTIVATE_SESSION, CLOSE_SESSION, READ = 446, 461, 467, 473, 631
POINTS = 10


@asynccontextmanager
async def servers(folder: Path, count: int, **options: Any) -> AsyncIterator[list[tuple[InteropServer, OpcUaWire]]]:
    """So many equal servers, each behind a proxy."""
    async with AsyncExitStack() as stack:
        made = []
        for number in range(count):
            place = folder / str(number)
            place.mkdir()
            server = await stack.enter_async_context(interop_server(place, counters=POINTS, period_ms=100, **options))
            made.append((server, await stack.enter_async_context(OpcUaWire("127.0.0.1", server.port))))
        yield made


def supervised(*wires: OpcUaWire, name: str = "reactor", **keys: Any) -> Device:
    url, *alternatives = [f"opc.tcp://127.0.0.1:{wire.port}" for wire in wires]
    nodes = [f"nsu=http://interop.test/;s=c{i}" for i in range(POINTS)]
    connection = {"url": url, "alternatives": alternatives}
    return Device(name, device(wires[0].port, nodes, connection=connection, **keys))


def lines(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if text in record.getMessage()]


async def fresh(one: Device, within_s: float) -> None:
    """Wait for a reading of each point that is newer than this call."""
    before = time.time_ns()
    await within(lambda: all(one.readings(p)[-1].time > before for p in range(POINTS)), within_s, str(one.state))


async def test_the_next_server_takes_over_and_the_last_one_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with servers(tmp_path, 2) as [(_, first), (_, second)]:
        one = supervised(first, second)
        async with one.running(POINTS):
            first.broken = True
            first.cut()
            await within(lambda: second.count(CREATE_SESSION), 10)
            await fresh(one, 5)
            assert one.state.state == "up"
            first.broken = False
            second.cut()
            await fresh(one, 10)
            assert second.count(CREATE_SESSION) == 1, "the session that was left there is taken up again"
            assert first.count(CREATE_SESSION) == 1, "nobody goes back while the other one works"
        identities = {origin.server for origin in one.origins if origin is not None}
        assert len(identities) == 2, "subscriptions of two servers are not mixed up"
        assert len(lines(caplog, "in use instead of")) == 1
        first.assert_read_only()
        second.assert_read_only()


async def test_a_server_that_refuses_sessions_is_passed_over(tmp_path: Path) -> None:
    async with servers(tmp_path, 2) as [(server, first), (_, second)]:
        await server.tell("refuse", services={"CreateSession": "BadTooManySessions"})
        one = supervised(first, second)
        async with one.running(POINTS):
            assert first.count(CREATE_SESSION) == 1
            assert second.count(CREATE_SESSION) == 1


async def test_a_server_without_data_is_left_for_one_that_has(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with servers(tmp_path, 2) as [(first_server, first), (second_server, second)]:
        one = supervised(first, second)
        async with one.running(POINTS):
            await first_server.tell("level", level=1)
            await within(lambda: second.count(CREATE_SESSION), 10)
            await fresh(one, 5)
            # Now neither has data: better one of them than none.
            await second_server.tell("level", level=0)
            await within(lambda: one.state.state == "degraded", 30)
            await fresh(one, 5)
            assert "ServiceLevel" in (one.state.error or "")
            await first_server.tell("level", level=255)
            await second_server.tell("level", level=255)
            await within(lambda: one.state.state == "up", 10)
        changes = lines(caplog, "in use instead of") + lines(caplog, "in use again")
        assert 1 <= len(changes) <= 2, changes


async def test_each_servers_error_is_told_where_all_fail(tmp_path: Path) -> None:
    async with servers(tmp_path, 2) as [(server, first), (_, second)]:
        await server.tell("refuse", services={"ActivateSession": "BadUserAccessDenied"})
        second.broken = True
        one = supervised(first, second)
        task = asyncio.create_task(one.supervisor.run(one, 0))  # type: ignore[arg-type]
        try:
            await eventually(lambda: one.state.state == "refused", 60)
            assert f"127.0.0.1:{first.port}: logging in: refused with BadUserAccessDenied" in (one.state.error or "")
            assert f"127.0.0.1:{second.port}: " in (one.state.error or "")
            second.broken = False
            await eventually(lambda: one.state.state == "up", 60)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("level", "words"), [(100, "lost a part"), (1, "no data"), (0, "maintenance")], ids=["degraded", "no data", "off"]
)
async def test_a_service_level_is_told(
    tmp_path: Path, level: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with servers(tmp_path, 1) as [(server, wire)]:
        one = supervised(wire)
        async with one.running(POINTS):
            await server.tell("level", level=level)
            await within(lambda: one.state.state == "degraded", 7)
            assert words in (one.state.error or "")
            await fresh(one, 2)
            await server.tell("level", level=200)
            await within(lambda: one.state.state == "up", 7)
            assert one.state.outages == 0
        assert len(lines(caplog, "degraded: ")) == 1
        assert len(lines(caplog, "well again")) == 1


async def test_one_read_per_look_and_none_for_what_the_server_lacks(tmp_path: Path) -> None:
    """EstimatedReturnTime and the level are there at this server; what it lacks is asked for once."""
    async with servers(tmp_path, 1) as [(server, wire)]:
        one = supervised(wire)
        async with one.running(POINTS):
            await eventually(lambda: wire.count(READ))
            for _ in range(3):  # what is asked once, in the background after the start, may be in the first window
                await server.tell("seen")
                before = wire.count(READ)
                began = time.monotonic()
                await eventually(lambda before=before: wire.count(READ) >= before + 2, 30)
                took_s = time.monotonic() - began
                most = (await server.tell("seen"))["services"]["Read"]["most"]
                if most <= 5 and took_s > 4:
                    break
            assert most <= 5
            assert took_s > 4, "every five seconds"


async def test_the_clock_offset_is_measured(tmp_path: Path) -> None:
    async with servers(tmp_path, 1) as [(_, wire)]:
        one = supervised(wire)
        async with one.running(POINTS):
            await within(lambda: one.adapter.facts().clock_offset_s is not None, 7)
            # An answer that is held up on its way shifts one measurement; there is one at each look.
            await eventually(
                lambda: abs(one.adapter.facts().clock_offset_s or 9) < 0.5, 60, "the server runs on this machine"
            )


async def test_a_server_that_announces_its_return_is_left_alone_until_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    # It is there beforehand: how long a server takes to start is up to the machine.
    async with servers(tmp_path, 2) as [(server, wire), (started_anew, _)]:
        one = supervised(wire)
        async with one.running(POINTS):
            in_time = datetime.timedelta(seconds=min(14 * slowdown(), 60))
            returns = datetime.datetime.now(datetime.UTC) + in_time
            await server.tell("level", level=0, returns=returns.strftime("%Y-%m-%dT%H:%M:%SZ"))
            await eventually(lambda: lines(caplog, "is in maintenance; once the connection is lost"))
            assert datetime.datetime.now(datetime.UTC) < returns, "too late to see it wait"
            taken = Taken()
            await server.kill()
            await eventually(lambda: one.state.state == "down")
            connections = wire.connections
            wire.redirect(started_anew.port)
            await eventually(lambda: wire.connections > connections, 80)
            waited = datetime.datetime.now(datetime.UTC) - returns
            assert -2 < waited.total_seconds() < 5 + taken.seconds, "not before it is back, and soon after"
            await fresh(one, 5)
        assert wire.connections == connections + 1


async def test_a_shutdown_that_counts_down_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with servers(tmp_path, 1) as [(server, wire)]:
        one = supervised(wire)
        async with one.running(POINTS):
            in_s = round(min(9 * slowdown(), 60))
            await server.tell("shutdown", seconds=in_s)
            shut = time.monotonic() + in_s
            await eventually(lambda: lines(caplog, "announces its shutdown"))
            await eventually(lambda: one.state.state == "degraded")
            connections = wire.connections
            await eventually(lambda: wire.connections > connections, 80)
            assert time.monotonic() > shut - 1.5
            assert len(lines(caplog, "announces its shutdown")) == 1


@pytest.mark.parametrize("status", ["BadTooManySessions", "BadServerHalted"])
async def test_a_server_that_lets_nobody_in_yet_is_not_flooded(tmp_path: Path, status: str) -> None:
    """As one that starts: it accepts connections, opens channels, and refuses sessions."""
    async with servers(tmp_path, 1) as [(server, wire)]:
        one = supervised(wire)
        async with one.running(POINTS):
            await asyncio.sleep(5.5)  # so that the link counts as steady, and is tried again sooner
            await server.tell("refuse", services={"CreateSession": status, "ActivateSession": status})
            wire.requests.clear()
            wire.cut()
            await asyncio.sleep(20)
            for service in (OPEN_CHANNEL, CREATE_SESSION, ACTIVATE_SESSION):
                assert wire.count(service) <= 20 / 2 + 1, f"{service}: at most thirty in a minute"
            assert wire.count(CREATE_SESSION) >= 3, "and yet it is asked"
            await server.tell("refuse", services={})
            await fresh(one, 60)
            assert one.gaps == [], "the old session was still there"
        assert (await server.tell("count"))["sessions"] == 0


@pytest.mark.parametrize("status", ["BadIdentityTokenRejected", "BadTooManySessions", "BadInternalError"])
async def test_a_session_that_cannot_be_activated_is_closed(tmp_path: Path, status: str) -> None:
    async with servers(tmp_path, 1) as [(server, wire)]:
        await server.tell("refuse", services={"ActivateSession": status})
        config = device(wire.port, ["i=2258"]).connection
        memory = Memory()
        for attempt in range(1, 4):
            with pytest.raises((LinkLost, Refused)):
                async with open_session(config, LoadConfig(), memory):
                    pytest.fail("nobody was let in")
            assert wire.count(CREATE_SESSION) == wire.count(CLOSE_SESSION) == attempt
        assert (await server.tell("count"))["sessions"] == 0
