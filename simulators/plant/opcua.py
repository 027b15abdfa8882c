"""An OPC UA server whose nodes hold what a test or a machine puts there.

    nodes = {"R3.Temp": (ua.VariantType.Double, 81.5), "R3.Running": (ua.VariantType.Boolean, True)}
    async with OpcUaDevice(nodes) as device:
        device.url                                        # opc.tcp://127.0.0.1:port/plant
        await device.write("R3.Temp", 82.0, status=UNCERTAIN, source_time_ns=...)
        await device.set_fault(Fault.STOP)

Node ids are `nsu=http://plant.example/ua;s=<key>`, under Objects/Plant. The server is asyncua's (its log is kept at
errors); clients reach it through a `Relay`, which is where its link faults happen.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import UTC, timedelta
from types import TracebackType
from typing import Any, Self

from asyncua import ua
from asyncua.server.server import Server

from simulators.plant.faults import Fault, FaultSwitch
from simulators.plant.relay import Relay

NAMESPACE = "http://plant.example/ua"

GOOD = 0x00000000
UNCERTAIN_SENSOR = 0x40930000
"""UncertainSensorNotAccurate"""
BAD_SENSOR = 0x808C0000
"""BadSensorFailure"""
BAD_DEVICE = 0x808B0000
"""BadDeviceFailure"""

_EPOCH = ua.DateTime(1970, 1, 1, tzinfo=UTC)


class OpcUaDevice:
    """One server; async context manager."""

    def __init__(
        self,
        nodes: Mapping[str, tuple[ua.VariantType, Any]],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        path: str = "/plant",
        namespace: str = NAMESPACE,
        shifted_namespaces: int = 1,
    ) -> None:
        """`nodes`: key -> (type, first value).

        `shifted_namespaces` others are registered before ours, so that its index is not what a client might guess.
        """
        self.namespace = namespace
        self.faults = FaultSwitch()
        self._nodes = dict(nodes)
        self._path = path
        self._relay = Relay(("127.0.0.1", 0), host=host, port=port)
        self._server: Server | None = None
        self._shifted = shifted_namespaces
        self._ids: dict[str, ua.NodeId] = {}
        self._last: dict[str, ua.DataValue] = {}
        self._shown: dict[str, tuple[Any, int]] = {}
        self._stack = AsyncExitStack()

    @property
    def url(self) -> str:
        """opc.tcp://host:port/path"""
        return f"opc.tcp://{self._relay.host}:{self._relay.port}{self._path}"

    @property
    def port(self) -> int:
        """The port clients connect to."""
        return self._relay.port

    @property
    def connections_opened(self) -> int:
        """TCP connections since the start."""
        return self._relay.connections_opened

    @property
    def server(self) -> Server:
        """asyncua's server, for what this class does not offer."""
        if self._server is None:
            raise RuntimeError("OpcUaDevice is used outside its `async with` block")
        return self._server

    def node_text(self, key: str) -> str:
        """The node as a config writes it: nsu=<namespace>;s=<key>."""
        return f"nsu={self.namespace};s={key}"

    def shown(self, key: str) -> tuple[Any, int]:
        """The value and status last written to a node."""
        return self._shown[key]

    async def write(
        self,
        key: str,
        value: Any,
        *,
        status: int = GOOD,
        source_time_ns: int | None = None,
        source_time: bool = True,
    ) -> None:
        """Give a node a new value; a Bad status carries none, as Part 4, 7.7.1 says.

        The source time is now unless given (UTC, resolution 100 ns in the protocol, 1 us in this server); with
        `source_time` False the reading has none, only the server's.
        """
        self._shown[key] = (value, status)
        now = ua.DateTime.now(UTC)
        source = now if source_time_ns is None else _EPOCH + timedelta(microseconds=source_time_ns // 1000)
        await self._put(
            key,
            ua.DataValue(
                Value=ua.Variant(value, self._nodes[key][0]),
                StatusCode=ua.StatusCode(ua.UInt32(status)),
                SourceTimestamp=source if source_time else None,
                ServerTimestamp=now,
            ),
        )

    async def set_fault(self, fault: Fault, delay_s: float = 0.0) -> None:
        """Turn the fault switch. `BAD` gives every node BadDeviceFailure until the next fault state."""
        was_bad = self.faults.fault is Fault.BAD
        self.faults.fault, self.faults.delay_s = fault, delay_s
        if was_bad or fault is Fault.BAD:
            for key, data in list(self._last.items()):
                await self._put(key, data)
        await self._relay.set_fault(fault, delay_s)

    async def drop_connections(self) -> None:
        """Cut every connection; sessions and subscriptions stay in the server until their timeouts."""
        await self._relay.drop_connections()

    async def __aenter__(self) -> Self:
        logging.getLogger("asyncua").setLevel(logging.ERROR)
        async with AsyncExitStack() as stack:
            server = self._server = Server()
            await server.init()
            server.socket_address = ("127.0.0.1", 0)
            server.set_server_name("Plant simulator")
            server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
            await stack.enter_async_context(self._relay)
            server.set_endpoint(self.url)
            await self._add_nodes(server)
            await server.start()
            stack.push_async_callback(server.stop)
            assert server.bserver is not None  # set by start()
            self._relay.target = ("127.0.0.1", server.bserver.port)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        self._server = None

    async def _add_nodes(self, server: Server) -> None:
        for i in range(self._shifted):
            await server.register_namespace(f"http://plant.example/other/{i}")
        index = await server.register_namespace(self.namespace)
        folder = await server.nodes.objects.add_folder(_node_id("Plant", index), ua.QualifiedName("Plant", index))
        for key, (kind, value) in self._nodes.items():
            node = await folder.add_variable(
                _node_id(key, index), ua.QualifiedName(key, index), ua.Variant(value, kind)
            )
            self._ids[key] = node.nodeid
            await self.write(key, value)

    async def _put(self, key: str, data: ua.DataValue) -> None:
        self._last[key] = data
        if self.faults.fault is Fault.BAD:
            data = ua.DataValue(
                Value=ua.Variant(None, ua.VariantType.Null),
                StatusCode=ua.StatusCode(ua.UInt32(BAD_DEVICE)),
                SourceTimestamp=ua.DateTime.now(UTC),
                ServerTimestamp=ua.DateTime.now(UTC),
            )
        await self.server.write_attribute_value(self._ids[key], data)


def _node_id(key: str, namespace: int) -> ua.NodeId:
    return ua.NodeId(ua.String(key), ua.Int16(namespace))
