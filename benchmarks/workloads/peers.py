"""What others do with the same work: the same load servers, broker and receiver, on the core that is the gateway's.

What each of them is told to do, and why, is in benchmarks/peers/README.md.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from benchmarks.peers import installed, node_red, thingsboard
from benchmarks.rig.loads import modbus_devices, opcua_server
from benchmarks.rig.measure import Step, System, climb, progress, rate_figures, start_ends, summary
from benchmarks.rig.outcome import Figure, Outcome
from benchmarks.rig.processes import CORES, Bench, Child
from benchmarks.workloads.outage import ITEMS as OUTAGE_ITEMS
from benchmarks.workloads.outage import Place, Subject, endure

ITEMS: Final = 1_000
THINGSBOARD_RATES: Final = (5_000, 7_500, 10_000, 12_500, 15_000, 17_500, 20_000, 25_000, 30_000, 40_000)
SHIPPED_RATES: Final = (1_000, 2_000, 3_000, 4_000, 5_000, 6_000, 8_000, 10_000)
NODE_RED_RATES: Final = (10_000, 20_000, 30_000, 35_000, 40_000, 45_000, 50_000, 60_000, 80_000)
DEVICES: Final = 10
POINTS: Final = 1_000
THINGSBOARD_PERIODS_S: Final = (1.0, 0.8, 0.667, 0.5, 0.4, 0.333, 0.25, 0.2, 0.125)
NODE_RED_PERIODS_S: Final = (1.0, 0.5, 0.333, 0.25, 0.2, 0.125, 0.1, 0.08)
SETTLE_S: Final = 1.0
"""the first polls of all devices come at once"""
_SERVICE: Final = 'while :; do "$@"; sleep 1; done'
"""starts a program again when it ends: the script does when the broker is away as it starts"""
READER: Final = "benchmarks.receive.peer_messages:values_of"
SCRIPT_READER: Final = "benchmarks.receive.ticks:readings"


def thingsboard_opcua(seconds: float) -> Outcome:
    """B1 with the ThingsBoard IoT Gateway."""
    with Bench() as bench:
        load, port = opcua_server(bench, ITEMS)
        system = _thingsboard(bench, "double", load, "opcua", thingsboard.opcua(port, ITEMS))
        return _rates(system, THINGSBOARD_RATES, seconds, "thingsboard")


def node_red_opcua(seconds: float) -> Outcome:
    """B1 with Node-RED, its OPC UA node freed of its limit of ten values in a notification."""
    return _node_red_opcua(NODE_RED_RATES, seconds, shipped=False)


def node_red_opcua_shipped(seconds: float) -> Outcome:
    """B1 with Node-RED as it is."""
    return _node_red_opcua(SHIPPED_RATES, seconds, shipped=True)


def thingsboard_modbus(seconds: float) -> Outcome:
    """Fewer points than B4, polled faster and faster by the ThingsBoard IoT Gateway."""

    def run(bench: Bench, every_s: float) -> System:
        load, ports = modbus_devices(bench, DEVICES)
        return _thingsboard(bench, "modbus", load, "modbus", thingsboard.modbus(ports, POINTS, every_s))

    return _polls(run, THINGSBOARD_PERIODS_S, seconds, "thingsboard")


def node_red_modbus(seconds: float) -> Outcome:
    """Fewer points than B4, polled faster and faster by Node-RED."""

    def run(bench: Bench, every_s: float) -> System:
        load, ports = modbus_devices(bench, DEVICES)
        return _node_red(bench, "modbus", load, lambda broker: node_red.modbus(ports, POINTS, every_s, broker))

    return _polls(run, NODE_RED_PERIODS_S, seconds, "node_red")


def thingsboard_outage(_: float) -> Outcome:
    """With the store that survives a kill."""
    return endure(Subject(_start_thingsboard(thingsboard.FILE), READER, tells_gaps=False))


def thingsboard_outage_memory(_: float) -> Outcome:
    """With the store that it has when nobody chooses."""
    return endure(Subject(_start_thingsboard(thingsboard.MEMORY), READER, tells_gaps=False))


def thingsboard_outage_plain(_: float) -> Outcome:
    """As shipped, and not killed."""
    start = _start_thingsboard(thingsboard.MEMORY)
    return endure(Subject(start, READER, tells_gaps=False, power_fails=False))


def node_red_outage(_: float) -> Outcome:
    """It keeps nothing while the broker is away."""
    return endure(Subject(_start_node_red, READER, tells_gaps=False))


def node_red_outage_plain(_: float) -> Outcome:
    """Not killed."""
    return endure(Subject(_start_node_red, READER, tells_gaps=False, power_fails=False))


def script_outage(_: float) -> Outcome:
    """paho keeps what it has in memory."""
    return endure(Subject(_start_script, SCRIPT_READER, tells_gaps=False))


def script_outage_plain(_: float) -> Outcome:
    """Not killed."""
    return endure(Subject(_start_script, SCRIPT_READER, tells_gaps=False, power_fails=False))


def _start_node_red(place: Place) -> Child:
    if not (place.folder / "flows.json").exists():
        node_red.write(place.folder, node_red.opcua(place.opcua_port, OUTAGE_ITEMS, place.broker_port))
    return node_red.start(place.bench, place.folder)


def _start_script(place: Place) -> Child:
    url = f"opc.tcp://127.0.0.1:{place.opcua_port}"
    script = [sys.executable, "-m", "benchmarks.peers.plain_scripts", "opcua", "--url", url]
    script += ["--points", str(OUTAGE_ITEMS), "--broker-port", str(place.broker_port)]
    return place.bench.start("script", ["sh", "-c", _SERVICE, "sh", *script], CORES.measured)


def _start_thingsboard(storage: Mapping[str, Any]) -> Callable[[Place], Child]:
    def start(place: Place) -> Child:
        if not (place.folder / "config").exists():
            config = thingsboard.opcua(place.opcua_port, OUTAGE_ITEMS)
            thingsboard.write(place.folder, place.broker_port, "opcua", config, storage)
            _platform(place.bench, place.broker_port)
        return thingsboard.start(place.bench, place.folder)

    return start


def _platform(bench: Bench, broker_port: int) -> None:
    bench.python("platform", "peers.thingsboard_platform", "--broker-port", broker_port).ask()


def _thingsboard(bench: Bench, values: str, load: Child, connector: str, config: Mapping[str, Any]) -> System:
    broker, receiver = start_ends(bench, values)
    _platform(bench, bench.broker_port)
    folder = bench.folder / "thingsboard"
    thingsboard.write(folder, bench.broker_port, connector, config, thingsboard.MEMORY)
    return System(bench, load, thingsboard.start(bench, folder), receiver, broker)


def _node_red_opcua(rates: Sequence[float], seconds: float, shipped: bool) -> Outcome:
    with Bench() as bench:
        load, port = opcua_server(bench, ITEMS)
        system = _node_red(bench, "double", load, lambda broker: node_red.opcua(port, ITEMS, broker), shipped)
        return _rates(system, rates, seconds, "node_red")


def _node_red(
    bench: Bench, values: str, load: Child, flow: Callable[[int], node_red.Flow], shipped: bool = True
) -> System:
    broker, receiver = start_ends(bench, values)
    folder = bench.folder / "node-red"
    folder.mkdir()
    node_red.write(folder, flow(bench.broker_port), shipped)
    return System(bench, load, node_red.start(bench, folder), receiver, broker)


def _rates(system: System, rates: Sequence[float], seconds: float, peer: str) -> Outcome:
    ready = system.wait_for_points(ITEMS)
    steps = climb(system, rates, ITEMS, seconds)
    account = system.drain()
    figures = rate_figures(steps, "readings/s", None)
    figures.append(_duplicates(account["duplicates"], account["delivered"]))
    details = {"version": installed.versions(peer), "ready_s": ready, **summary(steps), "account": account}
    return Outcome(figures, details)


def _polls(run: Callable[[Bench, float], System], periods_s: Sequence[float], seconds: float, peer: str) -> Outcome:
    """Shorter and shorter periods until one is not kept."""
    steps: list[Step] = []
    duplicates = delivered = 0
    for period_s in periods_s:
        with Bench() as bench:
            system = run(bench, period_s)
            system.wait_for_points(DEVICES * POINTS)
            time.sleep(SETTLE_S)
            steps.append(system.step(2 * DEVICES * POINTS / period_s, seconds, "registers"))
            got = system.receiver.ask("stats")
            duplicates, delivered = duplicates + got["duplicates"], delivered + got["distinct"]
        progress(steps[-1].line("registers/s"))
        if not steps[-1].keeps_up:
            break
    figures = [*rate_figures(steps, "registers/s", None), _duplicates(duplicates, delivered)]
    return Outcome(figures, {"version": installed.versions(peer), **summary(steps)})


def _duplicates(duplicates: int, delivered: int) -> Figure:
    return Figure("arrived twice", 100 * duplicates / max(delivered, 1), "% of the readings")
