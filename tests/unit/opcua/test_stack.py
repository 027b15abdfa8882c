"""What we use of asyncua that its makers may move without notice."""

from __future__ import annotations

import inspect

from asyncua.client.client import Client
from asyncua.client.ua_client import UaClient, UASocketProtocol
from asyncua.client.ua_session import UaSession
from asyncua.common.utils import Buffer

from adapters.opcua import stack


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
