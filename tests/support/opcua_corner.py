"""One test's corner of an OPC UA server that several tests share, and an adapter that runs against it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from asyncua import Server, ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.user_managers import UserManager

from adapters.opcua.adapter import OpcUaAdapter
from adapters.opcua.config import OpcUaDeviceConfig
from gateway.contract import Point, SystemClock, ValueType
from tests.support.broker import free_port
from tests.support.fake_sink import FakeSink
from tests.support.wait import eventually

_uris = (f"http://plant.test/{n}" for n in count())


class Sink(FakeSink):
    """Finds readings again in what was offered."""

    def readings(self, point: int) -> list[tuple[ValueType, Any, int, int, int, int]]:
        """(type, value or None, status, time, basis, flags) of a point, in order."""
        found = []
        for batch in self.batches:
            for row in range(len(batch)):
                if batch.points[row] == point:
                    value = batch.values[row]
                    value = value.item() if hasattr(value, "item") else value
                    found.append(
                        (
                            batch.type,
                            value if batch.valid[row] else None,
                            int(batch.status[row]),
                            int(batch.source_time[row]),
                            int(batch.basis[row]),
                            int(batch.flags[row]),
                        )
                    )
        return found


class Plant:
    """One test's corner of a server."""

    def __init__(self, server: Server, port: int, uri: str, namespace: int) -> None:
        self.server = server
        self.port = port
        self.uri = uri
        self.namespace = namespace

    async def add(self, name: str, value: Any, type: ua.VariantType) -> None:
        await self.server.nodes.objects.add_variable(
            ua.NodeId(name, self.namespace), ua.QualifiedName(name, self.namespace), value, varianttype=type
        )

    async def write(self, name: str, value: ua.DataValue) -> None:
        await self.server.write_attribute_value(ua.NodeId(name, self.namespace), value)

    def point(self, name: str, **keys: Any) -> dict[str, Any]:
        return {"point": name, "node": f"nsu={self.uri};s={name}", **keys}

    def config(self, *points: dict[str, Any], port: int | None = None, **keys: Any) -> OpcUaDeviceConfig:
        """A device file with these points, by default one named level; `port` of a proxy instead of the server's."""
        connection = {"url": f"opc.tcp://127.0.0.1:{port or self.port}", "timeout": "2s", **keys.pop("connection", {})}
        return OpcUaDeviceConfig.model_validate(
            {
                "device": "reactor",
                "adapter": "opcua",
                "connection": connection,
                "subscribe": {"publishing": "50ms", "sampling": "50ms", "queue": "1s"},
                "points": points or [self.point("level")],
                **keys,
            }
        )


class OneUser(UserManager):
    def get_user(
        self, iserver: Any, username: str | None = None, password: str | None = None, certificate: Any = None
    ) -> User | None:
        return User(role=UserRole.User) if (username, password) == ("gateway", "right") else None


@asynccontextmanager
async def serving(users: UserManager | None = None) -> AsyncIterator[tuple[Server, int]]:
    server = Server(user_manager=users)
    await server.init()
    port = free_port()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/plant")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    async with server:
        yield server, port


async def corner(server: Server, port: int) -> Plant:
    uri = next(_uris)
    return Plant(server, port, uri, await server.register_namespace(uri))


def build(checked: OpcUaDeviceConfig, first: int = 0, **keys: Any) -> OpcUaAdapter:
    points = [Point(first + i, p) for i, p in enumerate(checked.points)]
    return OpcUaAdapter(checked, points, SystemClock(), **keys)


async def seen(sink: Sink, task: asyncio.Task[None], index: int, count: int = 1) -> None:
    await eventually(lambda: task.done() or len(sink.readings(index)) >= count, message=f"readings of point {index}")
    if task.done():
        task.result()
