"""Stops, outages and full disks: nothing accepted is lost, every gap has an end, and the gateway says what is true."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import load_config
from gateway.contract import GatewayError, SystemClock
from gateway.log import LogStore
from gateway.log.errors import LogFullError
from gateway.runtime.gateway import Gateway
from simulators.plant.faults import Fault
from simulators.plant.modbus import ModbusDevice
from tests.support.machine import within
from tests.support.rig import START_S, STOP_S, Delivery, GatewayProcess
from tests.support.wait import eventually


def device_file(
    device: ModbusDevice, *, points: int = 20, every: str = "50ms", timeout: str = "60s", **keys: Any
) -> dict[str, Any]:
    """With the usual timeout no device is silent because the machine holds it up."""
    return {
        "device": "meter",
        "adapter": "modbus",
        "connection": {"url": device.url, "timeout": timeout},
        "every": every,
        "points": [{"point": f"p{k}", "address": f"holding {k}", "type": "uint16"} for k in range(points)],
        **keys,
    }


@pytest.fixture
async def plant() -> AsyncIterator[ModbusDevice]:
    async with ModbusDevice({"holding": dict.fromkeys(range(100), 7)}) as device:
        yield device


def up(gateway: GatewayProcess) -> bool:
    return gateway.metric("edge_gateway_device_up", device="meter", adapter="modbus") == 1


def stored(delivery: Delivery) -> int:
    with delivery.report() as report:
        return report.total()


async def test_every_gap_ends_even_when_the_gateway_is_killed_in_the_middle(
    tmp_path: Path, plant: ModbusDevice
) -> None:
    with Delivery(tmp_path) as delivery:
        with GatewayProcess(tmp_path, [device_file(plant)], destinations=[delivery.destination()]) as gateway:
            gateway.start()
            await eventually(lambda: stored(delivery) > 0, START_S)
            await plant.set_fault(Fault.REFUSE)
            await eventually(lambda: gaps(delivery), START_S, "the gap is told")
            await delivery.settled(gateway)
            gateway.kill()
            gateway.start()
            await eventually(gateway.metrics, START_S)
            gateway.kill()  # twice in the same outage
            gateway.start()
            await eventually(gateway.metrics, START_S)
            await plant.set_fault(Fault.NONE)
            await eventually(lambda: up(gateway), START_S)
            await eventually(
                lambda: all(gap["to"] for gap in last_word(delivery).values()), START_S, "every gap has an end"
            )
            assert await delivery.stop(gateway) == 0
        words = last_word(delivery)
        assert len(words) == 1, "one outage, one gap, whatever the gateway did meanwhile"
        (gap,) = words.values()
        assert gap["reason"] == "device-down"
        with delivery.report() as report:
            good = [reading.t_ns for reading in report.readings("meter") if reading.quality == "good"]
            silent = max(later - sooner for sooner, later in zip(sorted(good), sorted(good)[1:], strict=False))
            assert silent > 0
            assert report.reconcile().differences == []


def stalled(gateway: GatewayProcess) -> bool:
    return gateway.metric("edge_gateway_log_stalled") == 1


def gaps(delivery: Delivery) -> list[dict[str, Any]]:
    with delivery.report() as report:
        return report.events("gap/1")


def last_word(delivery: Delivery) -> dict[str, dict[str, Any]]:
    return {gap["id"]: gap for gap in gaps(delivery)}


def still_open(delivery: Delivery) -> set[str]:
    return {id for id, gap in last_word(delivery).items() if gap["to"] is None}


async def tried_again(plant: ModbusDevice) -> None:
    opened = plant.connections_opened
    await eventually(lambda: plant.connections_opened >= opened + 2, START_S, "it is tried again")


def delivered(gateway: GatewayProcess) -> bool:
    return gateway.metric("edge_gateway_account_waiting", destination="centre") == 0


async def test_a_device_that_accepts_and_never_answers_is_down_and_its_gap_stays_open(
    tmp_path: Path, plant: ModbusDevice
) -> None:
    file = device_file(plant, timeout="1s")
    with (
        Delivery(tmp_path) as delivery,
        GatewayProcess(tmp_path, [file], destinations=[delivery.destination()]) as gateway,
    ):
        gateway.start()
        await eventually(lambda: up(gateway) and stored(delivery) > 0, START_S)
        await plant.set_fault(Fault.STOP)
        await tried_again(plant)
        # All that it said before is done with.
        assert not up(gateway), "the metric tells it"
        await eventually(lambda: delivered(gateway), START_S)
        silent = await eventually(lambda: still_open(delivery), START_S, "the gap is told")
        await tried_again(plant)
        await eventually(lambda: delivered(gateway), START_S)
        assert not up(gateway)
        assert still_open(delivery) == silent, "silence does not end a gap"
        await plant.set_fault(Fault.NONE)
        await eventually(lambda: not still_open(delivery), START_S)
        assert await asyncio.to_thread(gateway.stop) == 0


async def test_a_stop_in_time_while_broker_and_device_hang(tmp_path: Path, plant: ModbusDevice) -> None:
    """The log commits every 2 s only; what the device gave is there after the stop, and delivered after the next."""
    log = {"path": str(tmp_path / "log"), "commit": "2s"}
    files = [device_file(plant)]
    with Delivery(tmp_path) as delivery:
        with GatewayProcess(tmp_path, files, log=log, destinations=[delivery.destination()]) as gateway:
            gateway.start()
            await eventually(lambda: up(gateway) and stored(delivery) > 0, START_S)
            delivery.broker.pause()
            accepted = gateway.metric("edge_gateway_readings_accepted_total", device="meter", adapter="modbus")
            await eventually(
                lambda: (
                    gateway.metric("edge_gateway_readings_accepted_total", device="meter", adapter="modbus")
                    > accepted + 100
                ),
                START_S,
            )
            accepted = gateway.metric("edge_gateway_readings_accepted_total", device="meter", adapter="modbus")
            await plant.set_fault(Fault.STOP)
            assert await asyncio.to_thread(gateway.stop) == 0, gateway.output
            delivery.broker.go_on()
            await plant.set_fault(Fault.NONE)
            gateway.start()
            await eventually(lambda: up(gateway), START_S)
            await delivery.settled(gateway)
            assert await delivery.stop(gateway) == 0, gateway.output
        with delivery.report() as report:
            assert report.reconcile().exact, report.reconcile()
            assert report.missing() == []
            assert report.conflicts() == []
            assert report.total() >= accepted
            closes = [account for account in report.accounts() if account["period"] == "close"]
            assert closes
            assert all(entry["waiting"] == 0 for entry in closes[-1]["entries"])


async def test_a_second_interrupt_changes_nothing(tmp_path: Path, plant: ModbusDevice) -> None:
    with Delivery(tmp_path) as delivery:
        with GatewayProcess(tmp_path, [device_file(plant)], destinations=[delivery.destination()]) as gateway:
            gateway.start()
            await eventually(lambda: stored(delivery) > 0, START_S)
            assert await delivery.stop(gateway, signal.SIGINT, signal.SIGINT) == 0, gateway.output
        with delivery.report() as report:
            assert report.reconcile().exact
            assert report.states()[-1] == "offline"


async def test_a_full_disk_does_not_hold_up_a_stop_and_is_told(
    tmp_path: Path, plant: ModbusDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Delivery(tmp_path) as delivery:
        process = GatewayProcess(tmp_path, [device_file(plant)], destinations=[delivery.destination()])
        full = False
        append = LogStore.append

        def on_small_disk(self: LogStore, *what: Any) -> int:
            if full:
                raise LogFullError("the disk is full")
            return append(self, *what)

        monkeypatch.setattr(LogStore, "append", on_small_disk)
        stop = asyncio.Event()
        gateway = Gateway(load_config(process.config, for_run=True), SystemClock())
        task = asyncio.create_task(gateway.run(stop), name="gateway")
        await eventually(lambda: stored(delivery) > 0, START_S)
        full = True
        await eventually(lambda: asyncio.to_thread(stalled, process), START_S, "the log says that it is stalled")
        stop.set()
        await within(task.done, STOP_S, "the gateway has stopped")
        with pytest.raises(GatewayError, match="full"):
            await task


async def test_a_small_budget_drops_the_oldest_counts_it_and_goes_on(tmp_path: Path) -> None:
    log = {"path": str(tmp_path / "log"), "commit": "50ms", "budget": "800KB"}
    async with ModbusDevice({"holding": dict.fromkeys(range(2000), 7)}) as plant, asyncio.TaskGroup() as group:

        async def change() -> None:
            for tick in range(1 << 30):
                plant.write("holding", 0, [(tick * 7919 + k * 104729) & 0xFFFF for k in range(2000)])
                await asyncio.sleep(0.02)

        noise = group.create_task(change(), name="noise")
        file = device_file(plant, points=2000, every="20ms", load={"connections": 4, "requests_per_s": 2000})
        with Delivery(tmp_path) as delivery:
            destination = delivery.destination(format="columns")
            with GatewayProcess(tmp_path, [file], log=log, destinations=[destination]) as gateway:
                await asyncio.to_thread(delivery.broker.stop)
                gateway.start()

                def dropped() -> float:
                    return gateway.metric("edge_gateway_account_dropped_total", destination="centre", reason="budget")

                await eventually(lambda: dropped() > 0, 60, "the oldest is dropped")
                before = gateway.metric("edge_gateway_readings_accepted_total", device="meter", adapter="modbus")
                await eventually(
                    lambda: (
                        gateway.metric("edge_gateway_readings_accepted_total", device="meter", adapter="modbus")
                        > before
                    ),
                    START_S,
                    "it goes on",
                )
                noise.cancel()
                await plant.set_fault(Fault.REFUSE)
                await asyncio.to_thread(delivery.broker.start)
                await delivery.settled(gateway, 60)
                assert await delivery.stop(gateway) == 0, gateway.output
            with delivery.report() as report:
                reconciliation = report.reconcile()
                assert reconciliation.differences == []
                (line,) = [line for line in reconciliation.lines if line.source.device == "meter"]
                assert line.dropped > 0
                assert line.accepted == line.delivered + line.dropped
                assert line.stored == line.delivered
                missing = [gap for gap in report.missing() if gap.source == line.source]
                assert sum(gap.last - gap.first + 1 for gap in missing) == line.dropped
                assert report.errors() == {}
