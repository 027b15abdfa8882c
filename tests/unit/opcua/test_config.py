"""Checking an OPC UA device file."""

from __future__ import annotations

import subprocess
import sys
import uuid
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.opcua import ADAPTER
from adapters.opcua.config import ClockShift, NodeAddress, OpcUaDeviceConfig


def device(**keys: Any) -> OpcUaDeviceConfig:
    connection = {"url": "opc.tcp://10.0.0.7:4840", **keys.pop("connection", {})}
    points = [{"point": "temperature", "node": "ns=2;s=T", **keys.pop("point", {})}]
    return OpcUaDeviceConfig.model_validate(
        {"device": "reactor-3", "adapter": "opcua", "connection": connection, "points": points, **keys}
    )


def test_defaults_lose_no_data_and_are_gentle() -> None:
    made = device()
    assert made.connection.security == "None"
    assert made.connection.timeout == 5
    assert (made.subscribe.publishing, made.subscribe.sampling, made.subscribe.queue) == (0.5, 1.0, 30.0)
    assert made.load.connections == 1
    assert made.clock == "trust"


@pytest.mark.parametrize(
    "url",
    [
        "http://host:4840",
        "opc.tcp://host",
        "opc.tcp://:4840",
        "opc.tcp://host:port",
        "opc.tcp://host:99999",
        "host:4840",
    ],
)
def test_a_wrong_url_says_what_is_expected(url: str) -> None:
    with pytest.raises(ValidationError, match=r"expected opc\.tcp://host:port"):
        device(connection={"url": url})


def test_a_login_in_the_url_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"connection\.user"):
        device(connection={"url": "opc.tcp://me:secret@host:4840"})


@pytest.mark.parametrize("security", ["Basic256/Sign", "Basic256Sha256", "Basic256Sha256/None", "none", ""])
def test_weak_or_unknown_security_is_refused(security: str) -> None:
    with pytest.raises(ValidationError, match="expected None or <policy>/<mode>"):
        device(connection={"security": security})


def test_security_needs_a_certificate() -> None:
    with pytest.raises(ValidationError, match=r"connection\.certificate and connection\.key"):
        device(connection={"security": "Basic256Sha256/SignAndEncrypt"})
    device(connection={"security": "Aes256Sha256RsaPss/Sign", "certificate": "c.der", "key": "k.pem"})


USER = {"name": "gateway", "password": "hunter2"}


@pytest.mark.parametrize("security", ["None", "Basic256Sha256/Sign"])
def test_a_password_does_not_travel_in_the_clear(security: str) -> None:
    keys = {"security": security, "user": USER, "certificate": "c.der", "key": "k.pem"}
    with pytest.raises(ValidationError, match="allow_insecure_password") as caught:
        device(connection=keys)
    assert "hunter2" not in str(caught.value)
    device(connection={**keys, "allow_insecure_password": True})
    device(connection={**keys, "security": "Basic256Sha256/SignAndEncrypt"})


def test_a_password_is_not_printed() -> None:
    made = device(connection={"user": USER, "allow_insecure_password": True})
    assert "hunter2" not in repr(made)
    assert "hunter2" not in str(made.model_dump())


@pytest.mark.parametrize(
    ("text", "namespace", "uri", "identifier"),
    [
        ("i=2258", 0, None, 2258),
        ("ns=2;s=Tank;1.Level", 2, None, "Tank;1.Level"),
        ("nsu=http://vendor.example/ua;s=R3.Temp", 0, "http://vendor.example/ua", "R3.Temp"),
        (
            "ns=1;g=12345678-9abc-def0-1234-56789abcdef0",
            1,
            None,
            uuid.UUID("12345678-9abc-def0-1234-56789abcdef0"),
        ),
        ("ns=1;b=AP8=", 1, None, b"\x00\xff"),
    ],
)
def test_node_ids(text: str, namespace: int, uri: str | None, identifier: Any) -> None:
    node = NodeAddress(text)
    assert (node.namespace, node.uri, node.identifier) == (namespace, uri, identifier)


@pytest.mark.parametrize(
    "text",
    ["", "Tank", "ns=2", "ns=2;x=1", "ns=x;i=1", "i=-1", "i=4294967296", "ns=65536;i=1", "g=12", "b=%", "i=1.5", "s="],
)
def test_wrong_node_ids(text: str) -> None:
    with pytest.raises(ValidationError, match=r"expected|at most"):
        device(point={"node": text})


@pytest.mark.parametrize(("clock", "shift_s"), [("shift: 8h", 28800), ({"shift": "8h"}, 28800), ("shift: -30m", -1800)])
def test_clock_shift(clock: Any, shift_s: float) -> None:
    assert device(clock=clock).clock == ClockShift.model_construct(shift=shift_s)


@pytest.mark.parametrize(
    "keys",
    [
        {"clock": "plc"},
        {"clock": "shift: eight"},
        {"load": {"connections": 2}},
        {"subscribe": {"sampling": "1"}},
        {"subscribe": {"publish": "1s"}},
        {"point": {"type": "real"}},
        {"point": {"address": "holding 0"}},
    ],
)
def test_other_mistakes_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        device(**keys)


def test_loading_the_adapter_type_does_not_load_asyncua() -> None:
    code = "import sys, adapters.opcua; sys.exit('asyncua' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert (ADAPTER.name, ADAPTER.device_model) == ("opcua", OpcUaDeviceConfig)
