"""The config changes while a backlog waits: what was accepted keeps its meaning, its count and its clearance."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.config import load_config
from gateway.contract import SystemClock
from gateway.log import LogStore
from gateway.runtime.gateway import Gateway
from simulators.centre.report import Report
from simulators.plant.modbus import ModbusDevice
from tests.support.rig import START_S, Delivery, GatewayProcess, write_yaml
from tests.support.wait import eventually

Point = dict[str, Any]


def point(point: str, address: int, **keys: Any) -> Point:
    return {"point": point, "address": f"holding {address}", "type": "uint16", **keys}


def device_file(device: ModbusDevice, *points: Mapping[str, Any], name: str = "meter", **keys: Any) -> dict[str, Any]:
    return {
        "device": name,
        "adapter": "modbus",
        # Nothing here is about a device that is silent, and both may be held up.
        "connection": {"url": device.url, "timeout": "60s"},
        "every": "50ms",
        "points": list(points),
        **keys,
    }


def configure(gateway: GatewayProcess, devices: Sequence[Mapping[str, Any]], **keys: Any) -> None:
    """Replace all device files, and keys of gateway.yaml."""
    for path in (gateway.config / "devices").iterdir():
        path.unlink()
    for device in devices:
        write_yaml(gateway.config / "devices" / f"{device['device']}.yaml", device)
    gateway.content |= keys
    write_yaml(gateway.config / "gateway.yaml", gateway.content)


async def gather_backlog(gateway: GatewayProcess, delivery: Delivery, readings: int = 60) -> None:
    """Run with the broker down until something waits, and stop in order."""
    await asyncio.to_thread(delivery.broker.stop)
    gateway.start()
    await eventually(
        lambda: gateway.metric("edge_gateway_account_accepted_total", destination="centre") > readings, START_S
    )
    assert await asyncio.to_thread(gateway.stop) == 0, gateway.output


async def deliver(gateway: GatewayProcess, delivery: Delivery) -> None:
    """Run with the broker up until every device has read anew and nothing waits, and stop in order."""
    await asyncio.to_thread(delivery.broker.start)
    gateway.start()

    def every_device_read() -> bool:
        accepted = gateway.metrics().get("edge_gateway_readings_accepted_total", {})
        return bool(accepted) and all(accepted.values())

    await eventually(every_device_read, START_S, "new readings of every device")
    await delivery.settled(gateway)
    assert await delivery.stop(gateway) == 0, gateway.output


def clean(report: Report) -> None:
    assert report.errors() == {}, report.error_samples()
    assert report.conflicts() == []
    assert report.reconcile().differences == []


@pytest.fixture
async def plant() -> Any:
    async with ModbusDevice({"holding": dict.fromkeys(range(10), 1000)}) as device:
        yield device


@pytest.mark.parametrize(("before", "after"), [("json", "columns"), ("columns", "json")])
async def test_old_readings_keep_unit_scale_and_entry(
    tmp_path: Path, plant: ModbusDevice, before: str, after: str
) -> None:
    first = device_file(plant, point("a", 0, unit="MPa"), point("b", 1), point("c", 2))
    second = device_file(plant, point("a", 0, unit="kPa", scale=0.1), point("d", 1), point("c", 2, name="renamed"))
    with Delivery(tmp_path) as delivery:
        with GatewayProcess(tmp_path, [first], destinations=[delivery.destination(format=before)]) as gateway:
            await gather_backlog(gateway, delivery)
            configure(gateway, [second], destinations=[delivery.destination(format=after)])
            await deliver(gateway, delivery)
            configure(gateway, [first])
            await deliver(gateway, delivery)
        with delivery.report() as report:
            clean(report)
            assert report.reconcile().exact
            assert report.missing() == []
            catalogue = report.catalogue("meter")
            names = [(index, entry["p"], entry["unit"], "retired_at" in entry) for index, entry in catalogue.items()]
            assert names == [
                (0, "a", "MPa", True),
                (1, "b", None, True),
                (2, "c", None, False),
                (3, "a", "kPa", True),
                (4, "d", None, True),
                (5, "a", "MPa", False),
                (6, "b", None, False),
            ]
            values = [reading.value for reading in report.readings("meter", "a")]
            assert set(values) == {1000, 100.0}
            changes = sum(left != right for left, right in itertools.pairwise(values))
            assert changes == 2, "raw, scaled, raw again"
            assert {reading.value for reading in report.readings("meter", "b")} == {1000}


async def test_a_raised_label_withholds_what_the_point_said_before(tmp_path: Path, plant: ModbusDevice) -> None:
    first = device_file(plant, point("open", 0), point("secret", 1, tag="SECRET-TAG"))
    raised = device_file(plant, point("open", 0), point("secret", 1, tag="SECRET-TAG", governance={"grade": 3}))
    with Delivery(tmp_path) as delivery:
        with GatewayProcess(tmp_path, [first], destinations=[delivery.destination()]) as gateway:
            await gather_backlog(gateway, delivery)
            configure(gateway, [raised])
            await deliver(gateway, delivery)
            with delivery.report() as report:
                clean(report)
                assert report.readings("meter", "secret") == []
                assert "SECRET-TAG" not in str(report.catalogue("meter"))
                shown = len(report.readings("meter", "open"))
                (line,) = [line for line in report.reconcile().lines if line.source.device == "meter"]
                assert (line.delivered, line.stored) == (shown, shown)
                assert 0 < line.withheld < line.accepted == line.delivered + line.withheld
                assert sum(gap.last - gap.first + 1 for gap in report.missing()) == line.withheld
            configure(gateway, [first])
            await deliver(gateway, delivery)
        with delivery.report() as report:
            clean(report)
            relaxed = len(report.readings("meter", "secret"))
            assert relaxed > 0, "what is accepted after the label was lowered is delivered"
            (line,) = [line for line in report.reconcile().lines if line.source.device == "meter"]
            assert line.withheld > 0
            assert line.accepted == line.delivered + line.withheld, "what was accepted before is not"
            assert gateway.output.count("does not add up") == 0


async def test_backlog_of_a_removed_device_is_delivered_and_its_points_are_retired(
    tmp_path: Path, plant: ModbusDevice
) -> None:
    stays = device_file(plant, point("a", 0), name="stays")
    goes = device_file(plant, point("b", 1), name="goes")
    with Delivery(tmp_path) as delivery:
        with GatewayProcess(tmp_path, [stays, goes], destinations=[delivery.destination(format="columns")]) as gateway:
            await gather_backlog(gateway, delivery)
            configure(gateway, [stays])
            await deliver(gateway, delivery)
            with delivery.report() as report:
                clean(report)
                assert report.reconcile().exact
                waited = len(report.readings("goes", "b"))
                assert waited > 0
                assert "retired_at" in report.catalogue("goes")[0]
            configure(gateway, [stays, goes])
            await deliver(gateway, delivery)
        with delivery.report() as report:
            clean(report)
            assert report.missing() == []
            assert len(report.readings("goes", "b")) > waited
            assert "retired_at" not in report.catalogue("goes")[1]


async def test_a_renamed_destination_begins_anew_and_a_new_one_disturbs_nobody(
    tmp_path: Path, plant: ModbusDevice
) -> None:
    """Two destinations, one of them down: the healthy one gets everything; a new name has an account of its own."""
    file = device_file(plant, point("a", 0))
    with Delivery(tmp_path) as delivery:
        sick = delivery.destination(name="sick", url="mqtt://127.0.0.1:1")
        with GatewayProcess(tmp_path, [file], destinations=[delivery.destination(), sick]) as gateway:
            gateway.start()

            def healthy() -> bool:
                waiting = gateway.metric("edge_gateway_account_waiting", destination="sick")
                delivered = gateway.metric("edge_gateway_account_delivered_total", destination="centre")
                return delivered > 50 and waiting > 50

            await eventually(healthy, START_S)
            assert gateway.metric("edge_gateway_destination_state", destination="sick", state="down") == 1
            assert gateway.metric("edge_gateway_destination_state", destination="centre", state="online") == 1
            assert await delivery.stop(gateway) == 0
            configure(gateway, [file], destinations=[delivery.destination(name="renamed")])
            await deliver(gateway, delivery)
        with delivery.report() as report:
            clean(report)
            assert report.missing() == []
            assert report.duplicates(), "a new name begins at the oldest reading"


async def test_a_catalogue_is_told_only_once_it_is_durable(
    tmp_path: Path, plant: ModbusDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry that a power cut can undo has an index and a version that will be given again."""
    first = device_file(plant, point("a", 0, unit="MPa"))
    with Delivery(tmp_path) as delivery:
        with GatewayProcess(tmp_path, [first], destinations=[delivery.destination()]) as process:
            await gather_backlog(process, delivery)
            configure(process, [device_file(plant, point("a", 0, unit="kPa"))])
        await asyncio.to_thread(delivery.broker.start)
        released, append = threading.Event(), LogStore.append

        def blocked(self: LogStore, *what: Any) -> int:
            released.wait(100)
            return append(self, *what)

        monkeypatch.setattr(LogStore, "append", blocked)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            running = Gateway(load_config(process.config, for_run=True), SystemClock()).run(stop)
            group.create_task(running, name="gateway")
            await eventually(lambda: has_readings(delivery), START_S)
            with delivery.report() as report:
                units = [entry["unit"] for entry in report.catalogue("meter").values()]
            released.set()
            await eventually(lambda: known_units(delivery) == ["MPa", "kPa"], START_S)
            stop.set()
        assert units == ["MPa"]


