"""A TCP proxy before a Modbus/TCP device that records what a client asks: the proof that nobody writes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

READS = frozenset({1, 2, 3, 4})


class ModbusWire:
    """What passed by. `port` is where the client connects."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.port = 0
        self.functions: Counter[int] = Counter()
        """requests by function code"""
        self.strange: list[bytes] = []
        """what a client sent that is no Modbus/TCP request"""
        self.connections = 0
        self.open_now = 0
        self.most_open = 0
        self.tasks: set[asyncio.Task[None]] = set()

    def assert_read_only(self) -> None:
        """Fail unless something was asked, and only by function codes 1 to 4."""
        assert self.functions, "nothing was asked: the test proves nothing"
        assert not self.strange, f"not Modbus/TCP: {self.strange[0].hex(' ')}"
        assert set(self.functions) <= READS, f"function codes on the wire: {sorted(self.functions)}"

    async def _passed(self, client: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        try:
            device, device_out = await asyncio.open_connection(*self._target)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._watch(client, device_out), name="proxy requests")
                    group.create_task(_copy(device, client_out), name="proxy replies")
            finally:
                device_out.transport.abort()
        except OSError:
            pass
        finally:
            self.open_now -= 1
            self.tasks.discard(task)
            client_out.transport.abort()

    async def _watch(self, client: asyncio.StreamReader, device: asyncio.StreamWriter) -> None:
        try:
            while True:
                header = await client.readexactly(7)
                length = int.from_bytes(header[4:6], "big")
                body = await client.readexactly(max(length - 1, 0))
                if header[2:4] != b"\0\0" or not 2 <= length <= 254:
                    self.strange.append(header + body)
                else:
                    self.functions[body[0]] += 1
                device.write(header + body)
                await device.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            device.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    except ConnectionError:
        pass
    target.close()


@asynccontextmanager
async def modbus_wire(host: str, port: int, listen: int = 0) -> AsyncIterator[ModbusWire]:
    """Watch what is sent to the device at `host`:`port`; connect the client to the yielded wire's `port`."""
    wire = ModbusWire(host, port)
    server = await asyncio.start_server(wire._passed, "127.0.0.1", listen)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        for task in wire.tasks:
            task.cancel()
        await asyncio.gather(*wire.tasks, return_exceptions=True)
