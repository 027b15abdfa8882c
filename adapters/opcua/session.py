"""One session with a server: connecting, what the server can bear, and leaving without a trace."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.uaerrors import UaStatusCodeError

from adapters.opcua import stack
from adapters.opcua.certificates import application_uri
from adapters.opcua.config import ConnectionConfig, LoadConfig, SubscribeConfig
from adapters.opcua.errors import status_name, translate_errors
from adapters.opcua.limits import allowed_rate
from adapters.opcua.pace import Pace, Priority
from adapters.opcua.profiles import DEFAULT, PROFILES, Profile
from adapters.opcua.security import log_in, secure
from gateway.contract import AdapterError, LinkLost

T = TypeVar("T")
_logger = logging.getLogger(__name__)

_SERVER_ARRAY: Final = 2254
_NAMESPACE_ARRAY: Final = 2255
_SERVER_STATE: Final = 2259
_RUNNING: Final = 0
_STATES: Final = {
    1: "Failed", 2: "NoConfiguration", 3: "Suspended", 4: "Shutdown", 5: "Test", 6: "CommunicationFault", 7: "Unknown",
}  # fmt: skip
_MAX_NODES_PER_READ: Final = 11705
_MAX_ITEMS_PER_CALL: Final = 11714
"""node ids of namespace 0 (Part 6, annex A: NodeIds.csv)"""

_OWN_ITEMS_PER_CALL: Final = 1000
"""where the server names no limit: keeps a request well below usual message sizes"""
_SESSION_TIMEOUT_S: Final = 60.0
"""short, so that a gateway which lost its network does not use up a small server's sessions"""
_BEAT_S: Final = 5.0
"""between two looks at the server's state, which also show at once that a connection is half open"""
_CLOSE_S: Final = 1.5
_KEEP_ALIVE_S: Final = 5.0
_LIFETIME_S: Final = 600.0
"""how long the server is to keep a subscription that nobody fetches: outages shorter than this lose nothing"""
_NOTIFICATIONS_PER_PUBLISH: Final = 10_000


class Memory:
    """What a session leaves for the next connection when the link is lost."""

    def __init__(self) -> None:
        self.login: stack.Login | None = None
        """None when no session of ours is left at the server"""
        self.pace: Pace | None = None
        """the device's budget, from the first connection on"""


