"""Everything that `python -m benchmarks` can measure, in the order of the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.rig.outcome import Outcome
from benchmarks.stages import costs
from benchmarks.workloads import (
    box,
    catch_up,
    idle,
    many_devices,
    modbus,
    opcua,
    outage,
    peers,
    serial,
    two_destinations,
)


class Workload(NamedTuple):
    """A name that `--only` finds, and the work: given the seconds that a rate is held, one run."""

    name: str
    run: Callable[[float], Outcome]
    short: bool
    """part of `make bench`; the others only run when asked for, or with --full"""


PLAN: tuple[Workload, ...] = (
    Workload("stages", costs.run, short=True),
    Workload("B1 columns", opcua.columns, short=True),
    Workload("B1 json", opcua.json, short=True),
    Workload("B1 zstd", opcua.zstd, short=False),
    Workload("B1 10k columns", opcua.columns_few, short=False),
    Workload("B1 50k columns", opcua.columns_many, short=False),
    Workload("B2 columns", opcua.plant, short=True),
    Workload("B2 json", opcua.plant_json, short=False),
    Workload("B3 columns", opcua.secured, short=True),
    Workload("B3 json", opcua.secured_json, short=False),
    Workload("B4 columns", modbus.columns, short=True),
    Workload("B4 json", modbus.json, short=False),
    Workload("B4 100 devices", many_devices.hundred, short=False),
    Workload("B4 serial", serial.line, short=True),
    Workload("B5", many_devices.thousand, short=True),
    Workload("B5 json", many_devices.thousand_json, short=False),
    Workload("B6 columns", catch_up.columns, short=False),
    Workload("B6 json", catch_up.json, short=False),
    Workload("B7 opcua", idle.opcua, short=True),
    Workload("B7 modbus", idle.modbus, short=False),
    Workload("B8", two_destinations.run, short=False),
    Workload("B9", box.run, short=False),
    Workload("B9 noise", box.noise, short=False),
    Workload("B9 wire", box.wire, short=False),
    Workload("B9 wire, noise", box.wire_noise, short=False),
    Workload("1 s opcua", idle.opcua_1s, short=False),
    Workload("1 s modbus", idle.modbus_1s, short=False),
    Workload("outage", outage.run, short=False),
    Workload("delay", opcua.delay, short=True),
    Workload("script opcua", opcua.script, short=True),
    Workload("script modbus", modbus.script, short=True),
    Workload("script outage", peers.script_outage, short=False),
    Workload("script outage, not killed", peers.script_outage_plain, short=False),
    Workload("thingsboard opcua", peers.thingsboard_opcua, short=False),
    Workload("thingsboard modbus", peers.thingsboard_modbus, short=False),
    Workload("thingsboard outage", peers.thingsboard_outage, short=False),
    Workload("thingsboard outage, memory", peers.thingsboard_outage_memory, short=False),
    Workload("thingsboard outage, memory, not killed", peers.thingsboard_outage_plain, short=False),
    Workload("node-red opcua", peers.node_red_opcua, short=False),
    Workload("node-red opcua, as shipped", peers.node_red_opcua_shipped, short=False),
    Workload("node-red modbus", peers.node_red_modbus, short=False),
    Workload("node-red outage", peers.node_red_outage, short=False),
    Workload("node-red outage, not killed", peers.node_red_outage_plain, short=False),
)
