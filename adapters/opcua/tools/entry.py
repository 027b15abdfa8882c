"""The way in: the connection's settings, the server's endpoints, and what answers where no OPC UA server does."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from asyncua import ua
from asyncua.client.client import Client
from pydantic import ValidationError

from adapters.opcua.config import ConnectionConfig
from adapters.opcua.connecting.security import ask_endpoints
from adapters.opcua.errors import translate_errors
from adapters.opcua.session import stack
from adapters.opcua.session.pace import Pace, Priority
from adapters.opcua.tools.words import text
from gateway.contract import ConfigError, LinkLost
from gateway.contract.tools import Endpoint, Target

_PORT: Final = 4840
"""registered for OPC UA TCP (IANA: opcua-tcp)"""
_BUFFER: Final = 65_535
_LOGINS: Final = {0: "anonymous", 1: "user name", 2: "certificate", 3: "token"}


def connection_config(target: Target) -> ConnectionConfig:
    """The target as a device file's connection. Raises ConfigError."""
    if target.user is not None and not target.password:
        raise ConfigError(f"the user {target.user} needs a password")
    optional: dict[str, Any] = {"pki": target.pki} if target.pki is not None else {}
    if target.user is not None:
        optional["user"] = {"name": target.user, "password": target.password}
    try:
        return ConnectionConfig(
            url=_with_port(target.url),
            security=target.security,
            timeout=f"{target.timeout_s:.3f}s",
            allow_insecure_password=target.allow_insecure_password,
            **optional,
        )
    except ValidationError as error:
        # Only what is wrong: the input may hold the password.
        reasons = "; ".join(each["msg"].removeprefix("Value error, ") for each in error.errors(include_input=False))
        raise ConfigError(reasons) from None


def _with_port(url: str) -> str:
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        if parts.hostname and parts.port is None and parts.netloc[-1:] != ":":
            return parts._replace(netloc=f"{parts.netloc}:{_PORT}").geturl()
    return url


async def server_endpoints(config: ConnectionConfig, pace: Pace) -> tuple[Endpoint, ...]:
    """What the server offers. Raises AdapterError."""
    client = Client(config.url, timeout=config.timeout)
    client.uaclient.pre_request_hook = functools.partial(pace.wait, Priority.SESSION)
    try:
        with translate_errors(f"{config.url}: asking for the endpoints"):
            found = await ask_endpoints(client, pace)
    finally:
        stack.abort(client)
    return tuple(_endpoint(each) for each in found)


def _endpoint(found: ua.EndpointDescription) -> Endpoint:
    policy = text(found.SecurityPolicyUri).rpartition("#")[2] or "unknown"
    mode = {2: "Sign", 3: "SignAndEncrypt"}.get(int(found.SecurityMode))
    # Aes128_Sha256_RsaOaep and Aes256_Sha256_RsaPss: device files leave out the underscores.
    security = "None" if policy == "None" else f"{policy.replace('_', '')}/{mode or 'None'}"
    logins = dict.fromkeys(_LOGINS.get(int(token.TokenType), "other") for token in found.UserIdentityTokens or ())
    certificate = bytes(found.ServerCertificate or b"")
    return Endpoint(
        text(found.EndpointUrl),
        security,
        tuple(logins),
        text(found.Server.ApplicationName.Text) or text(found.Server.ApplicationUri),
        hashlib.sha256(certificate).hexdigest() if certificate else None,
    )


@asynccontextmanager
async def diagnose(config: ConnectionConfig) -> AsyncIterator[None]:
    """Around connecting: where no connection came about, find out whether an OPC UA server is there at all."""
    try:
        yield
    except LinkLost as error:
        found = await _who_answers(config)
        if found is None:
            raise
        raise LinkLost(f"{config.url}: {found}; check host and port of the url") from error


async def _who_answers(config: ConnectionConfig) -> str | None:
    """What is wrong with whatever listens there; None when nothing does, or when it speaks OPC UA."""
    parts = urlsplit(config.url)
    hello = _hello(config.url)
    try:
        async with asyncio.timeout(config.timeout):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    except (OSError, TimeoutError):
        return None
    try:
        async with asyncio.timeout(config.timeout):
            writer.write(hello)
            answer = await reader.read(8)
    except (OSError, TimeoutError):
        answer = b""
    finally:
        writer.transport.abort()
    if answer[:3] in (b"ACK", b"ERR"):
        return None
    if not answer:
        return "something accepts the connection and does not answer an OPC UA hello"
    return f"something answers that is not OPC UA (its first bytes: {answer!r})"


def _hello(url: str) -> bytes:
    """The first message of a connection (Part 6, 7.1.2.3)."""
    name = url.encode()
    body = struct.pack("<IIIIIi", 0, _BUFFER, _BUFFER, 0, 0, len(name)) + name
    return b"HELF" + struct.pack("<I", 8 + len(body)) + body
