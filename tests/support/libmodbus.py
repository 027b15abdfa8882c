"""Modbus servers on libmodbus, in processes of their own: over TCP, or several on one serial line of pseudo terminals.

async with libmodbus_tcp(memory) as (url, server): ... devices with `connection: {url, station}` ...
async with libmodbus_line(memory) as (url, servers): ...
async with libmodbus_socat(memory) as (url, servers): ...       the first unit alone, on a pair of terminals by socat

`memory`: unit -> table -> address -> value.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import tty
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from tests.support.broker import free_port
from tests.support.wait import eventually

PROGRAM = Path(__file__).parents[1] / "interop" / "libmodbus" / "build" / "server"
Memory = Mapping[int, Mapping[str, Mapping[int, int]]]
_START_S = 60.0


class Server:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.functions: list[int] = []
        """of every request"""

    async def read(self) -> None:
        """Keep what it prints."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.functions.append(int(line))


class Bus:
    """The wire between pseudo terminals: what one end says all others hear, as on RS-485; libmodbus relies on it."""

    def __init__(self) -> None:
        self._ends: list[tuple[int, int]] = []

    def end(self) -> str:
        """A new end. Returns the path of its serial port."""
        master, slave = os.openpty()
        tty.setraw(master)
        tty.setraw(slave)
        os.set_blocking(master, False)
        self._ends.append((master, slave))
        asyncio.get_running_loop().add_reader(master, self._said, master)
        return os.ttyname(slave)

    def _said(self, master: int) -> None:
        data = os.read(master, 4096)
        for end, _ in self._ends:
            if end != master:
                with suppress(BlockingIOError):
                    os.write(end, data)

    def close(self) -> None:
        for master, slave in self._ends:
            asyncio.get_running_loop().remove_reader(master)
            os.close(master)
            os.close(slave)


@asynccontextmanager
async def _server(*arguments: str) -> AsyncIterator[Server]:
    assert PROGRAM.exists(), "the libmodbus server is missing: run scripts/interop"
    process = await asyncio.create_subprocess_exec(PROGRAM, *arguments, stdout=asyncio.subprocess.PIPE)
    server = Server(process)
    reading: asyncio.Task[None] | None = None
    try:
        assert process.stdout is not None
        async with asyncio.timeout(_START_S):
            assert await process.stdout.readline() == b"ready\n"
        reading = asyncio.create_task(server.read(), name="libmodbus")
        yield server
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if reading is not None:
            await reading


@asynccontextmanager
async def _file(memory: Memory) -> AsyncIterator[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".memory") as file:
        for unit, tables in memory.items():
            for table, cells in tables.items():
                file.writelines(f"{unit} {table} {address} {value}\n" for address, value in cells.items())
        file.flush()
        yield file.name


@asynccontextmanager
async def libmodbus_tcp(memory: Memory) -> AsyncIterator[tuple[str, list[Server]]]:
    port = free_port()
    async with _file(memory) as path, _server("tcp", str(port), path) as server:
        yield f"tcp://127.0.0.1:{port}", [server]


@asynccontextmanager
async def libmodbus_line(memory: Memory) -> AsyncIterator[tuple[str, list[Server]]]:
    bus = Bus()
    try:
        port = bus.end()
        async with _file(memory) as path, AsyncExitStack() as stack:
            servers = [await stack.enter_async_context(_server("rtu", bus.end(), str(unit), path)) for unit in memory]
            yield f"serial://{port}?baud=115200&parity=N", servers
    finally:
        bus.close()


@asynccontextmanager
async def libmodbus_socat(memory: Memory) -> AsyncIterator[tuple[str, list[Server]]]:
    with tempfile.TemporaryDirectory() as folder:
        ends = [f"{folder}/{name}" for name in ("gateway", "unit")]
        process = await asyncio.create_subprocess_exec("socat", *(f"pty,rawer,link={end}" for end in ends))
        try:
            await eventually(lambda: all(map(os.path.exists, ends)), _START_S, "socat has made the terminals")
            async with _file(memory) as path, _server("rtu", ends[1], str(min(memory)), path) as server:
                yield f"serial://{ends[0]}?baud=115200&parity=N", [server]
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
