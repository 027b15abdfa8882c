"""Devices behind modems that dial in: registration, heartbeats, reconnects, strangers."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from adapters.modbus import links
from gateway.contract import LinkLost
from gateway.contract.status import GOOD
from tests.integration.test_modbus_lines import assert_own, device_file, station
from tests.support.broker import free_port
from tests.support.modbus_device import Act
from tests.support.modbus_line import ModbusLine
from tests.support.modbus_sink import CollectingSink, again_and_again, build, cycles, running
from tests.support.wait import eventually

PATIENT = "10s"
"""a timeout where nobody is silent"""


@pytest.fixture(autouse=True)
def another_wire() -> None:
    links.LATE.clear()


@pytest.fixture
def port() -> int:
    return free_port()


@asynccontextmanager
async def modem(port: int, line: ModbusLine, registration: bytes = b"") -> AsyncIterator[asyncio.StreamWriter]:
    """Dials in as soon as somebody listens, and puts its line behind the connection."""

    async def dial() -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        with suppress(ConnectionError):
            return await asyncio.open_connection("127.0.0.1", port)
        return None

    reader, writer = await eventually(dial, message="somebody listens")  # type: ignore[misc]
    writer.write(registration)

    async def carry() -> None:
        with suppress(ConnectionError):
            while data := await reader.read(4096):
                line.take(data, writer.write)
        writer.close()

    task = asyncio.create_task(carry(), name="modem")
    try:
        yield writer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        writer.transport.abort()
        await line.settle()


async def test_two_modems_on_one_port_are_told_apart(port: int) -> None:
    sinks = {n: CollectingSink() for n in (1, 2, 3)}
    near, far = ModbusLine({1: station(1), 2: station(2)}), ModbusLine({3: station(3)})
    async with AsyncExitStack() as stack:
        for n, id in ((1, "NEAR"), (2, "NEAR"), (3, "FAR")):
            url = f"listen+rtu://127.0.0.1:{port}?id={id}"
            file = device_file(url, n, (0, 100), connection={"timeout": PATIENT})
            task = await stack.enter_async_context(running(build(file), sinks[n]))
        await stack.enter_async_context(modem(port, far, b"FAR"))
        await stack.enter_async_context(modem(port, near, b"NEAR"))
        for sink in sinks.values():
            await cycles(sink, 101, 5, task)
    for n, sink in sinks.items():
        assert_own(sink, n, (0, 100))
        assert {reading.status for readings in sink.readings.values() for reading in readings} == {GOOD}
    assert near.most_at_once == 1


async def test_registration_in_pieces_and_heartbeats(port: int) -> None:
    sink = CollectingSink()
    url = f"listen+rtu://127.0.0.1:{port}?id=DTU-0001&heartbeat=hex:fefe"
    file = device_file(url, 1, (0,), connection={"timeout": PATIENT})
    async with running(build(file), sink) as task, modem(port, ModbusLine({1: station(1)})) as out:
        for piece in (b"DT", b"U-00", b"01"):
            out.write(piece)
            await out.drain()
        await cycles(sink, 100, 2, task)
        for beats in (1, 2, 3):
            out.write(b"\xfe\xfe" * beats)
            await cycles(sink, 100, 2 + 2 * beats, task)
    assert_own(sink, 1, (0,))
    assert {reading.status for reading in sink.readings[100]} == {GOOD}


async def test_a_new_connection_replaces_the_old_one(port: int) -> None:
    """The mobile network forgot the old connection without a word; the modem dials in again."""
    url = f"listen+rtu://127.0.0.1:{port}?id=DTU"
    sink = CollectingSink()
    deaf = ModbusLine({1: station(1, lambda asked: Act(silent=True))})
    async with AsyncExitStack() as stack, again_and_again(build(device_file(url, 1, (0,))), sink):
        old = await stack.enter_async_context(modem(port, deaf, b"DTU"))
        await eventually(lambda: len(deaf.asked) >= 6, message="attempts on the dead connection")
        assert not old.transport.is_closing(), "a device that is silent does not cost the modem its connection"
        await stack.enter_async_context(modem(port, ModbusLine({1: station(1)}), b"DTU"))
        await eventually(lambda: len(sink.readings.get(100, ())) > 3, message="data over the new connection")
    assert_own(sink, 1, (0,))


async def test_nobody_dialled_in_says_so(port: int) -> None:
    content = device_file(f"listen+rtu://127.0.0.1:{port}?id=DTU", 1, (0,))
    with pytest.raises(LinkLost, match=r"the device has not dialled in within 0\.2 s"):
        await build(content).run(CollectingSink())


async def test_strangers_are_turned_away_and_told_once(port: int, caplog: pytest.LogCaptureFixture) -> None:
    url = f"listen+rtu://127.0.0.1:{port}?id=DTU-7"
    sink = CollectingSink()
    async with AsyncExitStack() as stack:
        content = device_file(url, 1, (0,), connection={"timeout": "10s"})
        task = await stack.enter_async_context(running(build(content), sink))
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                async with modem(port, ModbusLine({}), b"SSH-2.0-scanner" + b"x" * 300) as out:
                    await eventually(out.transport.is_closing, message="it is turned away")
        await stack.enter_async_context(modem(port, ModbusLine({1: station(1)}), b"DTU-7"))
        await cycles(sink, 100, 2, task)
    told = [record.message for record in caplog.records if "turned away" in record.message]
    assert len(told) == 1
    assert "it registered as 'SSH-2.0-scanner" in told[0]


async def test_only_allowed_networks_may_dial_in(port: int, caplog: pytest.LogCaptureFixture) -> None:
    content = device_file(f"listen+rtu://127.0.0.1:{port}?allow=10.0.0.0/8", 1, (0,), connection={"timeout": "500ms"})
    line = ModbusLine({1: station(1)})
    task = asyncio.create_task(build(content).run(CollectingSink()))
    async with modem(port, line):
        with pytest.raises(LinkLost, match="has not dialled in"):
            await task
    assert not line.asked
    assert "127.0.0.1 was turned away: its address is in no `allow`" in caplog.text


async def test_a_port_that_is_taken_says_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        url = f"listen+rtu://127.0.0.1:{taken.getsockname()[1]}?id=DTU"
        with pytest.raises(LinkLost, match="address already in use"):
            await build(device_file(url, 1, (0,))).run(CollectingSink())
