"""Every policy and login against a real server: who is let in, who is refused, and what the refusal says."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import Server, ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.user_managers import UserManager
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from adapters.opcua.adapter import OpcUaAdapter
from adapters.opcua.config import OpcUaDeviceConfig
from adapters.opcua.connecting.certificates import certificate_expires
from adapters.opcua.connecting.connect import open_session
from adapters.opcua.connecting.trust import application_uri_of, load
from gateway.commands.main import main
from gateway.contract import LinkLost, Point, Refused, SystemClock
from tests.support.broker import free_port
from tests.support.fake_sink import FakeSink
from tests.support.opcua_certificates import DAY, NOW, make_pair
from tests.support.wait import eventually

# One server with every policy; a server takes seconds to start.
pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVER = make_pair("plant server", hosts=("127.0.0.1",))
ENGINEER = make_pair("engineer", hosts=(), uri=None, key=1)
STRANGER = make_pair("stranger", hosts=(), uri=None, key=2)
POLICIES = ("Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")
MODES = ("Sign", "SignAndEncrypt")
NODE = "ns=2;s=level"


class Users(UserManager):
    """Anybody without a login, one name, one certificate."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.anonymous = True

    def get_user(
        self, iserver: Any, username: str | None = None, password: str | None = None, certificate: Any = None
    ) -> User | None:
        if username is not None:
            self.seen.append(username)
            return User(role=UserRole.User) if (username, password) == ("gateway", "right") else None
        if certificate == ENGINEER.der:
            self.seen.append("certificate")
            return User(role=UserRole.User)
        return User(role=UserRole.User) if self.anonymous else None


class Served:
    def __init__(self, server: Server, port: int, users: Users) -> None:
        self.server = server
        self.port = port
        self.users = users

    def config(self, pki: Path, host: str = "127.0.0.1", port: int | None = None, **connection: Any) -> Any:
        return OpcUaDeviceConfig.model_validate(
            {
                "device": "reactor",
                "adapter": "opcua",
                "connection": {
                    "url": f"opc.tcp://{host}:{port or self.port}",
                    "security": "Basic256Sha256/SignAndEncrypt",
                    "pki": str(pki),
                    "timeout": "3s",
                    **connection,
                },
                "subscribe": {"publishing": "50ms", "sampling": "50ms", "queue": "1s"},
                "points": [{"point": "level", "node": NODE}],
            }
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Served]:
    users = Users()
    server = Server(user_manager=users)
    await server.init()
    port = free_port()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/plant")
    server.set_security_policy([each for each in ua.SecurityPolicyType if "Basic128" not in each.name])
    await server.load_certificate(SERVER.der, "der")
    await server.load_private_key(SERVER.key_pem, format="pem")
    await server.register_namespace("http://plant.test")
    await server.nodes.objects.add_variable(
        ua.NodeId("level", 2), ua.QualifiedName("level", 2), 1.5, varianttype=ua.VariantType.Double
    )
    async with server:
        yield Served(server, port, users)


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    """A folder in which the server is trusted."""
    folder = tmp_path / "pki"
    (folder / "trusted").mkdir(parents=True)
    (folder / "trusted" / "plant server.der").write_bytes(SERVER.der)
    return folder


async def read_level(config: Any) -> float:
    async with open_session(config.connection, config.load) as session:
        value = await session.client.get_node(NODE).read_value()
        assert isinstance(value, float)
        return value


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("policy", POLICIES)
async def test_every_policy_and_mode(served: Served, pki: Path, policy: str, mode: str) -> None:
    assert await read_level(served.config(pki, security=f"{policy}/{mode}")) == 1.5


