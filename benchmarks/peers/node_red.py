"""Node-RED with node-red-contrib-opcua and node-red-contrib-modbus: its flows, its process. What was chosen and why:
see README.md here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.peers import installed
from benchmarks.receive.peer_messages import NODE_RED_TOPIC
from benchmarks.rig.processes import Bench, Child, free_port

PUBLISHING_MS: Final = 100
FLUSH_MS: Final = 200
BLOCK: Final = 124
"""registers per request: 62 floats"""
Flow = list[dict[str, Any]]
_TAB: Final = {"id": "tab", "type": "tab", "label": "load"}
_SETTINGS: Final = """\
module.exports = {
    uiHost: "127.0.0.1",
    httpAdminRoot: false,
    httpNodeRoot: false,
    disableEditor: true,
    editorTheme: {projects: {enabled: false}, tours: false},
    telemetry: {enabled: false},
    logging: {console: {level: "warn", metrics: false, audit: false}},
};
"""
_WHOLE: Final = """
const basics = require("./node_modules/node-red-contrib-opcua/opcua/opcua-basics.js");
const shipped = basics.getSubscriptionParameters;
basics.getSubscriptionParameters = (milliseconds) => ({...shipped(milliseconds), maxNotificationsPerPublish: 0});
"""
"""the node asks for ten values in a notification, which cannot be set: 0 is as many as there are (Part 4, 5.14.2)"""
_START: Final = """\
context.set("rows", {});
context.set("timer", setInterval(() => {
    const rows = context.get("rows");
    context.set("rows", {});
    const bodies = Object.values(rows);
    if (bodies.length) node.send({payload: JSON.stringify(bodies)});
}, %d));
"""
_END: Final = 'clearInterval(context.get("timer"));'
_OPCUA: Final = """\
if (!msg.payload.sourceTimestamp) return;  // the subscription's id, which comes first
const rows = context.get("rows");
const body = rows.load || (rows.load = {device: "load", p: [], t: [], v: []});
body.p.push(Number(msg.topic.slice(msg.topic.lastIndexOf("=") + 1)));
body.t.push(msg.payload.sourceTimestamp.getTime());
body.v.push(msg.payload.value.value);
"""
_MODBUS: Final = """\
const rows = context.get("rows");
const device = msg.topic;
const body = rows[device] || (rows[device] = {device, p: [], t: [], v: []});
const registers = msg.responseBuffer.buffer;
const first = msg.input.payload.address / 2;
const now = Date.now();
for (let k = 0; 4 * k < registers.length; k++) {
    body.p.push(first + k);
    body.t.push(now);
    body.v.push(registers.readFloatBE(4 * k));
}
"""


def opcua(port: int, points: int, broker_port: int) -> Flow:
    """Subscribe to items 0 ... points-1 together, and send what came every 200 ms."""
    items = [{"nodeId": f"ns=1;i={k}"} for k in range(points)]
    wanted = {"topic": "multiple", "action": "subscribe", "interval": PUBLISHING_MS, "payload": items}
    endpoint = {
        "id": "endpoint",
        "type": "OpcUa-Endpoint",
        "endpoint": f"opc.tcp://127.0.0.1:{port}",
        "secpol": "None",
        "secmode": "None",
        "none": True,
        "login": False,
        "usercert": False,
    }
    client = {
        "id": "client",
        "type": "OpcUa-Client",
        "z": "tab",
        "endpoint": "endpoint",
        "action": "subscribe",
        "time": PUBLISHING_MS,
        "timeUnit": "ms",
        "certificate": "n",
        "wires": [["batch"], [], []],
    }
    return [_TAB, endpoint, *_once(f"return {json.dumps(wanted)};", "client"), client, *_batch(_OPCUA, broker_port)]


def modbus(ports: Sequence[int], points: int, every_s: float, broker_port: int) -> Flow:
    """Read equal devices of `points` float32 each in blocks, and send what came every 200 ms."""
    flow: Flow = [_TAB, *_batch(_MODBUS, broker_port)]
    for device, port in enumerate(ports):
        flow.append(_modbus_client(f"m{device}", port))
        for start in range(0, 2 * points, BLOCK):
            count = min(BLOCK, 2 * points - start)
            flow.append(_modbus_read(f"m{device}", start, count, every_s))
    return flow


def _modbus_client(device: str, port: int) -> dict[str, Any]:
    return {
        "id": f"client-{device}",
        "type": "modbus-client",
        "name": device,
        "clienttype": "tcp",
        "bufferCommands": True,
        "stateLogEnabled": False,
        "queueLogEnabled": False,
        "failureLogEnabled": True,
        "tcpHost": "127.0.0.1",
        "tcpPort": port,
        "tcpType": "DEFAULT",
        "unit_id": 1,
        "commandDelay": 1,
        "clientTimeout": 5000,
        "reconnectOnTimeout": True,
        "reconnectTimeout": 2000,
        "parallelUnitIdsAllowed": True,
    }


def _modbus_read(device: str, start: int, count: int, every_s: float) -> dict[str, Any]:
    return {
        "id": f"{device}-{start}",
        "type": "modbus-read",
        "z": "tab",
        "topic": device,
        "unitid": 1,
        "dataType": "HoldingRegister",
        "adr": start,
        "quantity": count,
        "rate": round(every_s * 1000),
        "rateUnit": "ms",
        "showStatusActivities": False,
        "showErrors": True,
        "server": f"client-{device}",
        "wires": [["batch"], []],
    }


def _once(code: str, target: str) -> Flow:
    """A message when the flows start."""
    inject = {
        "id": "start",
        "type": "inject",
        "z": "tab",
        "props": [],
        "once": True,
        "onceDelay": 1,
        "wires": [["ask"]],
    }
    return [inject, {"id": "ask", "type": "function", "z": "tab", "func": code, "outputs": 1, "wires": [[target]]}]


def _batch(code: str, broker_port: int) -> Flow:
    """What an engineer writes to gather values, and the node that publishes them with QoS 1."""
    return [
        {
            "id": "batch",
            "type": "function",
            "z": "tab",
            "func": code,
            "initialize": _START % FLUSH_MS,
            "finalize": _END,
            "outputs": 1,
            "wires": [["publish"]],
        },
        {"id": "publish", "type": "mqtt out", "z": "tab", "topic": NODE_RED_TOPIC, "qos": "1", "broker": "broker"},
        {
            "id": "broker",
            "type": "mqtt-broker",
            "broker": "127.0.0.1",
            "port": str(broker_port),
            "clientid": "node-red",
            "autoConnect": True,
            "usetls": False,
            "protocolVersion": "5",
            "keepalive": "60",
            "cleansession": True,
        },
    ]


def write(folder: Path, flow: Flow, shipped: bool = False) -> None:
    """Its user folder; `shipped`: with the OPC UA node's own limit of ten values in a notification."""
    (folder / "flows.json").write_text(json.dumps(flow))
    (folder / "settings.js").write_text(_SETTINGS if shipped else _SETTINGS + _WHOLE)
    (folder / "package.json").write_text('{"name": "bench", "version": "0.0.1"}')
    (folder / "node_modules").symlink_to(installed.find("node_red", "node_modules"))


def start(bench: Bench, folder: Path) -> Child:
    """Node-RED on the measured core, with `folder` as written by `write`. Raises BenchmarkError."""
    program = installed.find("node_red", "node_modules/node-red/red.js")
    # its OPC UA node makes certificates in the user's home
    home = ["env", f"HOME={folder}", f"XDG_CONFIG_HOME={folder / 'config'}"]
    options = ["--userDir", str(folder), "--port", str(free_port()), "flows.json"]
    return installed.start(bench, "node-red", [*home, installed.node(), str(program), *options])
