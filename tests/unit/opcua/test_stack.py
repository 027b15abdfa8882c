"""What we use of asyncua that its makers may move without notice."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
from asyncua import ua
from asyncua.client.client import Client
from asyncua.client.ua_client import UaClient, UASocketProtocol
from asyncua.client.ua_session import UaSession
from asyncua.common.utils import Buffer
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.ua.ua_binary import struct_from_binary

from adapters.opcua.session import stack
from tests.support.opcua_certificates import make_pair


def test_asyncua_still_has_what_we_reach_into() -> None:
    assert list(inspect.signature(UASocketProtocol._send_request).parameters)[:3] == ["self", "request", "timeout"]
    assert not inspect.iscoroutinefunction(UASocketProtocol._send_request), "it sends at once and returns a future"
    assert {"protocol", "transport"} <= {*vars(UaClient(1)), *vars(UASocketProtocol(1))}
    assert stack.body(Buffer(b"abcd", 1)) == b"bcd"


def test_asyncua_still_connects_step_by_step() -> None:
    for step in ("connect_socket", "send_hello", "open_secure_channel", "create_session", "activate_session"):
        assert inspect.iscoroutinefunction(getattr(Client, step))
    assert {"username", "password"} <= inspect.signature(Client.activate_session).parameters.keys()
    assert {"_server_nonce", "_policy_ids", "security_policy"} <= vars(Client("opc.tcp://h:1")).keys()
    assert {"restore_authentication_token", "reset_authentication_token"} <= vars(UaSession).keys()
    assert {"session_timeout", "secure_channel_timeout", "application_uri"} <= vars(Client("opc.tcp://h:1")).keys()


async def test_who_is_stopped_just_as_the_connection_is_there_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    made = loop.create_connection

    async def made_as_we_are_stopped(*args: Any) -> Any:
        connection = await made(*args)
        task.cancel()
        return connection

    accepted = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    monkeypatch.setattr(loop, "create_connection", made_as_we_are_stopped)
    async with accepted:
        client = Client(f"opc.tcp://127.0.0.1:{accepted.sockets[0].getsockname()[1]}")
        task = asyncio.create_task(stack.connect(client), name="connect")
        with pytest.raises(asyncio.CancelledError):
            await task
        client.disconnect_socket()


@pytest.mark.parametrize(("late_s", "held"), [(0.5, True), (1.5, False)])
def test_old_keys_hold_for_a_quarter_longer(late_s: float, held: bool) -> None:
    """Of a life of 4 s: messages that the old keys have secured are good for another second (Part 4, 5.5.2.1)."""
    theirs, ours = make_pair("server"), make_pair("gateway", key=1)
    policy = SecurityPolicyBasic256Sha256(
        theirs.certificate, ours.certificate, ours.key, ua.MessageSecurityMode.SignAndEncrypt
    )
    client = Client("opc.tcp://h:1")
    client.security_policy, client.secure_channel_timeout = policy, 4000
    policy.make_remote_symmetric_key(b"1" * 32, b"2" * 32, -1000 * late_s)
    policy.make_remote_symmetric_key(b"3" * 32, b"4" * 32, 4000)
    stack.keep_old_keys(client)
    policy.symmetric_cryptography.revolved_expired_key()
    assert (policy.symmetric_cryptography.Prev_Decryptor is not None) is held


def test_without_security_there_are_no_keys_to_keep() -> None:
    stack.keep_old_keys(Client("opc.tcp://h:1"))


class Wire:
    """In place of a transport: keeps what is written."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written = data


def read_request() -> ua.ReadRequest:
    request = ua.ReadRequest()
    request.Parameters.MaxAge = 500.0
    request.Parameters.NodesToRead = [ua.ReadValueId(NodeId=ua.NodeId(f"n{n}", 2)) for n in range(3)]
    return request


async def test_a_request_that_is_encoded_already_is_sent_as_asyncua_sends_it() -> None:
    client = Client("opc.tcp://h:1")
    protocol = client.uaclient.protocol = UASocketProtocol(1)
    wire = Wire()
    protocol.transport = wire  # type: ignore[assignment]
    request = read_request()
    future = stack.send(client, request, 3.0)
    theirs = wire.written
    ours_future = stack.send(client, stack.encoded(read_request()), 3.0)
    ours = wire.written
    assert not future.done()
    assert len(ours) == len(theirs)
    head = 24  # chunk, security and sequence headers (Part 6, 6.7.2)
    assert int.from_bytes(ours[16:20], "little") == int.from_bytes(theirs[16:20], "little") + 1, "sequence number"
    assert int.from_bytes(ours[20:24], "little") == int.from_bytes(theirs[20:24], "little") + 1, "request id"
    found = struct_from_binary(ua.ReadRequest, Buffer(ours[head:]))
    wanted = struct_from_binary(ua.ReadRequest, Buffer(theirs[head:]))
    assert found.Parameters == wanted.Parameters == read_request().Parameters
    assert found.RequestHeader.RequestHandle == wanted.RequestHeader.RequestHandle + 1
    assert found.RequestHeader.TimeoutHint == wanted.RequestHeader.TimeoutHint == 3000
    assert protocol._callbackmap == {1: future, 2: ours_future}
