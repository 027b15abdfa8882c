"""`browse` and `read` as subprocesses against real servers, with a proxy between them that counts what is asked."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from asyncua import Server, ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.user_managers import UserManager

from adapters.opcua.tools import OpcUaTools
from gateway.config import load_config
from gateway.contract import ConfigError, LinkLost, Point, Refused, SystemClock
from gateway.contract.tools import BrowseQuery, Target
from simulators.plant.opcua import NAMESPACE, OpcUaDevice
from tests.support.broker import free_port
from tests.support.opcua_certificates import make_pair
from tests.support.opcua_wire import OpcUaWire
from tests.unit.config.plant import GATEWAY

BROWSE, BROWSE_NEXT, READ = 527, 533, 631
MANY = 500
SERVER = make_pair("locked server", hosts=("127.0.0.1",))
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.asyncio(loop_scope="module")


class OneUser(UserManager):
    def get_user(
        self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None
    ) -> User | None:
        return User(role=UserRole.User) if (username, password) == ("engineer", "geheim") else None


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def report(self) -> Any:
        return json.loads(self.out)


async def edge_gateway(*arguments: str, **environment: str) -> Ran:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.commands.main", *arguments,
        cwd=ROOT, env=os.environ | environment, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(100):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert b"Traceback" not in err, err.decode()
    return Ran(process.returncode or 0, out.decode(), err.decode())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plant() -> AsyncIterator[OpcUaDevice]:
    """500 values, and a few with everything around them: units, ranges, arrays, rights, a bad status, equal names."""
    many = {f"P{i:03}": (ua.VariantType.Double, float(i)) for i in range(MANY)}
    async with OpcUaDevice(many) as device:
        index = await device.server.get_namespace_index(NAMESPACE)
        reactor = await device.server.nodes.objects.add_folder(
            ua.NodeId("Reactor", index), ua.QualifiedName("Reactor 3", index)
        )
        await _furnish(reactor, index, device.server)
        yield device


async def _furnish(reactor: Any, index: int, server: Server) -> None:
    async def add(key: str, name: str, value: Any, kind: ua.VariantType, group: Any = reactor, tag: str = "") -> Any:
        node = await group.add_variable(
            ua.NodeId(key, index), ua.QualifiedName(tag or key, index), ua.Variant(value, kind)
        )
        text = ua.Variant(ua.LocalizedText(name), ua.VariantType.LocalizedText)
        await node.write_attribute(ua.AttributeIds.DisplayName, ua.DataValue(text))
        return node

    def standard(name: str) -> ua.QualifiedName:
        return ua.QualifiedName(name, 0)

    temperature = await add("TIC-301.PV", "釜内温度", 81.5, ua.VariantType.Double)
    unit = ua.EUInformation(UnitId=4408652, DisplayName=ua.LocalizedText("℃"))
    await temperature.add_property(
        ua.NodeId("EU", index), standard("EngineeringUnits"), ua.Variant(unit, ua.VariantType.ExtensionObject)
    )
    span = ua.Variant(ua.Range(0.0, 200.0), ua.VariantType.ExtensionObject)
    await temperature.add_property(ua.NodeId("Range", index), standard("EURange"), span)
    await (await add("SP", "Setpoint", 80.0, ua.VariantType.Float)).set_writable()
    await add("Steps", "Recipe steps", [1, 2, 3], ua.VariantType.Int32)
    await add("Evil", "${file:/etc/passwd}", "\x1b[31m${env:HOME}", ua.VariantType.String)
    sensor = await add("Sensor", "Broken sensor", 0.0, ua.VariantType.Double)
    broken = ua.DataValue(StatusCode=ua.StatusCode(ua.UInt32(0x808C0000)))
    await server.write_attribute_value(sensor.nodeid, broken)
    secret = await add("Secret", "Not for us", 1, ua.VariantType.Int32)
    for attribute in (ua.AttributeIds.AccessLevel, ua.AttributeIds.UserAccessLevel):
        await secret.write_attribute(attribute, ua.DataValue(ua.Variant(0, ua.VariantType.Byte)))
    for pump in ("Pump 1", "Pump 2"):
        group = await reactor.add_object(ua.NodeId(pump, index), ua.QualifiedName(pump, index))
        await add(f"{pump}.Speed", "Speed", 2950, ua.VariantType.UInt16, group, "Speed")
        await group.add_property(ua.NodeId(f"{pump}.SN", index), ua.QualifiedName("SerialNumber", index), "0042")


@pytest_asyncio.fixture(loop_scope="module")
async def wire(plant: OpcUaDevice) -> AsyncIterator[OpcUaWire]:
    async with OpcUaWire("127.0.0.1", plant.port) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def locked_url() -> AsyncIterator[str]:
    server = Server(user_manager=OneUser())
    await server.init()
    url = f"opc.tcp://127.0.0.1:{free_port()}/locked"
    server.set_endpoint(url)
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity, ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
    await server.load_certificate(SERVER.der, "der")
    await server.load_private_key(SERVER.key_pem, format="pem")
    async with server:
        yield url


def _url(wire: OpcUaWire) -> str:
    return f"opc.tcp://127.0.0.1:{wire.port}/plant"


async def test_browse_takes_few_calls_that_only_read_and_tells_what_values_are(wire: OpcUaWire) -> None:
    ran = await edge_gateway("browse", _url(wire), "--json")
    assert (ran.code, ran.err) == (0, "")
    nodes = {node["path"]: node for node in ran.report["nodes"]}
    assert sum(node["kind"] == "value" for node in nodes.values()) == MANY + 8
    assert not any(node["address"] == "i=2253" for node in nodes.values())
    assert wire.count(BROWSE) + wire.count(BROWSE_NEXT) <= 6
    assert wire.count(READ) <= 10
    assert wire.connections == 1
    wire.assert_read_only()

    temperature = nodes["Reactor 3/TIC-301.PV"]
    expected = {
        "address": f"nsu={NAMESPACE};s=TIC-301.PV",
        "short": "ns=3;s=TIC-301.PV",
        "name": "釜内温度",
        "tag": "TIC-301.PV",
        "kind": "value",
        "type": "Double",
        "readable": True,
        "writable": False,
        "value": 81.5,
        "status_text": "Good",
        "unit": "℃",
        "low": 0.0,
        "high": 200.0,
        "point": {"node": f"nsu={NAMESPACE};s=TIC-301.PV", "type": "float64"},
    }
    assert {key: temperature[key] for key in expected} == expected
    assert nodes["Reactor 3/SP"]["writable"] is True
    assert (nodes["Reactor 3/Steps"]["type"], nodes["Reactor 3/Steps"]["value"]) == ("Int32[]", [1, 2, 3])
    assert nodes["Reactor 3/Sensor"]["status_text"].startswith("BadSensorFailure: ")
    assert (nodes["Reactor 3/Secret"]["readable"], nodes["Reactor 3/Secret"]["point"]) == (False, None)
    assert nodes["Reactor 3/Pump 1/SerialNumber"]["kind"] == "property"
    assert not any("EURange" in path for path in nodes)


async def test_browse_as_a_tree(plant: OpcUaDevice) -> None:
    ran = await edge_gateway("browse", plant.url, "--path", "Reactor 3")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0] == "FreeOpcUa Python Server · FreeOpcUa · 1.0pre"
    assert lines[1:3] == ["Objects  i=85", "└─ Reactor 3  ns=3;s=Reactor"]
    (temperature,) = (line for line in lines if "TIC-301.PV" in line)
    assert " ".join(temperature.split()[1:]) == "釜内温度 81.5 ℃ (0 … 200) Double r ns=3;s=TIC-301.PV"
    assert any("BadSensorFailure" in line for line in lines)
    assert f"ns=3  {NAMESPACE}" in lines
    assert "8 values in" in lines[-1]
    assert "\x1b" not in ran.out


async def test_browse_by_type_depth_and_root(plant: OpcUaDevice) -> None:
    async def paths(query: BrowseQuery) -> list[str]:
        found = await OpcUaTools().browse(Target(plant.url), query)
        assert found.problems == ()
        return ["/".join(item.path) for item in found.items]

    assert await paths(BrowseQuery(types=("uint16", "Float"))) == [
        "",
        "Reactor 3",
        "Reactor 3/SP",
        "Reactor 3/Pump 1",
        "Reactor 3/Pump 1/Speed",
        "Reactor 3/Pump 2",
        "Reactor 3/Pump 2/Speed",
    ]
    assert await paths(BrowseQuery(depth=1, values=False)) == ["", "Plant", "Reactor 3"]
    shallow = await OpcUaTools().browse(Target(plant.url), BrowseQuery(path="Reactor 3/TIC*", depth=2))
    assert [item.unit for item in shallow.items] == [None, None, "℃"]
    assert await paths(BrowseQuery(root=f"nsu={NAMESPACE};s=Pump 1")) == ["", "Speed", "SerialNumber"]
    assert "Server" in await paths(BrowseQuery(everything=True, depth=1))
    with pytest.raises(ConfigError, match="there is no node"):
        await paths(BrowseQuery(root="ns=3;s=Nobody"))


async def test_browse_that_is_cut_short_says_so(plant: OpcUaDevice) -> None:
    ran = await edge_gateway("browse", plant.url, "--limit", "10")
    assert ran.code == 3
    assert "not seen: stopped at 10 nodes" in ran.err


async def test_browse_keeps_to_its_rate(wire: OpcUaWire) -> None:
    await OpcUaTools().browse(Target(_url(wire), requests_per_s=10.0), BrowseQuery(path="Reactor 3"))
    # The first Read is the session's own, before the tools' requests.
    paced = [request.at for request in wire.requests if request.type_id in (BROWSE, READ)][1:]
    assert len(paced) >= 4
    assert (paced[-1] - paced[0]) / (len(paced) - 1) > 0.09


async def test_to_config_makes_a_device_file_that_passes_the_check(plant: OpcUaDevice, tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(GATEWAY)
    file = tmp_path / "devices" / "reactor-3.yaml"
    file.parent.mkdir()
    ran = await edge_gateway("browse", plant.url, "--to-config", str(file))
    assert (ran.code, ran.out) == (0, "")
    assert f"{file}: {MANY + 7} points" in ran.err
    written = file.read_text()
    assert "${" not in written
    assert "# 1 values are left out" in written
    checked = await edge_gateway("check", str(tmp_path))
    assert checked.code == 0, checked.out
    assert f"opcua: 1 device, {MANY + 7} points" in checked.out
    (device,) = load_config(tmp_path).devices
    points = {point.point: point for point in device.config.points}
    temperature = points["TIC-301_PV"]
    assert (temperature.name, temperature.tag, temperature.unit) == ("釜内温度", "TIC-301.PV", "℃")
    assert (temperature.node, temperature.type) == (f"nsu={NAMESPACE};s=TIC-301.PV", "float64")
    assert {"Pump_1_Speed", "Pump_2_Speed"} <= points.keys()
    assert points["Steps"].type is None
    built = device.adapter.build(
        device.config, [Point(i, point) for i, point in enumerate(device.config.points)], SystemClock()
    )
    assert hasattr(built, "run")

    before = file.read_bytes()
    ran = await edge_gateway("browse", plant.url, "--to-config", str(file), "--path", "Reactor 3/TIC*")
    assert ran.code == 2
    assert "the file exists" in ran.err
    assert file.read_bytes() == before
    ran = await edge_gateway("browse", plant.url, "--to-config", str(file), "--path", "Reactor 3/TIC*", "--force")
    assert ran.code == 0
    assert len(load_config(tmp_path).devices[0].config.points) == 1
    assert [each.name for each in file.parent.iterdir()] == ["reactor-3.yaml"]


async def test_read(wire: OpcUaWire) -> None:
    ran = await edge_gateway("read", _url(wire), f"nsu={NAMESPACE};s=TIC-301.PV", "ns=3;s=SP")
    assert (ran.code, ran.err) == (0, "")
    lines = [line.strip() for line in ran.out.splitlines()]
    assert lines[0] == "ns=3;s=TIC-301.PV  釜内温度"
    assert lines[1].split() == ["value", "81.5", "℃"]
    assert lines[2].split() == ["type", "Double", "(float64)"]
    assert lines[3].split() == ["status", "Good"]
    assert lines[4].startswith("source time")
    assert lines[4].endswith(" s ago)")
    assert any(line.startswith("point") and "- {point: TIC-301_PV, name: 釜内温度" in line for line in lines)
    wire.assert_read_only()
    assert wire.connections == 1


async def test_read_as_json_with_nodes_that_are_not_there(plant: OpcUaDevice) -> None:
    nodes = ("ns=3;s=Nobody", "ns=3;s=Steps", "nsu=http://nobody;i=1", "i=85", "ns=3;s=Sensor")
    ran = await edge_gateway("read", plant.url, "--json", *nodes)
    assert ran.code == 3
    nobody, steps, foreign, group, sensor = ran.report["nodes"]
    assert nobody["status_text"].startswith("BadNodeIdUnknown: ")
    assert (nobody["point"], nobody["point_line"]) == (None, None)
    assert (steps["value"], steps["status"]) == ([1, 2, 3], 0)
    assert foreign["status_text"] == "BadNodeIdUnknown: the server does not know this namespace"
    assert group["kind"] == "group"
    assert sensor["status"] == 0x808C0000
    assert (await edge_gateway("read", plant.url, "ns=3;s=Nobody")).code == 1


async def test_endpoints(locked_url: str) -> None:
    ran = await edge_gateway("browse", locked_url, "--endpoints")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert {"None", "Basic256Sha256/SignAndEncrypt"} <= set(lines)
    assert f"  certificate  SHA-256 {hashlib.sha256(SERVER.der).hexdigest()}" in lines
    assert any(line.split()[:1] == ["login"] and "user name" in line for line in lines)


async def test_login(locked_url: str) -> None:
    login = ("--user", "engineer", "--password-env", "PLANT_PASSWORD")
    ran = await edge_gateway("browse", locked_url)
    assert ran.code == 1
    assert "refused with BadUserAccessDenied" in ran.err
    assert "check --user and --password-env" in ran.err
    target = Target(locked_url, user="engineer", password="falsch", allow_insecure_password=True)
    with pytest.raises(Refused, match="refused with Bad") as caught:
        await OpcUaTools().read(target, ["i=2258"])
    assert "falsch" not in str(caught.value)
    with pytest.raises(ConfigError, match="not encrypted"):
        await OpcUaTools().read(replace(target, allow_insecure_password=False), ["i=2258"])
    ran = await edge_gateway("read", locked_url, "i=2258", *login, "--allow-insecure-password", PLANT_PASSWORD="geheim")
    assert ran.code == 0, ran.err


async def test_the_password_of_a_device_file_stays_in_the_environment(locked_url: str, tmp_path: Path) -> None:
    file = tmp_path / "locked.yaml"
    ran = await edge_gateway(
        "browse", locked_url, "--user", "engineer", "--password-env", "PLANT_PASSWORD", "--allow-insecure-password",
        "--root", "i=2256", "--to-config", str(file), PLANT_PASSWORD="geheim",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    text = file.read_text()
    assert "geheim" not in text
    assert 'user: {name: engineer, password: "${env:PLANT_PASSWORD}"}' in text
    assert "allow_insecure_password: true" in text


async def test_an_encrypted_browse_carries_the_password_and_ends_up_in_the_device_file(
    locked_url: str, tmp_path: Path
) -> None:
    pki, file = tmp_path / "pki", tmp_path / "locked.yaml"
    arguments = (
        "browse", locked_url, "--security", "Basic256Sha256/SignAndEncrypt", "--pki", str(pki), "--root", "i=2256",
        "--user", "engineer", "--password-env", "PLANT_PASSWORD", "--to-config", str(file),
    )  # fmt: skip
    ran = await edge_gateway(*arguments, PLANT_PASSWORD="geheim")
    assert ran.code == 1
    assert "edge-gateway certs trust" in ran.err
    assert not file.exists()
    (pki / "trusted").mkdir(parents=True, exist_ok=True)
    (pki / "trusted" / "server.der").write_bytes(SERVER.der)
    ran = await edge_gateway(*arguments, PLANT_PASSWORD="geheim")
    assert ran.code == 0, ran.err
    text = file.read_text()
    assert "geheim" not in text
    assert "security: Basic256Sha256/SignAndEncrypt" in text
    assert f'pki: "{pki}"' in text


async def test_nothing_listens_there() -> None:
    port = free_port()
    url = f"opc.tcp://127.0.0.1:{port}"
    ran = await edge_gateway("browse", url, "--timeout", "60")
    assert (ran.code, ran.out) == (1, "")
    assert "Connection refused; check the url" in ran.err
    with pytest.raises(LinkLost, match="Connection refused"):
        await OpcUaTools().endpoints(Target(url))
    with pytest.raises(LinkLost, match="Connection refused"):
        await OpcUaTools().read(Target(url), ["i=2258"])


async def test_something_else_listens_there() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    web = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with web:
        port = web.sockets[0].getsockname()[1]
        ran = await edge_gateway("browse", f"opc.tcp://127.0.0.1:{port}", "--timeout", "60")
    assert ran.code == 1
    assert "something answers that is not OPC UA" in ran.err
    assert "HTTP/1.1" in ran.err
