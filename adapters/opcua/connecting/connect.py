"""From nothing to an active session, and leaving without a trace; of several servers the first that can be used."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from asyncua.client.client import Client
from asyncua.ua.uaerrors import UaStatusCodeError

from adapters.opcua.config import ConnectionConfig, LoadConfig
from adapters.opcua.connecting.certificates import application_uri
from adapters.opcua.connecting.security import explain_expiry, log_in, open_channel, secure
from adapters.opcua.errors import status_name, translate_errors
from adapters.opcua.profiles import DEFAULT, PROFILES, Profile
from adapters.opcua.session import stack
from adapters.opcua.session.endpoints import Memory, ServerMemory, Unwell, none_of_them
from adapters.opcua.session.health import level_text, no_data
from adapters.opcua.session.limits import allowed_rate
from adapters.opcua.session.pace import Pace, Priority
from adapters.opcua.session.session import CHANNEL_LIFETIME_S, SESSION_TIMEOUT_S, Session
from gateway.contract import AdapterError, LinkLost

_logger = logging.getLogger(__name__)

_CLOSE_S: Final = 1.5
_TURN_S: Final = 1.0
"""a goodbye waits no longer for the budget: later than this after any other request it is within it anyway"""
_UNKNOWN: Final = frozenset({0x80250000, 0x80260000})
"""BadSessionIdInvalid, BadSessionClosed"""


@asynccontextmanager
async def open_session(
    config: ConnectionConfig, load: LoadConfig, memory: Memory | None = None, profile: Profile = PROFILES[DEFAULT]
) -> AsyncIterator[Session]:
    """Connect and log in; on leaving close session (with its subscriptions), channel and socket within 2 s.

    `config.url` and `config.alternatives` are tried as `Memory.order` says; `Session.url` is the one in use. With a
    `memory`, a session that a lost link left at that server is taken up again, and on leaving with LinkLost it is left
    there for the next connection. Raises LinkLost, or Refused where a server answers but does not let us in.
    """
    memory = memory or Memory()
    memory.pace = memory.pace or Pace(allowed_rate(profile, load))
    door = _Door(config, load, memory, memory.pace, profile)
    async with AsyncExitStack() as opened:
        yield await door.enter(opened)


class _Door:
    """One attempt at a device's servers."""

    def __init__(self, config: ConnectionConfig, load: LoadConfig, memory: Memory, pace: Pace, profile: Profile):
        self._config = config
        self._load = load
        self._memory = memory
        self._pace = pace
        self._profile = profile
        self._urls = tuple(dict.fromkeys((config.url, *config.alternatives)))

    async def enter(self, opened: AsyncExitStack) -> Session:
        """The session with the first server that can be used. Raises the errors of all of them."""
        await self._memory.wait(self._urls)
        order = self._memory.order(self._urls)
        failures: dict[str, AdapterError] = {}
        for url in order:
            try:
                session = await opened.enter_async_context(self._session(url, choosy=len(order) > 1))
            except AdapterError as error:
                failures[url] = error
            else:
                self._memory.connected(url, self._urls, failures)
                return session
        # Better one that says it has no data than none at all.
        for url in [url for url, error in failures.items() if isinstance(error, Unwell)]:
            try:
                session = await opened.enter_async_context(self._session(url, choosy=False))
            except AdapterError as error:
                failures[url] = error
            else:
                self._memory.connected(url, self._urls, failures)
                return session
        raise none_of_them(failures)

    @asynccontextmanager
    async def _session(self, url: str, *, choosy: bool) -> AsyncIterator[Session]:
        """One server's session. Raises Unwell where a server that says it has no data is not wanted."""
        config = self._config.model_copy(update={"url": url})
        memory = self._memory.of(url)
        client = _client(config, self._pace)
        leave = in_use = False
        began = asyncio.get_running_loop().time()
        try:
            reactivated = await _log_in(client, config, memory, self._pace)
            memory.login = stack.login_of(client)
            try:
                session = self._make(client, config, reactivated, began)
                await session.inspect()
                if choosy and no_data(session.level):
                    raise Unwell(f"{url}: {level_text(session.level)}")
                in_use = True
                yield session
            except LinkLost as error:
                leave = in_use or reactivated or not isinstance(error, Unwell)
                raise
            finally:
                self._memory.clock_offset_s = None
                if leave:
                    self._memory.left(url)
                else:
                    memory.login = None
        except AdapterError as error:
            self._memory.failed(url, error, refused=stack.has_channel(client) and not in_use)
            raise
        finally:
            await _close(client, url, leave, self._pace)

    def _make(self, client: Client, config: ConnectionConfig, reactivated: bool, began: float) -> Session:
        return Session(
            client,
            config,
            self._memory,
            self._pace,
            self._profile,
            self._load,
            alone=len(self._urls) == 1,
            reactivated=reactivated,
            channel_since=began,
        )


