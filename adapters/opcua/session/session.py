"""One session's calls: what the server can bear, what it calls things, and keeping it alive."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.uaerrors import UaStatusCodeError

from adapters.opcua.config import ConnectionConfig, LoadConfig
from adapters.opcua.decoding.batches import Moment
from adapters.opcua.errors import TOO_MUCH, translate_errors
from adapters.opcua.profiles import Profile
from adapters.opcua.session import stack
from adapters.opcua.session.endpoints import Memory, ServerMemory
from adapters.opcua.session.health import MISSING, NODES, SERVICE_LEVEL, Health, Look, ServerClock
from adapters.opcua.session.limits import Limits, ServerSays
from adapters.opcua.session.pace import Pace, Priority
from gateway.contract import Clock, LinkLost, Sink

T = TypeVar("T")

_SERVER_ARRAY: Final = 2254
_NAMESPACE_ARRAY: Final = 2255
"""node ids of namespace 0 (Part 6, annex A: NodeIds.csv)"""

SESSION_TIMEOUT_S: Final = 60.0
"""short, so that a gateway which lost its network does not use up a small server's sessions"""
CHANNEL_LIFETIME_S: Final = 3600.0
_LONGEST_URI: Final = 1000
"""letters of a server's URI, which goes into the log with every notification; a longer one is as none"""
_LEAST_REVISED_S: Final = 0.1
"""a session or a channel that lasts for less is nothing that a server could mean: it is taken for what it was asked"""
_BEAT_S: Final = 5.0
"""between two looks at the server's health, which also show at once that a connection is half open"""
_RENEW_AT: Final = 0.75
"""of a channel's lifetime (Part 4, 5.5.2.1)"""


