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


@pytest.mark.parametrize("security", ["Basic512/Sign", "Basic256Sha256", "Basic256Sha256/None", "none", ""])
def test_unknown_security_is_refused(security: str) -> None:
    with pytest.raises(ValidationError, match="expected None or <policy>/<mode>"):
        device(connection={"security": security})


@pytest.mark.parametrize("security", ["Basic256/Sign", "Basic128Rsa15/SignAndEncrypt"])
def test_deprecated_security_is_for_those_who_ask_for_it(security: str) -> None:
    with pytest.raises(ValidationError, match=r"rests on SHA-1.*allow_deprecated_security: true"):
        device(connection={"security": security})
    assert device(connection={"security": security, "allow_deprecated_security": True}).connection.deprecated
    assert not device(connection={"security": "Basic256Sha256/Sign"}).connection.deprecated


def test_policies_may_be_written_as_servers_write_them() -> None:
    made = device(connection={"security": "Aes256_Sha256_RsaPss/SignAndEncrypt"})
    assert made.connection.security == "Aes256Sha256RsaPss/SignAndEncrypt"


def test_certificates_have_a_folder_or_are_given_in_pairs() -> None:
    assert device(connection={"security": "Basic256Sha256/Sign"}).connection.pki == "/var/lib/edge-gateway/pki"
    device(connection={"security": "Aes256Sha256RsaPss/Sign", "certificate": "c.der", "key": "k.pem"})
    with pytest.raises(ValidationError, match="give both or neither"):
        device(connection={"security": "Basic256Sha256/Sign", "certificate": "c.der"})


@pytest.mark.parametrize("written", ["sha256:" + "ab" * 32, "AB:" * 31 + "AB", "sha256:" + "AB" * 32])
def test_a_pin_is_written_as_tools_show_it(written: str) -> None:
    assert device(connection={"trust": written}).connection.trust == "ab" * 32


@pytest.mark.parametrize("written", ["", "sha256:", "ab" * 20, "sha1:" + "ab" * 32, "xy" * 32])
def test_a_pin_is_a_whole_fingerprint(written: str) -> None:
    with pytest.raises(ValidationError, match="expected a SHA-256 fingerprint"):
        device(connection={"trust": written})


@pytest.mark.parametrize(
    "user",
    [
        {},
        {"name": "a"},
        {"password": "hunter2"},
        {"certificate": "c.der"},
        {"name": "a", "key": "k.pem"},
        {"name": "a", "password": "hunter2", "certificate": "c.der", "key": "k.pem"},
        {"name": "a", "password": "hunter2", "key": "k.pem"},
    ],
)
def test_a_user_logs_in_one_way(user: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="expected name and password, or certificate and key") as caught:
        device(connection={"user": user, "allow_insecure_password": True})
    assert "hunter2" not in str(caught.value)


def test_a_user_certificate_needs_no_encryption() -> None:
    device(connection={"user": {"certificate": "c.der", "key": "k.pem"}})


USER = {"name": "gateway", "password": "hunter2"}


@pytest.mark.parametrize("security", ["None", "Basic256Sha256/Sign"])
def test_a_password_does_not_travel_in_the_clear(security: str) -> None:
    keys = {"security": security, "user": USER}
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


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), "nan", "1e999", "inf%", "nan%", 0, -1, True, "101%"])
def test_a_deadband_that_no_value_could_cross_is_refused(wrong: object) -> None:
    with pytest.raises(ValidationError, match="expected a number above 0"):
        device(point={"deadband": wrong})


@pytest.mark.parametrize("wrong", ["0s", "nevr", "1", 5, "-1s"])
def test_how_a_point_is_polled_says_what_it_may_be(wrong: object) -> None:
    with pytest.raises(ValidationError, match="expected a duration above 0 such as 500ms or 1m, or never, found"):
        device(point={"poll": wrong})
    assert device(point={"poll": "never"}).points[0].poll == "never"
    assert device(point={"poll": "2s"}).points[0].poll == 2