def _client(config: ConnectionConfig, pace: Pace) -> Client:
    client = Client(config.url, timeout=config.timeout)
    client.name = client.description = "edge-gateway"
    client.product_uri = "urn:edge-gateway"
    client.application_uri = application_uri()
    client.session_timeout = round(SESSION_TIMEOUT_S * 1000)
    client.secure_channel_timeout = round(CHANNEL_LIFETIME_S * 1000)
    # What the library sends by itself counts too; opening and closing channels passes by this hook.
    client.uaclient.pre_request_hook = functools.partial(pace.wait, Priority.SESSION)
    return client


async def _log_in(client: Client, config: ConnectionConfig, memory: ServerMemory, pace: Pace) -> bool:
    """Have an active session; True if it is the one of the connection before."""
    with translate_errors(f"{config.url}: connecting"):
        own = await secure(client, config, pace)
    with explain_expiry(own, config):
        with translate_errors(f"{config.url}: connecting"):
            await open_channel(client, pace)
        if await _reactivate(client, config, memory):
            return True
        with translate_errors(f"{config.url}: connecting"):
            await client.create_session()
    with translate_errors(f"{config.url}: logging in"):
        await log_in(client, config.user)
    return False


async def _reactivate(client: Client, config: ConnectionConfig, memory: ServerMemory) -> bool:
    """Take up the session of the connection before (Part 4, 6.7); False if there is none or the server forgot it."""
    if memory.login is None:
        return False
    certificate = client.security_policy.peer_certificate
    with translate_errors(f"{config.url}: taking up the session again"):
        stack.take_login(client, memory.login)
        try:
            await log_in(client, config.user)
        except UaStatusCodeError as error:
            # Whatever it is: if it will not have us at all, it says so again to the new session. It may be starting or
            # stopping, so the old one is not given up before there is another.
            _logger.debug("%s: the old session cannot be had: %s", config.url, status_name(error.code))
            if error.code in _UNKNOWN:
                memory.login = None
        else:
            return True
    stack.drop_login(client, certificate)
    return False


async def _close(client: Client, url: str, leave: bool, pace: Pace) -> None:
    """Leave; with `leave` without a word, so that the server keeps the session and its subscriptions."""
    try:
        if stack.has_channel(client) and not leave:
            async with asyncio.timeout(_CLOSE_S):
                with translate_errors(f"{url}: closing"):
                    await _turn(pace)
                    await client.close_session()
                    await pace.wait(Priority.SESSION)
                    await client.close_secure_channel()
    except (AdapterError, TimeoutError) as error:
        _logger.debug("%s: not closed in good order: %s", url, error)
    finally:
        # A peer that does not read would hold back an orderly close of the socket for ever.
        stack.abort(client)
        client.disconnect_socket()
        await asyncio.sleep(0)


async def _turn(pace: Pace) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_TURN_S):
            await pace.wait(Priority.SESSION)
