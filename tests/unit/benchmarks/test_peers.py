"""What the other programs are given: what they look up at the load server, their configs, and how to get them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from asyncua import ua as asyncua_types
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.load import opcua_nodes
from benchmarks.peers import installed, node_red, thingsboard, thingsboard_platform
from benchmarks.rig.processes import Bench, BenchmarkError
from tests.support.wait import eventually_sync

ua: Any = asyncua_types


def below(node: Any, direction: Any = ua.BrowseDirection.Forward) -> list[tuple[str, Any]]:
    """Names and node ids that Browse finds."""
    description = ua.BrowseDescription()
    description.NodeId, description.BrowseDirection = node, direction
    references = opcua_nodes.browse(description, 10).References or []
    return [(reference.BrowseName.Name, reference.NodeId.Identifier) for reference in references]


def browse_name(node: Any) -> Any:
    """What Read says of a node's browse name."""
    return opcua_nodes.attribute(node, ua.AttributeIds.BrowseName, 10, "double")


def test_the_way_from_the_root_to_the_items() -> None:
    root, objects = ua.NodeId(84), ua.NodeId(85)
    assert below(root) == [("Objects", 85)]
    assert below(root, ua.BrowseDirection.Inverse) == below(objects) == []
    assert browse_name(objects).Value.Value == ua.QualifiedName("Objects", 0)
    assert browse_name(ua.NodeId(7, 1)).Value.Value == ua.QualifiedName("p7", 1)
    assert browse_name(ua.NodeId(10, 1)).StatusCode.value == opcua_nodes.BAD_NODE_ID_UNKNOWN
    assert browse_name(ua.NodeId(3, 0)).StatusCode.value == opcua_nodes.BAD_NODE_ID_UNKNOWN


@pytest.mark.parametrize("flow", [node_red.opcua(4840, 300, 1883), node_red.modbus([502, 503], 100, 0.5, 1883)])
def test_flows_are_connected(flow: node_red.Flow) -> None:
    nodes = {node["id"]: node for node in flow}
    assert len(nodes) == len(flow)
    for node in flow:
        assert {target for wire in node.get("wires", []) for target in wire} <= set(nodes)
        named = {node[key] for key in ("broker", "server", "endpoint") if key in node}
        assert named - set(nodes) <= {"127.0.0.1", "opc.tcp://127.0.0.1:4840"}
        # Node-RED takes any value that is the id of a configuration node for a reference to it, also a name
        assert node.get("name") not in nodes


def test_every_register_is_read_once_and_none_behind_the_last() -> None:
    for points in (1, 62, 63, 1000):
        reads = [node for node in node_red.modbus([502], points, 1.0, 1883) if node["type"] == "modbus-read"]
        registers = [register for read in reads for register in range(read["adr"], read["adr"] + read["quantity"])]
        assert registers == list(range(2 * points))
        assert all(read["quantity"] <= 125 and read["adr"] % 2 == 0 for read in reads)
        (slave,) = thingsboard.modbus([502], points, 1.0)["master"]["slaves"]
        assert slave["timeseries"][0]["address"] == f"0-{2 * points - 1}"


def test_a_peer_that_is_not_installed_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "PEERS", tmp_path)
    with pytest.raises(BenchmarkError, match="thingsboard is not installed: run scripts/peers"):
        installed.find("thingsboard", "bin/thingsboard-gateway")
    (tmp_path / "thingsboard" / "bin").mkdir(parents=True)
    program = tmp_path / "thingsboard" / "bin" / "thingsboard-gateway"
    program.touch()
    with pytest.raises(BenchmarkError, match="scripts/peers"):  # a half-done installation
        installed.find("thingsboard", "bin/thingsboard-gateway")
    (tmp_path / "thingsboard" / ".installed").touch()
    assert installed.find("thingsboard", "bin/thingsboard-gateway") == program


def test_versions_are_those_that_are_pinned() -> None:
    assert set(installed.versions("thingsboard")) == {"thingsboard-gateway", "asyncua", "pymodbus"}
    assert set(installed.versions("node_red")) == {"node-red", "node-red-contrib-opcua", "node-red-contrib-modbus"}


def test_a_question_that_comes_before_the_platform_is_back_is_answered() -> None:
    with Bench() as bench:
        bench.broker()
        answers: dict[str, bytes | bytearray] = {}
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.on_message = lambda _client, _data, message: answers.update({message.topic: message.payload})
        client.connect("127.0.0.1", bench.broker_port)
        client.subscribe(f"{thingsboard_platform.RESPONSES}+", qos=1)
        client.loop_start()
        platform = bench.python("platform", "peers.thingsboard_platform", "--broker-port", bench.broker_port)
        platform.ask()
        ask(client, "1")
        eventually_sync(lambda: answers)
        platform.kill()
        ask(client, "2")
        bench.python("platform", "peers.thingsboard_platform", "--broker-port", bench.broker_port).ask()
        eventually_sync(lambda: f"{thingsboard_platform.RESPONSES}2" in answers)
        client.loop_stop()
    assert all(json.loads(answer)["rateLimits"] == {} for answer in answers.values())


def ask(client: mqtt.Client, number: str) -> None:
    """Ask for the session's limits; the broker has the question then."""
    question = json.dumps({"method": "getSessionLimits", "params": {"timeout": 5000}})
    client.publish(thingsboard_platform.REQUESTS + number, question, qos=1).wait_for_publish(20)
