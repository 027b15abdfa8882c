"""A certificate expires while the gateway runs: what the device says, how it is mended, a neighbour that goes on."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest_asyncio
from asyncua import Server, ua
from asyncua.crypto.validator import CertificateValidator, CertificateValidatorOptions

from gateway.commands.main import main
from tests.fault.test_opcua_life import Device
from tests.support.broker import free_port
from tests.support.machine import slowdown
from tests.support.opcua_certificates import Pair, make_pair
from tests.support.opcua_rig import patient_device as device
from tests.support.tcp_pipe import TcpPipe
from tests.support.wait import eventually

PLANT = make_pair("plant server", hosts=("127.0.0.1",))
SECURITY = "Basic256Sha256/SignAndEncrypt"
PERIOD_S = 0.1
LONGEST_WAIT_S = 40.0
"""a device that is refused is tried at most 30 s apart, and then has to log in"""


@asynccontextmanager
async def serving(port: int, shown: Pair) -> AsyncIterator[Server]:
    """An asyncua server that counts, and lets nobody in whose certificate has expired."""
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/plant")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity, ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
    await server.load_certificate(shown.der, "der")
    await server.load_private_key(shown.key_pem, format="pem")
    server.set_certificate_validator(CertificateValidator(CertificateValidatorOptions.TIME_RANGE))
    await server.register_namespace("http://plant.test")
    node = await server.nodes.objects.add_variable(
        ua.NodeId("level", 2), ua.QualifiedName("level", 2), 0, varianttype=ua.VariantType.Int64
    )
    async with server:
        counting = asyncio.create_task(_count(server, node.nodeid))
        try:
            yield server
        finally:
            counting.cancel()
            await asyncio.gather(counting, return_exceptions=True)


async def _count(server: Server, node: ua.NodeId) -> None:
    value = 0
    while True:
        value += 1
        await server.write_attribute_value(node, ua.DataValue(ua.Variant(value, ua.VariantType.Int64)))
        await asyncio.sleep(PERIOD_S)


@pytest_asyncio.fixture
async def neighbour() -> AsyncIterator[Device]:
    """A device at a server of its own, which is connected to all along."""
    port = free_port()
    async with serving(port, PLANT):
        one = Device("neighbour", device(port, ["ns=2;s=level"]))
        async with one.running(1):
            yield one


def secured(port: int, pki: Path) -> Device:
    # Not longer: a subscription that the server took into the grave with its session is given up after that.
    connection = {"security": SECURITY, "pki": str(pki), "timeout": "3s"}
    return Device("reactor", device(port, ["ns=2;s=level"], connection=connection))


def pki_with(folder: Path, ours: Pair, server: Pair) -> Path:
    """A folder with our certificate, in which the server's is trusted."""
    (folder / "own").mkdir(parents=True)
    (folder / "trusted").mkdir()
    (folder / "own" / "certificate.der").write_bytes(ours.der)
    (folder / "own" / "key.pem").write_bytes(ours.key_pem)
    (folder / "trusted" / "plant.der").write_bytes(server.der)
    return folder


def soon(name: str, **keys: Any) -> Pair:
    """A certificate that is valid for a short time from now on, in which a busy machine can connect."""
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=min(15 * slowdown(), 60))
    return make_pair(name, end=end.replace(microsecond=0), **keys)


async def expired(pair: Pair) -> None:
    end = pair.certificate.not_valid_after_utc
    await eventually(lambda: datetime.datetime.now(datetime.UTC) > end, 80)


async def assert_goes_on(one: Device) -> None:
    """It has been well all along, has lost nothing, and new values come."""
    values = one.values(0)
    assert values == list(range(values[0], values[-1] + 1))
    await eventually(lambda: one.values(0)[-1] > values[-1] + 2)
    assert one.state.state == "up"
    assert one.state.outages == 0


