"""Every policy, mode and login against node-opcua, with real data through each channel."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.contract import Refused
from tests.support.interop import InteropServer, interop_server
from tests.support.opcua_certificates import Pair, make_pair
from tests.support.opcua_rig import KeepingSink, adapter_of, all_heard, running
from tests.support.opcua_rig import patient_device as device
from tests.support.wait import eventually

COUNTERS = 1_000
"""so many initial values that they come in several chunks of a message, each encrypted by itself"""
COUNTS = 20
POLICIES = ["Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"]
CHANNELS = ["None", *(f"{policy}/{mode}" for policy in POLICIES for mode in ("Sign", "SignAndEncrypt"))]
LOGIN = {"name": "gateway", "password": "right"}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def user() -> Pair:
    return make_pair("operator", uri="urn:operator", key=1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory, user: Pair) -> AsyncIterator[InteropServer]:
    folder = tmp_path_factory.mktemp("server")
    users = folder / "users"
    (users / "trusted" / "certs").mkdir(parents=True)
    (users / "trusted" / "certs" / "operator.der").write_bytes(user.der)
    options = {"user": "gateway", "password": "right", "users": str(users), "anonymous": True}
    async with interop_server(folder, counters=COUNTERS, period_ms=100, quiet_time=True, **options) as made:
        yield made


async def connection(server: InteropServer, folder: Path, security: str, user: Any = None) -> dict[str, Any]:
    """Keys with which this server's certificate is trusted, as its refusal says."""
    keys: dict[str, Any] = {"security": security, "pki": str(folder / "pki")}
    if security != "None":
        with pytest.raises(Refused, match="is not trusted") as refused:
            await adapter_of(device(server.port, [server.node("Double")], connection=keys)).run(KeepingSink())
        pin = re.search(r'connection\.trust: "(.*)"', str(refused.value))
        assert pin is not None, "its certificate is for the host's name, not for 127.0.0.1"
        keys["trust"] = pin[1]
    return {**keys, **({"user": user} if user else {})}


@pytest.mark.parametrize("security", CHANNELS)
async def test_no_value_is_missing_through_any_channel(server: InteropServer, tmp_path: Path, security: str) -> None:
    keys = await connection(server, tmp_path, security)
    config = device(server.port, [server.node(f"c{i}") for i in range(COUNTERS)], connection=keys)
    sink = KeepingSink()
    async with running(adapter_of(config), sink) as task:
        await all_heard(sink, task, COUNTERS, 20)
        before: list[int] = (await server.tell("run"))["values"]
        await eventually(lambda: task.done() or sink.values(0)[-1] >= before[0] + COUNTS, 20)
        final: list[int] = (await server.tell("pause"))["values"]
        await eventually(lambda: all(sink.values(point)[-1] == final[point] for point in range(COUNTERS)))
    for point in range(COUNTERS):
        assert sink.values(point) == list(range(before[point], final[point] + 1)), f"{security}: c{point}"
    assert sink.gaps == []


@pytest.mark.parametrize("security", ["None", "Basic256Sha256/Sign", "Aes256_Sha256_RsaPss/SignAndEncrypt"])
async def test_polled_values_through_any_channel(server: InteropServer, tmp_path: Path, security: str) -> None:
    keys = await connection(server, tmp_path, security)
    nodes = [server.node(f"c{i}") for i in range(COUNTERS)]
    sink = KeepingSink()
    async with running(adapter_of(device(server.port, nodes, connection=keys, poll="200ms")), sink) as task:
        await all_heard(sink, task, COUNTERS, 20)
        before: list[int] = (await server.tell("run"))["values"]
        await eventually(lambda: task.done() or sink.values(0)[-1] >= before[0] + 5, 20)
        final: list[int] = (await server.tell("pause"))["values"]
        await eventually(lambda: all(sink.values(point)[-1] == final[point] for point in range(COUNTERS)))
    for point in range(COUNTERS):
        assert sink.values(point) == sorted(sink.values(point)), f"{security}: c{point}"


@pytest.mark.parametrize("security", ["Basic256Sha256/SignAndEncrypt", "Aes256_Sha256_RsaPss/SignAndEncrypt"])
async def test_a_user_and_a_wrong_password(server: InteropServer, tmp_path: Path, security: str) -> None:
    keys = await connection(server, tmp_path, security, LOGIN)
    nodes = [server.node("Double")]
    sink = KeepingSink()
    async with running(adapter_of(device(server.port, nodes, connection=keys)), sink) as task:
        await all_heard(sink, task, 1)
    assert sink.values(0) == [20.1]
    for wrong in ({**LOGIN, "password": "wrong"}, {**LOGIN, "name": "nobody"}):
        config = device(server.port, nodes, connection={**keys, "user": wrong})
        with pytest.raises(
            Refused, match=r"logging in: refused with BadUserAccessDenied .*check connection\.user"
        ) as no:
            await adapter_of(config).run(KeepingSink())
        assert "right" not in str(no.value)
        assert "wrong" not in str(no.value)


async def test_a_password_over_a_channel_that_is_not_encrypted(server: InteropServer) -> None:
    keys = {"user": LOGIN, "allow_insecure_password": True}
    sink = KeepingSink()
    async with running(adapter_of(device(server.port, [server.node("Double")], connection=keys)), sink) as task:
        await all_heard(sink, task, 1)


@pytest.mark.parametrize("security", CHANNELS[1:])
async def test_a_user_certificate(server: InteropServer, tmp_path: Path, user: Pair, security: str) -> None:
    certificate, key = user.save(tmp_path, "operator")
    keys = await connection(server, tmp_path, security, {"certificate": str(certificate), "key": str(key)})
    sink = KeepingSink()
    async with running(adapter_of(device(server.port, [server.node("Double")], connection=keys)), sink) as task:
        await all_heard(sink, task, 1)
    assert sink.values(0) == [20.1]


async def test_a_user_certificate_that_the_server_does_not_know(server: InteropServer, tmp_path: Path) -> None:
    certificate, key = make_pair("stranger", uri="urn:stranger", key=2).save(tmp_path, "stranger")
    security = "Basic256Sha256/SignAndEncrypt"
    keys = await connection(server, tmp_path, security, {"certificate": str(certificate), "key": str(key)})
    with pytest.raises(Refused, match=r"refused with BadIdentityTokenRejected .*check connection\.user"):
        await adapter_of(device(server.port, [server.node("Double")], connection=keys)).run(KeepingSink())


async def test_a_server_that_wants_a_user_and_gets_none(tmp_path: Path) -> None:
    async with interop_server(tmp_path, user="gateway", password="right") as server:
        with pytest.raises(Refused, match=r"check connection\.user"):
            await adapter_of(device(server.port, [server.node("Double")])).run(KeepingSink())
