"""Hot reload on a real gateway: only what changed is restarted, a wrong config is refused, and there is a way back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
import yaml

from gateway.control import ask
from simulators.plant.modbus import ModbusDevice
from tests.integration.test_control import command, device_file, state_of, up
from tests.support.broker import Mosquitto
from tests.support.rig import START_S, Delivery, GatewayProcess, write_yaml
from tests.support.wait import eventually

DEVICES = 50
PERIOD = "2s"
"""longer than any stall of a machine that runs tests"""


@pytest.fixture
async def plant() -> AsyncIterator[list[ModbusDevice]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(ModbusDevice({"holding": {0: 17, 1: 4}})) for _ in range(DEVICES)]


def files(plant: list[ModbusDevice], every: str = PERIOD) -> list[dict[str, Any]]:
    return [device_file(f"d{number:02}", device.url, every=every) for number, device in enumerate(plant)]


def edit(gateway: GatewayProcess, name: str, **keys: Any) -> None:
    file = gateway.config / "devices" / f"{name}.yaml"
    write_yaml(file, {**yaml.safe_load(file.read_text(encoding="utf-8")), **keys})


async def reloaded(gateway: GatewayProcess) -> dict[str, Any]:
    outcome: dict[str, Any] = await asyncio.to_thread(lambda: ask(gateway.log, "reload", START_S))
    return outcome


async def test_one_of_fifty_is_changed_and_the_others_notice_nothing(tmp_path: Path, plant: list[ModbusDevice]) -> None:
    with GatewayProcess(tmp_path, files(plant)) as gateway:
        gateway.start()
        names = [f"d{number:02}" for number in range(DEVICES)]
        await up(gateway, *names)
        opened = [device.connections_opened for device in plant]
        missed = {name: one["cycles_missed"] for name, one in state_of(gateway).items()}
        since = {name: one["since"] for name, one in state_of(gateway).items()}
        asked = [len(device.requests) for device in plant]

        points = [{"point": "level", "address": "holding 0", "type": "uint16", "scale": 0.1, "unit": "m"}]
        edit(gateway, "d07", points=points)
        outcome = await reloaded(gateway)
        assert outcome["outcome"] == "device changed: d07"
        await eventually(
            lambda: all(len(device.requests) >= before + 4 for device, before in zip(plant, asked, strict=True)),
            START_S,
            "all are asked twice more",
        )
        await up(gateway, "d07")
        others = [number for number in range(DEVICES) if number != 7]
        assert [plant[number].connections_opened for number in others] == [opened[number] for number in others]
        assert plant[7].connections_opened > opened[7]
        states = state_of(gateway)
        assert {name: one["cycles_missed"] for name, one in states.items() if name != "d07"} == {
            name: count for name, count in missed.items() if name != "d07"
        }
        assert {name: one["since"] for name, one in states.items() if name != "d07"} == {
            name: at for name, at in since.items() if name != "d07"
        }
        assert states["d07"]["points"] == 1
        assert await asyncio.to_thread(gateway.stop) == 0


async def test_what_is_wrong_or_impossible_is_refused_whole(tmp_path: Path, plant: list[ModbusDevice]) -> None:
    with GatewayProcess(tmp_path, files(plant[:2], "100ms")) as gateway:
        gateway.start()
        await up(gateway, "d00", "d01")
        before = ask(gateway.log, "status")["config"]["digest"]
        good = (gateway.config / "devices" / "d00.yaml").read_text(encoding="utf-8")
        opened = [device.connections_opened for device in plant[:2]]

        edit(gateway, "d00", evry="1s")
        edit(gateway, "d01", every="1s")
        refused = await asyncio.to_thread(command, "reload", gateway.config)
        assert refused.returncode == 2
        assert "evry" in refused.stdout
        assert "refused, the former config stays: 1 errors" in refused.stdout
        status = ask(gateway.log, "status")
        assert status["config"]["digest"] == before
        assert status["config"]["last_reload"]["accepted"] is False
        assert "evry" in status["config"]["last_reload"]["outcome"]
        assert [one["period_s"] for one in status["devices"]] == [0.1, 0.1]
        assert gateway.metric("edge_gateway_config_last_reload_successful") == 0
        assert gateway.metric("edge_gateway_config_reloads_total", result="refused") == 1

        (gateway.config / "devices" / "d00.yaml").write_text(good, encoding="utf-8")
        renamed = {**gateway.content["gateway"], "id": "x"}
        write_yaml(gateway.config / "gateway.yaml", {**gateway.content, "gateway": renamed})
        outcome = await reloaded(gateway)
        assert not outcome["ok"]
        assert "that is another gateway" in outcome["problems"][0]
        write_yaml(gateway.config / "gateway.yaml", {**gateway.content, "log": {"path": "elsewhere"}})
        shown = await asyncio.to_thread(lambda: ask(gateway.log, "diff"))
        assert "only a start takes this over" in shown["impossible"][0]
        assert [device.connections_opened for device in plant[:2]] == opened

        write_yaml(gateway.config / "gateway.yaml", gateway.content)
        (gateway.config / "devices" / "d00.yaml").unlink()
        write_yaml(gateway.config / "devices" / "d02.yaml", device_file("d02", plant[2].url))
        os.kill(gateway.pid, signal.SIGHUP)
        await up(gateway, "d01", "d02")
        assert "d00" not in state_of(gateway)
        assert gateway.metric("edge_gateway_config_last_reload_successful") == 1
        assert await asyncio.to_thread(gateway.stop) == 0


async def test_a_destination_comes_changes_and_goes_and_every_reading_is_counted(
    tmp_path: Path, plant: list[ModbusDevice]
) -> None:
    with Delivery(tmp_path) as delivery, Mosquitto() as second:
        first = delivery.destination()
        with GatewayProcess(tmp_path, files(plant[:1], "100ms"), destinations=[first]) as gateway:
            gateway.start()
            await up(gateway, "d00")
            other = {**first, "name": "second", "url": second.url, "no_subscribers": "deliver"}
            write_yaml(gateway.config / "gateway.yaml", {**gateway.content, "destinations": [first, other]})
            assert (await reloaded(gateway))["outcome"] == "destination new: second"

            def delivered(name: str) -> float:
                return gateway.metric("edge_gateway_account_delivered_total", destination=name)

            await eventually(lambda: delivered("second") > 0, START_S)
            changed = {**first, "compression": "gzip"}
            write_yaml(gateway.config / "gateway.yaml", {**gateway.content, "destinations": [changed]})
            outcome = (await reloaded(gateway))["outcome"]
            assert outcome == "destination changed: centre; destination gone: second"
            before = delivered("centre")
            await eventually(lambda: delivered("centre") > before, START_S)
            assert [one["destination"] for one in ask(gateway.log, "status")["destinations"]] == ["centre"]
            edit(gateway, "d00", every="200ms")
            await reloaded(gateway)
            await delivery.settled(gateway)
            assert gateway.metric("edge_gateway_account_difference", destination="centre") == 0
            assert await delivery.stop(gateway) == 0
            with delivery.report() as report:
                told = [event for event in report.events() if event["schema"] == "config/1"]
            schema = Path(__file__).parents[2] / "docs" / "schemas" / "config-1.schema.json"
            for event in told:
                jsonschema.validate(event, orjson.loads(schema.read_bytes()))
            assert [(event["accepted"], event["changed"]) for event in told] == [
                (True, []),
                (True, []),
                (True, ["d00"]),
            ]


async def test_there_is_a_way_back(tmp_path: Path, plant: list[ModbusDevice]) -> None:
    with GatewayProcess(tmp_path, files(plant[:1], "100ms")) as gateway:
        gateway.start()
        await up(gateway, "d00")
        file = gateway.config / "devices" / "d00.yaml"
        original = file.read_bytes()
        edit(gateway, "d00", every="300ms")
        shown = await asyncio.to_thread(command, "diff", gateway.config)
        assert "  restart device d00\n    every: 0.1 -> 0.3\n" in shown.stdout, shown
        assert "+every: 300ms" in shown.stdout
        assert (await asyncio.to_thread(command, "reload", gateway.config)).returncode == 0
        back = await asyncio.to_thread(command, "rollback", gateway.config, "--yes")
        assert back.returncode == 0, back
        assert "-every: 300ms" in back.stdout
        assert file.read_bytes() == original
        assert state_of(gateway)["d00"]["period_s"] == 0.1
        listed = await asyncio.to_thread(command, "rollback", gateway.config, "--list")
        assert len(listed.stdout.splitlines()) == 3
        assert await asyncio.to_thread(gateway.stop) == 0


async def test_a_changed_file_is_taken_over_where_the_config_wants_it(
    tmp_path: Path, plant: list[ModbusDevice]
) -> None:
    with GatewayProcess(tmp_path, files(plant[:1], "100ms"), reload={"watch": True}) as gateway:
        gateway.start()
        await up(gateway, "d00")
        edit(gateway, "d00", every="300ms")
        await eventually(lambda: state_of(gateway)["d00"]["period_s"] == 0.3, START_S)
        (gateway.config / "devices" / "d00.yaml").write_text("device: [", encoding="utf-8")
        await eventually(lambda: gateway.metric("edge_gateway_config_last_reload_successful") == 0, START_S)
        assert state_of(gateway)["d00"]["period_s"] == 0.3
        back = await asyncio.to_thread(command, "rollback", gateway.config, "--yes")
        assert back.returncode == 0, back
        assert gateway.metric("edge_gateway_config_last_reload_successful") == 1
        without = {key: value for key, value in gateway.content.items() if key != "reload"}
        write_yaml(gateway.config / "gateway.yaml", without)
        await eventually(lambda: gateway.metric("edge_gateway_config_reloads_total", result="accepted") >= 3, START_S)
        assert await asyncio.to_thread(gateway.stop) == 0