def has_readings(delivery: Delivery) -> bool:
    with delivery.report() as report:
        return bool(report.readings("meter"))


def known_units(delivery: Delivery) -> list[str]:
    with delivery.report() as report:
        return [entry["unit"] for entry in report.catalogue("meter").values()]


class PutBack(SystemClock):
    """The box lost an hour before this start."""

    def time_ns(self) -> int:
        return super().time_ns() - 3600 * 10**9


async def test_a_clock_that_lost_an_hour_loses_nothing_else(tmp_path: Path, plant: ModbusDevice) -> None:
    with Delivery(tmp_path) as delivery:
        with GatewayProcess(
            tmp_path, [device_file(plant, point("a", 0))], destinations=[delivery.destination()]
        ) as old:
            await gather_backlog(old, delivery)
        await asyncio.to_thread(delivery.broker.start)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            running = Gateway(load_config(old.config, for_run=True), PutBack()).run(stop)
            group.create_task(running, name="gateway")
            await eventually(lambda: ended_gaps(delivery), START_S, "the new start's gap has an end")
            stop.set()
        await eventually(delivery.goodbyes, START_S, "the goodbye")
        with delivery.report() as report:
            clean(report)
            assert report.reconcile().exact
            assert report.missing() == []
            assert {gap["from"] for gap in ended_gaps(delivery)} == {None}, "nobody knows how long it was"
            times = [reading.t_ns for reading in report.readings("meter", "a")]
            assert times != sorted(times), "the times are what the clock said; offsets are the order"


def ended_gaps(delivery: Delivery) -> list[dict[str, Any]]:
    with delivery.report() as report:
        return [gap for gap in report.events("gap/1") if gap["to"]]