async def test_a_deprecated_policy_needs_an_opt_in_and_warns(
    served: Served, pki: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = served.config(pki, security="Basic256/SignAndEncrypt", allow_deprecated_security=True)
    for _ in range(2):
        assert await read_level(config) == 1.5
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert sum("Basic256 rests on SHA-1" in text for text in warnings) == 1
    assert len(warnings) == 1, warnings


@pytest.mark.parametrize("security", ["Basic256Sha256/SignAndEncrypt", "Aes256_Sha256_RsaPss/SignAndEncrypt"])
async def test_a_password_over_an_encrypted_channel(served: Served, pki: Path, security: str) -> None:
    user = {"name": "gateway", "password": "right"}
    assert await read_level(served.config(pki, security=security, user=user)) == 1.5
    assert served.users.seen[-1] == "gateway"
    with pytest.raises(Refused, match=r"check connection\.user"):
        await read_level(served.config(pki, security=security, user={**user, "password": "wrong"}))


@pytest.mark.parametrize("security", ["Basic256Sha256/Sign", "Aes256_Sha256_RsaPss/SignAndEncrypt", "None"])
async def test_a_user_certificate(served: Served, pki: Path, tmp_path: Path, security: str) -> None:
    certificate, key = ENGINEER.save(tmp_path, "engineer")
    user = {"certificate": str(certificate), "key": str(key)}
    assert await read_level(served.config(pki, security=security, user=user)) == 1.5
    assert served.users.seen[-1] == "certificate"


async def test_a_strange_user_certificate_is_refused(served: Served, pki: Path, tmp_path: Path) -> None:
    certificate, key = STRANGER.save(tmp_path, "stranger")
    served.users.anonymous = False
    try:
        with pytest.raises(Refused, match=r"check connection\.user"):
            await read_level(served.config(pki, user={"certificate": str(certificate), "key": str(key)}))
    finally:
        served.users.anonymous = True
    with pytest.raises(Refused, match=r"nowhere\.pem.*check connection\.user"):
        await read_level(
            served.config(pki, user={"certificate": str(certificate), "key": str(tmp_path / "nowhere.pem")})
        )


async def test_an_unknown_server_is_refused_until_the_printed_command_was_run(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = served.config(tmp_path / "a folder" / "pki")
    with pytest.raises(Refused) as caught:
        await read_level(config)
    message = str(caught.value)
    assert f"sha256:{SERVER.fingerprint}" in message
    command = re.search(r"edge-gateway (certs trust .*)$", message)
    assert command is not None, message
    assert await asyncio.to_thread(main, shlex.split(command[1])) == 0
    assert SERVER.fingerprint in capsys.readouterr().out
    assert await read_level(config) == 1.5
    assert main(["certs", "reject", SERVER.fingerprint, "--pki", config.connection.pki]) == 0
    with pytest.raises(Refused, match="is not trusted"):
        await read_level(config)


async def test_a_wrong_host_name_needs_an_exception_for_this_certificate(served: Served, pki: Path) -> None:
    with pytest.raises(Refused, match=r"is trusted, but it is for 127\.0\.0\.1, not for localhost") as caught:
        await read_level(served.config(pki, host="localhost"))
    trust = re.search(r'connection\.trust: "([^"]+)"', str(caught.value))
    assert trust is not None
    assert await read_level(served.config(pki, host="localhost", trust=trust[1])) == 1.5


async def test_a_pin_accepts_no_other_certificate(served: Served, pki: Path) -> None:
    with pytest.raises(Refused, match=rf"is not the one that connection\.trust names \(sha256:{'0' * 64}\)"):
        await read_level(served.config(pki, trust=f"sha256:{'0' * 64}"))


@asynccontextmanager
async def showing(served: Served, certificate: bytes) -> AsyncIterator[None]:
    """The server's endpoints carry another certificate."""
    endpoints = served.server.iserver.endpoints
    before = [endpoint.ServerCertificate for endpoint in endpoints]
    try:
        for endpoint in endpoints:
            endpoint.ServerCertificate = certificate
        yield
    finally:
        for endpoint, old in zip(endpoints, before, strict=True):
            endpoint.ServerCertificate = old


async def test_an_expired_certificate_is_refused_although_it_is_trusted(served: Served, pki: Path) -> None:
    expired = make_pair("plant server", start=NOW - 100 * DAY, end=NOW - DAY)
    (pki / "trusted" / "old.pem").write_bytes(expired.pem)
    async with showing(served, expired.der):
        with pytest.raises(Refused, match=r"is trusted, but it expired on \d{4}-\d\d-\d\d; replace it, or set"):
            await read_level(served.config(pki))


async def test_a_server_without_the_key_of_the_certificate_it_shows(served: Served, pki: Path) -> None:
    (pki / "trusted" / "x.der").write_bytes((shown := make_pair("plant server", key=3)).der)
    async with showing(served, shown.der):
        with pytest.raises(LinkLost):
            await read_level(served.config(pki, timeout="300ms"))


async def test_a_policy_that_the_server_lacks_names_those_it_has(served: Served, pki: Path) -> None:
    config = served.config(pki, security="Basic128Rsa15/Sign", allow_deprecated_security=True)
    with pytest.raises(Refused, match=r"does not offer Basic128Rsa15/Sign.*Aes128Sha256RsaOaep/Sign, .*None"):
        await read_level(config)


async def test_the_configured_address_is_used_whatever_the_endpoints_say(served: Served, pki: Path) -> None:
    endpoints = served.server.iserver.endpoints
    before = [endpoint.EndpointUrl for endpoint in endpoints]
    for endpoint in endpoints:
        endpoint.EndpointUrl = "opc.tcp://plc-17.invalid:4840/plant"
    try:
        assert await read_level(served.config(pki)) == 1.5
    finally:
        for endpoint, old in zip(endpoints, before, strict=True):
            endpoint.EndpointUrl = old


async def test_own_certificate_is_made_once_and_kept(served: Served, pki: Path) -> None:
    config = served.config(pki)
    await asyncio.gather(*(read_level(config) for _ in range(3)))
    certificate, key = pki / "own" / "certificate.der", pki / "own" / "key.pem"
    assert key.stat().st_mode & 0o077 == 0
    made = certificate.read_bytes()
    key.rename(pki / "k.pem")
    with pytest.raises(Refused, match=r"key\.pem is missing"):
        await read_level(config)
    (pki / "k.pem").rename(key)
    assert await read_level(config) == 1.5
    assert certificate.read_bytes() == made


async def test_given_certificates_may_be_pem(served: Served, pki: Path, tmp_path: Path) -> None:
    ours = make_pair("gateway", uri="urn:box:edge-gateway", key=1)
    (tmp_path / "c.crt").write_bytes(ours.certificate.public_bytes(Encoding.PEM))
    (tmp_path / "k.key").write_bytes(ours.key_pem)
    config = served.config(pki, certificate=str(tmp_path / "c.crt"), key=str(tmp_path / "k.key"))
    assert await read_level(config) == 1.5
    assert not (pki / "own").exists()


async def test_a_certificate_of_ours_that_ends_soon_is_told_once(
    served: Served, pki: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = make_pair("gateway", uri="urn:box:gw", end=NOW + 30 * DAY, key=1).save(tmp_path, "own")
    config = served.config(pki, certificate=str(certificate), key=str(key))
    for _ in range(2):
        assert await read_level(config) == 1.5
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text for text in warnings if "expires in 29 days" in text and "certs renew" in text] == warnings
    assert len(warnings) == 1


class Kept(FakeSink):
    """A sink that keeps what is offered and commits when told."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[float] = []
        self.commit.clear()

    async def offer(self, batches: Any, origin: Any = None) -> FakeSink:
        self.values += [float(value) for batch in batches for value in batch.values]
        return await super().offer(batches, origin)


async def test_an_encrypted_connection_acquires_and_acknowledges_after_the_commit(served: Served, pki: Path) -> None:
    config = served.config(pki, security="Aes128_Sha256_RsaOaep/SignAndEncrypt")
    sink = Kept()
    known = set(served.server.iserver.subscription_service.subscriptions)
    adapter = OpcUaAdapter(config, [Point(0, config.points[0])], SystemClock())
    task = asyncio.create_task(adapter.run(sink), name="adapter")
    try:
        await eventually(lambda: task.done() or sink.values == [1.5])
        services = served.server.iserver.subscription_service.subscriptions
        (number,) = set(services) - known
        node = ua.NodeId("level", 2)
        value = ua.DataValue(ua.Variant(2.5, ua.VariantType.Double))
        await served.server.write_attribute_value(node, value)
        await eventually(lambda: task.done() or sink.values == [1.5, 2.5])
        assert len(services[number]._not_acknowledged_results) == 2
        sink.commit.set()
        await served.server.write_attribute_value(node, ua.DataValue(ua.Variant(1.5, ua.VariantType.Double)))
        await eventually(lambda: task.done() or len(services[number]._not_acknowledged_results) <= 1)
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_export_hands_out_what_the_server_must_trust(
    served: Served, pki: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    await read_level(served.config(pki))
    assert main(["certs", "export", "--pki", str(pki)]) == 0
    assert load(capsysbinary.readouterr().out) == load((pki / "own" / "certificate.der").read_bytes())
    assert main(["certs", "list", "--json", "--pki", str(pki)]) == 0
    listed = json.loads(capsysbinary.readouterr().out)["certificates"]
    assert [each["state"] for each in listed] == ["own", "trusted"]


async def test_a_device_changes_to_the_next_certificate_when_its_server_accepts_it(
    served: Served, pki: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trusted: set[bytes] = set()
    used: list[bytes] = []

    async def only_known(certificate: x509.Certificate, _: Any) -> None:
        raw = certificate.public_bytes(Encoding.DER)
        used.append(raw)
        if raw not in trusted:
            raise ServiceError(ua.StatusCodes.BadCertificateUntrusted)

    config = served.config(pki)
    await read_level(config)
    own, following = pki / "own" / "certificate.der", pki / "own" / "next-certificate.der"
    trusted.add(old := own.read_bytes())
    assert certificate_expires(config.connection) == load(old).not_valid_after_utc.timestamp()
    served.server.set_certificate_validator(only_known)
    try:
        assert main(["certs", "renew", "--pki", str(pki)]) == 0
        assert application_uri_of(load(following.read_bytes())) == application_uri_of(load(old))
        for _ in range(2):
            assert await read_level(config) == 1.5
            assert used[-1] == old
        assert sum("the old one is used meanwhile" in record.getMessage() for record in caplog.records) == 1
        trusted.add(new := following.read_bytes())
        assert await read_level(config) == 1.5
        assert used[-1] == new
        assert certificate_expires(config.connection) == load(new).not_valid_after_utc.timestamp()
        used.clear()
        assert await read_level(config) == 1.5
        assert used == [new], "no trial once it is accepted"
        assert main(["certs", "renew", "--pki", str(pki)]) == 2
        assert main(["certs", "renew", "--finish", "--pki", str(pki)]) == 0
        assert own.read_bytes() == new
        assert await read_level(config) == 1.5
    finally:
        served.server.iserver.certificate_validator = None
    assert len(list((pki / "own").glob("until-*"))) == 2
    assert sorted(path.name for path in (pki / "own").iterdir() if "until" not in path.name) == [
        "certificate.der",
        "key.pem",
    ]