class Session:
    """An active session. Every method raises AdapterError when the link or the server fails."""

    def __init__(self, client: Client, config: ConnectionConfig, pace: Pace) -> None:
        self.client = client
        self.url = config.url
        self.timeout = config.timeout
        self.server_uri = config.url
        """the server's own URI, the url where it has none"""
        self.items_per_call = _OWN_ITEMS_PER_CALL
        self.nodes_per_read = _OWN_ITEMS_PER_CALL
        self.reactivated = False
        """whether this is the session of the connection before, with its subscriptions"""
        self._state = _RUNNING
        self._namespaces: list[str] = []
        self.pace = pace

    async def call(self, doing: str, request: Any, response: type[T], *, priority: Priority = Priority.ITEMS) -> T:
        """One service call; `doing` says in an error what failed."""
        await self.pace.wait(priority)
        with translate_errors(f"{self.url}: {doing}"):
            return await stack.call(self.client, request, response, self.timeout)

    async def raw(self, doing: str, request: Any, *, priority: Priority = Priority.BACKGROUND) -> bytes:
        """As `call`, but the body of the answer as it came, a fault included."""
        await self.pace.wait(priority)
        with translate_errors(f"{self.url}: {doing}"):
            async with asyncio.timeout(self.timeout):
                return stack.body(await stack.send(self.client, request, self.timeout))

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

    async def read(self, doing: str, *nodes: int) -> list[ua.DataValue]:
        """Read the values of nodes of namespace 0."""
        request = ua.ReadRequest()
        request.Parameters.NodesToRead = [
            ua.ReadValueId(NodeId=stack.node_id(node), AttributeId=AttributeIds.Value) for node in nodes
        ]
        answer = await self.call(doing, request, ua.ReadResponse, priority=Priority.SESSION)
        results: list[ua.DataValue] = answer.Results
        if len(results) != len(nodes):
            raise LinkLost(f"{self.url}: {doing}: asked for {len(nodes)} values, the server sent {len(results)}")
        return results

    async def inspect(self) -> None:
        """Learn the server's limits, names and namespaces."""
        servers, namespaces, items, nodes = [
            value.Value.Value if value.Value and (value.StatusCode is None or value.StatusCode.is_good()) else None
            for value in await self.read(
                "reading the server's limits",
                _SERVER_ARRAY,
                _NAMESPACE_ARRAY,
                _MAX_ITEMS_PER_CALL,
                _MAX_NODES_PER_READ,
            )
        ]
        if isinstance(servers, list) and servers and isinstance(servers[0], str) and servers[0]:
            self.server_uri = servers[0]
        if isinstance(namespaces, list):
            self._namespaces = [str(uri) for uri in namespaces]
        if isinstance(items, int) and items > 0:
            self.items_per_call = min(items, _OWN_ITEMS_PER_CALL)
        if isinstance(nodes, int) and nodes > 0:
            self.nodes_per_read = min(nodes, _OWN_ITEMS_PER_CALL)

    def namespace(self, uri: str) -> int | None:
        """The server's index of a namespace, None if it does not know it."""
        return self._namespaces.index(uri) if uri in self._namespaces else None

    async def subscribe(self, config: SubscribeConfig) -> ua.CreateSubscriptionResult:
        """Create the device's subscription."""
        keep_alive = math.ceil(_KEEP_ALIVE_S / config.publishing)
        request = ua.CreateSubscriptionRequest()
        request.Parameters = ua.CreateSubscriptionParameters(
            RequestedPublishingInterval=config.publishing * 1000,
            RequestedLifetimeCount=max(math.ceil(_LIFETIME_S / config.publishing), 3 * keep_alive),
            RequestedMaxKeepAliveCount=keep_alive,
            MaxNotificationsPerPublish=_NOTIFICATIONS_PER_PUBLISH,
            PublishingEnabled=True,
            Priority=0,
        )
        answer = await self.call("creating the subscription", request, ua.CreateSubscriptionResponse)
        result: ua.CreateSubscriptionResult = answer.Parameters
        lifetime_s = result.RevisedPublishingInterval * result.RevisedLifetimeCount / 1000
        if lifetime_s < _LIFETIME_S * 0.99:
            _logger.info(
                "%s: the server keeps our subscription for %.0f s after a lost connection, we asked for %.0f s; longer "
                "outages lose readings",
                self.url,
                lifetime_s,
                _LIFETIME_S,
            )
        return result

    async def take_over(self, subscription: int) -> bool:
        """Have a subscription of the connection before in this session; False where the server does not allow it.

        Without initial values, which would repeat what has been offered (Part 4, 5.14.7).
        """
        if self.reactivated:
            return True
        request = ua.TransferSubscriptionsRequest()
        request.Parameters.SubscriptionIds = [subscription]
        request.Parameters.SendInitialValues = False
        answer, code = await self._try("transferring the subscription", request, ua.TransferSubscriptionsResponse)
        if answer is not None and len(answer.Parameters.Results) == 1:
            code = answer.Parameters.Results[0].StatusCode.value
            if not code >> 30:
                return True
        _logger.info("%s: the server does not hand over our old subscription: %s", self.url, status_name(code))
        return False

    async def delete(self, subscription: int) -> None:
        """Delete a subscription, also one that a former session holds; it may be gone, or the server not let us."""
        if not await self.take_over(subscription):
            return
        request = ua.DeleteSubscriptionsRequest()
        request.Parameters.SubscriptionIds = [subscription]
        await self._try("deleting the old subscription", request, ua.DeleteSubscriptionsResponse)

    async def _try(self, doing: str, request: Any, response: type[T]) -> tuple[T | None, int]:
        """As `call`, but (None, status) when the server answers with a fault, whichever it is."""
        await self.pace.wait(Priority.ITEMS)
        with translate_errors(f"{self.url}: {doing}"):
            try:
                return await stack.call(self.client, request, response, self.timeout), 0
            except UaStatusCodeError as error:
                return None, error.code

    async def stay_alive(self) -> None:
        """For as long as it runs: keep the session from timing out, published to or not; renew the channel."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat(), name=f"{self.url}: keep-alive")
            group.create_task(self._renew(), name=f"{self.url}: channel renewal")

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(min(_BEAT_S, self.client.session_timeout / 1000 / 3))
            self._look((await self.read("keeping the session alive", _SERVER_STATE))[0])

    def _look(self, value: ua.DataValue) -> None:
        """Say so once when the server's own state changes (ServerState, Part 5, 12.6)."""
        state = value.Value.Value if value.Value is not None else None
        if not isinstance(state, int) or state == self._state:
            return
        name = _STATES.get(state, str(state))
        if state == _RUNNING:
            _logger.info("%s: the server says that it is running again", self.url)
        else:
            _logger.warning(
                "%s: the server says that its state is %s, not Running; its values may stand still or be wrong; "
                "look at the server",
                self.url,
                name,
            )
        self._state = state

    async def _renew(self) -> None:
        while True:
            # A token is renewed after 75 % of its life (Part 4, 5.5.2.1).
            await asyncio.sleep(self.client.secure_channel_timeout / 1000 * 0.75)
            with translate_errors(f"{self.url}: renewing the secure channel"):
                await self.client.open_secure_channel(renew=True)
                self.client.uaclient.revolve_security_token()