async def test_our_certificate_expires(tmp_path: Path, neighbour: Device) -> None:
    port = free_port()
    async with serving(port, PLANT) as server, TcpPipe("127.0.0.1", port) as pipe:
        ours = soon("gateway", uri="urn:box:edge-gateway", key=1)
        pki = pki_with(tmp_path / "pki", ours, PLANT)
        one = secured(pipe.port, pki)
        async with one.running(1):
            await expired(ours)
            await eventually(lambda: one.values(0)[-1] > one.values(0)[0] + 10)
            assert one.state.state == "up", "a connection that stands is not touched"
            neighbour.slowest_s = 0.0
            server.iserver._external_sessions.clear()  # else it lets us into the old one
            pipe.cut()
            await eventually(lambda: one.state.state == "refused", 60, str(one.state))
            error = one.state.error or ""
            assert (
                f"our certificate {pki / 'own' / 'certificate.der'} expired on {datetime.date.today():%Y-%m-}" in error
            )
            assert f"edge-gateway certs renew --pki {pki}" in error
            assert "BadCertificateTimeInvalid" in error
            await assert_goes_on(neighbour)
            neighbour.assert_never_slower(1)
            assert await asyncio.to_thread(main, ["certs", "renew", "--pki", str(pki)]) == 0
            await eventually(lambda: one.state.state == "up", LONGEST_WAIT_S, "mended without a restart")
            before = one.values(0)[-1]
            await eventually(lambda: one.values(0)[-1] > before)
    await assert_goes_on(neighbour)


async def test_the_servers_certificate_expires(tmp_path: Path, neighbour: Device) -> None:
    port = free_port()
    async with TcpPipe("127.0.0.1", port) as pipe:
        shown, renewed = soon("plant server"), make_pair("plant server, renewed", key=3)
        pki = pki_with(tmp_path / "pki", make_pair("gateway", uri="urn:box:edge-gateway", key=1), shown)
        one = secured(pipe.port, pki)
        async with serving(port, shown):
            task = asyncio.create_task(one.supervisor.run(one, 0))  # type: ignore[arg-type]
            await eventually(lambda: one.values(0), 60)
            await expired(shown)
            await eventually(lambda: one.values(0)[-1] > one.values(0)[0] + 10)
            assert one.state.state == "up", "a connection that stands is not touched"
            neighbour.slowest_s = 0.0
            pipe.cut()
            await eventually(lambda: one.state.state == "refused", 60, str(one.state))
            error = one.state.error or ""
            assert (
                f"the server's certificate sha256:{shown.fingerprint} (CN=plant server) is trusted, but it expired"
                in error
            )
            assert "replace it, or set connection.trust" in error
            await assert_goes_on(neighbour)
            neighbour.assert_never_slower(1)
        try:
            async with serving(port, renewed):
                await eventually(lambda: "is not trusted" in (one.state.error or ""), 40)
                assert f"edge-gateway certs trust {renewed.fingerprint}" in (one.state.error or "")
                trust = ["certs", "trust", renewed.fingerprint, "--pki", str(pki)]
                assert await asyncio.to_thread(main, trust) == 0
                await eventually(lambda: one.state.state == "up", 40, "mended without a restart")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert neighbour.state.outages == 0


async def test_a_server_that_says_nothing_and_closes_the_connection(tmp_path: Path) -> None:
    """As some do with an expired certificate, instead of saying BadCertificateTimeInvalid."""
    port = free_port()
    async with serving(port, PLANT), TcpPipe("127.0.0.1", port) as pipe:
        now = datetime.datetime.now(datetime.UTC)
        start, end = now - datetime.timedelta(days=30), now - datetime.timedelta(days=3)
        ours = make_pair("gateway", uri="urn:box:edge-gateway", key=1, start=start, end=end)
        pki = pki_with(tmp_path / "pki", ours, PLANT)
        one = secured(pipe.port, pki)
        pipe.most = 1
        task = asyncio.create_task(one.supervisor.run(one, 0))  # type: ignore[arg-type]
        try:
            await eventually(lambda: one.state.state == "refused", 60, str(one.state))
            assert "certs renew" in (one.state.error or "")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
