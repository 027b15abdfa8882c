"""What the gateway says about itself: samples are declared, devices that are not well named, facts summed up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.contract import Facts, HasFacts, SystemClock
from gateway.log import Life, Wear, WriterStatistics
from gateway.metrics.declarations import DECLARATIONS, MOST_DESTINATIONS, MOST_FULL_DEVICES
from gateway.runtime.devices import Device
from gateway.runtime.housekeeping import Usage
from gateway.runtime.report import Report
from gateway.runtime.sink import DeviceCounters
from gateway.runtime.supervisor import DeviceState

STATES = ("starting", "up", "degraded", "down", "refused", "failed", "paused")
REASONS = 8


def device(name: str, state: DeviceState, facts: Callable[[], Facts] = Facts, adapter: str = "opcua") -> Device:
    unused: Any = None
    return Device(name, adapter, state, DeviceCounters(), unused, unused, 0, lambda: 1e9, facts)


def report(devices: Sequence[Device]) -> Report:
    statistics = WriterStatistics(0, 0, 0.0, 0.0, 0, 0, 0.0, None)
    writer: Any = SimpleNamespace(statistics=lambda: statistics)
    housekeeping: Any = SimpleNamespace(usage=Usage(1, 2, 3))
    return Report("1.0", SystemClock(), devices, [], writer, housekeeping)


def values(one: Report) -> dict[tuple[str, ...], float]:
    samples = list(one.samples())
    found = {(sample.name, *sample.labels): float(sample.value) for sample in samples}
    assert len(found) == len(samples), "a series comes twice"
    return found


def test_wear_of_the_storage_is_told_where_it_is_known() -> None:
    one = report([])
    assert not [name for name, *_ in values(one) if "storage" in name or "emmc" in name]
    wear = Wear(5_000_000, 1e9, Life(0.3, None, 2))
    one._housekeeping.usage = Usage(1, 2, 3, wear)
    seen = values(one)
    assert seen["edge_gateway_storage_written_bytes_total",] == 5_000_000
    assert seen["edge_gateway_storage_written_bytes_per_day",] == 1e9
    assert seen["edge_gateway_emmc_life_used_ratio", "a"] == 0.3
    assert ("edge_gateway_emmc_life_used_ratio", "b") not in seen
    assert seen["edge_gateway_emmc_reserve_state",] == 2


def test_a_degraded_device_is_up_and_named() -> None:
    devices = [
        device("well", DeviceState("up")),
        device("ill", DeviceState("degraded", error="the server says Suspended")),
        device("gone", DeviceState("down", error="cable pulled")),
    ]
    one = report(devices)
    seen = values(one)
    assert [seen["edge_gateway_device_up", name, "opcua"] for name in ("well", "ill", "gone")] == [1, 1, 0]
    assert [seen["edge_gateway_devices", "opcua", state] for state in ("up", "degraded", "down")] == [1, 1, 1]
    assert one.ready().body["not_well"] == {
        "ill": "degraded: the server says Suspended",
        "gone": "down: cable pulled",
    }
    assert one.health()["devices"] == {"up": 1, "degraded": 1, "down": 1}
    assert "Suspended" not in str(one.health()), "a destination may not see every device"


def test_readyz_names_no_more_than_fifty() -> None:
    devices = [device(f"d{n}", DeviceState("down", error="x")) for n in range(60)]
    assert len(report(devices).ready().body["not_well"]) == 50


def test_facts_of_adapters_become_metrics() -> None:
    devices = [
        device("a", DeviceState("up"), lambda: Facts(clock_offset_s=-0.25, bridged_s=30.0, lost_copies=2)),
        device("b", DeviceState("up"), lambda: Facts(bridged_s=12.5, lost_copies=3)),
        device("c", DeviceState("up")),
        device("m", DeviceState("up"), adapter="modbus"),
    ]
    seen = values(report(devices))
    offsets = {key: value for key, value in seen.items() if key[0] == "edge_gateway_device_clock_offset_seconds"}
    assert offsets == {("edge_gateway_device_clock_offset_seconds", "a", "opcua"): -0.25}, "absent while unknown"
    assert seen["edge_gateway_bridged_seconds", "opcua"] == 12.5
    assert ("edge_gateway_bridged_seconds", "modbus") not in seen
    assert seen["edge_gateway_lost_copies_total", "opcua"] == 5
    assert seen["edge_gateway_lost_copies_total", "modbus"] == 0


def test_only_adapters_that_have_facts_are_asked() -> None:
    class Plain:
        async def run(self, sink: Any) -> None: ...

    class Knowing(Plain):
        def facts(self) -> Facts:
            return Facts(1.0)

    assert isinstance(Knowing(), HasFacts)
    assert not isinstance(Plain(), HasFacts)


def test_every_sample_is_declared() -> None:
    declared = {one.name: len(one.labels) for one in DECLARATIONS}
    facts = Facts(0.0, 1.0, 1)
    for key in values(report([device("a", DeviceState("up"), lambda: facts)])):
        assert declared[key[0]] == len(key) - 1, key


@pytest.mark.parametrize("devices", [0, 1, MOST_FULL_DEVICES])
def test_the_number_of_series_is_what_the_page_says(devices: int) -> None:
    """Every device with everything that a device can have, two adapters, as many destinations as are spoken of."""
    most = {
        (): 1,
        ("version",): 1,
        ("result",): 2,
        ("adapter",): 2,
        ("adapter", "state"): 2 * len(STATES),
        ("quality",): 3,
        ("memory",): 2,
        ("device", "adapter"): devices,
        ("destination",): MOST_DESTINATIONS,
        ("destination", "state"): MOST_DESTINATIONS,
        ("destination", "broker"): MOST_DESTINATIONS,
        ("destination", "reason"): MOST_DESTINATIONS * REASONS,
    }
    assert sum(most[one.labels] for one in DECLARATIONS) <= 2000 + 3 * devices


def test_polls_are_summed_per_adapter_and_the_latest_of_all_devices_is_told() -> None:
    devices = [
        device("a", DeviceState("up"), lambda: Facts(polls=10, polls_missed=1, poll_late_s=0.5, timeouts=4), "modbus"),
        device("b", DeviceState("up"), lambda: Facts(polls=30, poll_late_s=0.125, bad_replies=2), "modbus"),
        device("c", DeviceState("up")),
    ]
    seen = {(sample.name, *sample.labels): sample.value for sample in report(devices).samples()}
    for name, value in (
        ("edge_gateway_polls_total", 40),
        ("edge_gateway_polls_missed_total", 1),
        ("edge_gateway_poll_late_seconds", 0.5),
        ("edge_gateway_request_timeouts_total", 4),
        ("edge_gateway_bad_replies_total", 2),
    ):
        assert seen[name, "modbus"] == value
        assert (name, "opcua") not in seen, "an adapter that does not poll has no such series"