@asynccontextmanager
async def open_session(
    config: ConnectionConfig, load: LoadConfig, memory: Memory | None = None, profile: Profile = PROFILES[DEFAULT]
) -> AsyncIterator[Session]:
    """Connect and log in; on leaving close session (with its subscriptions), channel and socket within 2 s.

    With a `memory`, a session that a lost link left behind is taken up again, and on leaving with LinkLost it is left
    to the server for the next connection. Raises LinkLost, or Refused where the server answers but does not let us in.
    """
    memory = memory or Memory()
    pace = memory.pace = memory.pace or Pace(allowed_rate(profile, load))
    client = Client(config.url, timeout=config.timeout)
    client.name = client.description = "edge-gateway"
    client.product_uri = "urn:edge-gateway"
    client.application_uri = application_uri()
    client.session_timeout = round(_SESSION_TIMEOUT_S * 1000)
    leave = False
    try:
        with translate_errors(f"{config.url}: connecting"):
            await secure(client, config)
            await client.connect_socket()
            await client.send_hello()
            await client.open_secure_channel()
        reactivated = await _reactivate(client, config, memory)
        if not reactivated:
            with translate_errors(f"{config.url}: connecting"):
                await client.create_session()
            with translate_errors(f"{config.url}: logging in"):
                await log_in(client, config.user)
        memory.login = stack.login_of(client)
        try:
            session = Session(client, config, pace)
            session.reactivated = reactivated
            await session.inspect()
            yield session
        except LinkLost:
            leave = True
            raise
        finally:
            if not leave:
                memory.login = None
    finally:
        await _close(client, config.url, leave)


async def _reactivate(client: Client, config: ConnectionConfig, memory: Memory) -> bool:
    """Take up the session of the connection before (Part 4, 6.7); False if there is none or the server forgot it."""
    if memory.login is None:
        return False
    certificate = client.security_policy.peer_certificate
    with translate_errors(f"{config.url}: taking up the session again"):
        stack.take_login(client, memory.login)
        try:
            await log_in(client, config.user)
        except UaStatusCodeError as error:
            # Whatever it is: if it will not have us at all, it says so again to the new session.
            _logger.debug("%s: the old session is gone: %s", config.url, status_name(error.code))
        else:
            return True
    memory.login = None
    stack.drop_login(client, certificate)
    return False


async def _close(client: Client, url: str, leave: bool) -> None:
    """Leave; with `leave` without a word, so that the server keeps the session and its subscriptions."""
    try:
        if stack.has_channel(client) and not leave:
            async with asyncio.timeout(_CLOSE_S):
                with translate_errors(f"{url}: closing"):
                    await client.close_session()
                    await client.close_secure_channel()
    except (AdapterError, TimeoutError) as error:
        _logger.debug("%s: not closed in good order: %s", url, error)
    finally:
        # A peer that does not read would hold back an orderly close of the socket for ever.
        stack.abort(client)
        client.disconnect_socket()
        await asyncio.sleep(0)