class Session:
    """An active session. Every method raises AdapterError when the link or the server fails."""

    def __init__(
        self,
        client: Client,
        config: ConnectionConfig,
        memory: Memory,
        pace: Pace,
        profile: Profile,
        load: LoadConfig,
        *,
        alone: bool,
        reactivated: bool,
        channel_since: float,
    ) -> None:
        """`alone`: the device has no other server. `reactivated`: see the attribute. `inspect` comes first.

        `channel_since`: loop time, not later than the opening of the secure channel.
        """
        self.client = client
        self.url = config.url
        """of the server in use, which may be one of `connection.alternatives`"""
        self.timeout = config.timeout
        self.pace = pace
        """the device's request budget; `call` and its kin observe it, whoever sends by other ways has to"""
        self.limits = Limits.of(ServerSays(), profile, load)
        """what may be asked of the server"""
        self.items_per_call = self.limits.items_per_call
        self.nodes_per_read = self.limits.nodes_per_read
        self.server_uri = config.url
        """the server's own URI, the url where it has none; with the url where a device has several servers, because
        redundant servers may share a URI and count their subscriptions each from 1"""
        self.reactivated = reactivated
        """whether this is the session of the connection before, with its subscriptions"""
        self.level: int | None = None
        """the server's ServiceLevel when it was inspected (Part 4, 6.6.2.4.2); None = it has none"""
        self._memory = memory
        self._profile = profile
        self._load = load
        self._alone = alone
        self._channel_since = channel_since
        self._namespaces: list[str] = []

    @property
    def left(self) -> ServerMemory:
        """What this server has of ours when the connection is lost."""
        return self._memory.of(self.url)

    async def call(self, doing: str, request: Any, response: type[T], *, priority: Priority = Priority.ITEMS) -> T:
        """One service call; `doing` says in an error what failed."""
        await self.pace.wait(priority)
        with translate_errors(f"{self.url}: {doing}"):
            return await stack.call(self.client, request, response, self.timeout)

    async def raw(self, doing: str, request: Any, *, priority: Priority = Priority.BACKGROUND) -> bytes:
        """As `call`, but the body of the answer as it came, a fault included."""
        await self.pace.wait(priority)
        with translate_errors(f"{self.url}: {doing}"):
            return stack.body(await stack.ask(self.client, request, self.timeout))

    async def attempt(
        self,
        doing: str,
        request: Any,
        response: type[T],
        unless: frozenset[int],
        *,
        priority: Priority = Priority.ITEMS,
    ) -> T | None:
        """As `call`, but None where the server answers with a status in `unless`."""
        await self.pace.wait(priority)
        with translate_errors(f"{self.url}: {doing}"):
            try:
                return await stack.call(self.client, request, response, self.timeout)
            except UaStatusCodeError as error:
                if error.code in unless:
                    return None
                raise

    async def answer(
        self, doing: str, request: Any, response: type[T], *, priority: Priority = Priority.ITEMS
    ) -> tuple[T | None, int]:
        """As `call`, but (None, status) when the server answers with a fault, whichever it is."""
        await self.pace.wait(priority)
        with translate_errors(f"{self.url}: {doing}"):
            try:
                return await stack.call(self.client, request, response, self.timeout), 0
            except UaStatusCodeError as error:
                return None, error.code

    async def read(self, doing: str, *nodes: int) -> list[ua.DataValue]:
        """Read the values of nodes of namespace 0, in one request where the server bears that."""
        await self.pace.wait(Priority.SESSION)
        found = await self._read(doing, nodes)
        if found is None:
            half = len(nodes) // 2
            found = [*await self.read(doing, *nodes[:half]), *await self.read(doing, *nodes[half:])]
        return found

    async def _read(self, doing: str, nodes: Sequence[int]) -> list[ua.DataValue] | None:
        """As `read`, at once; None where several nodes are too much for the server."""
        request = ua.ReadRequest()
        request.Parameters.NodesToRead = [
            ua.ReadValueId(NodeId=stack.node_id(node), AttributeId=AttributeIds.Value) for node in nodes
        ]
        with translate_errors(f"{self.url}: {doing}"):
            try:
                answer = await stack.call(self.client, request, ua.ReadResponse, self.timeout)
            except UaStatusCodeError as error:
                if error.code in TOO_MUCH and len(nodes) > 1:
                    return None
                raise
        results: list[ua.DataValue] = answer.Results
        if len(results) != len(nodes):
            raise LinkLost(f"{self.url}: {doing}: asked for {len(nodes)} values, the server sent {len(results)}")
        return results

    async def inspect(self) -> None:
        """Learn the server's limits, names, namespaces and level of service."""
        asked = (_SERVER_ARRAY, _NAMESPACE_ARRAY, SERVICE_LEVEL, *ServerSays.NODES.values())
        values = _good(asked, await self.read("reading the server's limits", *asked))
        servers, namespaces, level = (values.get(node) for node in asked[:3])
        if (
            isinstance(servers, list)
            and servers
            and isinstance(servers[0], str)
            and 0 < len(servers[0]) <= _LONGEST_URI
        ):
            self.server_uri = servers[0] if self._alone else f"{servers[0]} at {self.url}"
        if isinstance(namespaces, list):
            self._namespaces = [str(uri) for uri in namespaces]
        self.level = level if isinstance(level, int) else None
        limits = Limits.of(ServerSays.of(values), self._profile, self._load)
        self.limits = limits.within(stack.most_sent(self.client))
        self.items_per_call, self.nodes_per_read = self.limits.items_per_call, self.limits.nodes_per_read

    def namespace(self, uri: str) -> int | None:
        """The server's index of a namespace, None if it does not know it."""
        return self._namespaces.index(uri) if uri in self._namespaces else None

    async def stay_alive(self, sink: Sink, clock: Clock, watch: ServerClock | None = None) -> None:
        """For as long as it runs: keep the session from timing out, published to or not; renew the channel.

        The sink is told how well the server says it is, `watch` what its clock says. Raises AdapterError, also when
        another server is better.
        """
        health = Health(self.url, self._memory, alone=self._alone, watch=watch)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat(health, sink, clock), name=f"{self.url}: health")
            group.create_task(self._renew(), name=f"{self.url}: channel renewal")

    async def _beat(self, health: Health, sink: Sink, clock: Clock) -> None:
        nodes: Sequence[int] = NODES
        while True:
            # Waited for before the clock is looked at, lest the wait be taken for a slow answer.
            await self.pace.wait(Priority.SESSION)
            asked = Moment(clock.time_ns(), clock.monotonic_ns())
            found = await self._read("keeping the session alive", nodes)
            if found is None:
                nodes = nodes[: len(nodes) // 2]
                continue
            health.take(Look(_good(nodes, found), asked, Moment(clock.time_ns(), clock.monotonic_ns())))
            sink.degraded(health.condition)
            told = [node for node, value in zip(nodes, found, strict=True) if _code(value) not in MISSING]
            nodes = told or nodes[:1]
            await asyncio.sleep(min(_BEAT_S, _lasting_s(self.client.session_timeout, SESSION_TIMEOUT_S) / 3))

    async def _renew(self) -> None:
        clock = asyncio.get_running_loop()
        while True:
            lifetime_s = _lasting_s(self.client.secure_channel_timeout, CHANNEL_LIFETIME_S)
            due = self._channel_since + lifetime_s * _RENEW_AT
            await asyncio.sleep(max(0.0, due - clock.time()))
            await self.pace.wait(Priority.SESSION)
            self._channel_since = clock.time()
            with translate_errors(f"{self.url}: renewing the secure channel"):
                await self.client.open_secure_channel(renew=True)
                self.client.uaclient.revolve_security_token()
            stack.keep_old_keys(self.client)


def _lasting_s(revised_ms: float, asked_s: float) -> float:
    """How long a server says that something lasts; what it was asked for where that is nonsense (0, NaN)."""
    revised_s = revised_ms / 1000
    return revised_s if revised_s >= _LEAST_REVISED_S else asked_s


def _code(value: ua.DataValue) -> int:
    return 0 if value.StatusCode is None else int(value.StatusCode.value)


def _good(nodes: Sequence[int], values: Sequence[ua.DataValue]) -> dict[int, Any]:
    """The values that there are, by node."""
    return {
        node: value.Value.Value
        for node, value in zip(nodes, values, strict=True)
        if value.Value is not None and value.Value.Value is not None and not _code(value) >> 30
    }
