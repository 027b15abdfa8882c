"""Commands to a running gateway: a real process, real sockets, simulated devices that note every packet."""

from __future__ import annotations

import asyncio
import contextlib
import io
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from gateway.commands.main import main
from gateway.control import Client, NotRunningError, ask
from simulators.plant.modbus import ModbusDevice
from tests.support.rig import START_S, GatewayProcess, write_yaml
from tests.support.wait import eventually

WITHIN_S = 1.0
"""after `pause` no packet goes to the device later than this"""


def device_file(name: str, url: str, **keys: Any) -> dict[str, Any]:
    points = [{"point": "level", "address": "holding 0", "type": "uint16"}]
    points.append({"point": "hole", "address": "holding 900", "type": "uint16"})
    return {
        "device": name,
        "adapter": "modbus",
        "connection": {"url": url, "timeout": "5s"},
        "every": "100ms",
        "points": points,
        **keys,
    }


@pytest.fixture
async def devices() -> AsyncIterator[list[ModbusDevice]]:
    async with ModbusDevice({"holding": {0: 17}}) as one, ModbusDevice({"holding": {0: 4}}) as other:
        yield [one, other]


def plant(folder: Path, devices: list[ModbusDevice]) -> GatewayProcess:
    files = [device_file(f"boiler-{number}", device.url) for number, device in enumerate(devices, 1)]
    return GatewayProcess(folder, files)


class Said(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def command(*arguments: object) -> Said:
    """A command in this process: what a shell would show of it."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(each) for each in arguments])
    return Said(code, out.getvalue(), err.getvalue())


def state_of(gateway: GatewayProcess) -> dict[str, Any]:
    """By device; empty while nobody answers."""
    try:
        return {one["device"]: one for one in ask(gateway.log, "status")["devices"]}
    except NotRunningError:
        return {}


async def up(gateway: GatewayProcess, *names: str) -> None:
    async def all_up() -> Any:
        states = await asyncio.to_thread(state_of, gateway)
        return names and all(states.get(name, {}).get("state") == "up" for name in names)

    await eventually(all_up, START_S, f"{names} are up")


async def test_status_says_how_it_is_and_a_stopped_gateway_says_what_to_do(
    tmp_path: Path, devices: list[ModbusDevice]
) -> None:
    with plant(tmp_path, devices) as gateway:
        gateway.start()
        await up(gateway, "boiler-1", "boiler-2")
        said = ask(gateway.log, "status")
        assert (said["gateway"], said["destinations"]) == ("gw-1", [])
        assert said["log"]["budget_bytes"] > 0
        assert said["devices"][0]["points"] == 2
        assert said["devices"][0]["period_s"] == 0.1
        await eventually(lambda: state_of(gateway)["boiler-1"]["readings_per_s"], START_S, "a rate")
        await eventually(lambda: state_of(gateway)["boiler-1"]["bad_points"]["count"] == 1, message="no such register")

        shown = await asyncio.to_thread(command, "status", gateway.config)
        assert shown.returncode == 0, shown.stderr
        assert "boiler-1" in shown.stdout
        assert "100ms" in shown.stdout
        chinese = await asyncio.to_thread(command, "status", gateway.config, "--lang", "zh")
        assert "设备" in chinese.stdout
        assert "正常" in chinese.stdout
        as_json = await asyncio.to_thread(command, "status", gateway.config, "--json")
        assert [one["device"] for one in orjson.loads(as_json.stdout)["devices"]] == ["boiler-1", "boiler-2"]

        assert await asyncio.to_thread(gateway.stop) == 0
        gone = await asyncio.to_thread(command, "status", gateway.config)
        assert gone.returncode == 1
        assert "no gateway runs on the log" in gone.stderr


async def test_a_paused_device_is_left_alone_also_after_a_restart(tmp_path: Path, devices: list[ModbusDevice]) -> None:
    paused, other = devices
    with plant(tmp_path, devices) as gateway:
        gateway.start()
        await up(gateway, "boiler-1", "boiler-2")
        await eventually(lambda: len(paused.requests) > 3)

        asked = time.monotonic()
        done = await asyncio.to_thread(command, "pause", gateway.config, "boiler-1")
        assert done.returncode == 0, done.stderr
        counted = len(paused.requests)
        await asyncio.to_thread(time.sleep, max(0.0, asked + WITHIN_S - time.monotonic()))
        # Whatever came until now was within the second; from here on there is nothing.
        counted = len(paused.requests)
        before = len(other.requests)
        await eventually(lambda: len(other.requests) > before + 10, message="the other device is asked as before")
        assert len(paused.requests) == counted
        assert state_of(gateway)["boiler-1"]["state"] == "paused"
        assert "edge-gateway resume" in state_of(gateway)["boiler-1"]["error"]
        assert gateway.metric("edge_gateway_devices", adapter="modbus", state="paused") == 1

        assert await asyncio.to_thread(gateway.stop) == 0
        gateway.start()
        await up(gateway, "boiler-2")
        before = len(other.requests)
        await eventually(lambda: len(other.requests) > before + 10)
        assert len(paused.requests) == counted, "no packet after a restart"
        assert state_of(gateway)["boiler-1"]["state"] == "paused"

        done = await asyncio.to_thread(command, "resume", gateway.config, "--all")
        assert done.stdout == "resumed: boiler-1\n", done.stderr
        await eventually(lambda: len(paused.requests) > counted, START_S, "it is asked again")
        await up(gateway, "boiler-1")
        assert await asyncio.to_thread(gateway.stop) == 0
    events = tmp_path / "events.jsonl"
    wanted = ["--events", "--format", "jsonl", "--device", "boiler-1", "-o", events]
    assert command("log", "export", gateway.config, *wanted).returncode == 0
    gaps = [orjson.loads(line) for line in events.read_bytes().splitlines()]
    reasons = [gap["reason"] for gap in gaps if gap["schema"] == "gap/1"]
    assert set(reasons) == {"paused"}, gaps
    assert [gap["to"] is None for gap in gaps if gap["schema"] == "gap/1"] == [True, False], gaps


async def test_a_device_that_is_not_there_cannot_be_paused(tmp_path: Path, devices: list[ModbusDevice]) -> None:
    with plant(tmp_path, devices) as gateway:
        gateway.start()
        await up(gateway, "boiler-1")
        wrong = await asyncio.to_thread(command, "pause", gateway.config, "boiler-7")
        assert wrong.returncode == 1
        assert "boiler-7 is no device of this gateway; did you mean boiler-" in wrong.stderr
        nothing = await asyncio.to_thread(command, "pause", gateway.config)
        assert nothing.returncode == 2


async def test_tail_shows_what_comes_and_goes_on_over_a_reload(tmp_path: Path, devices: list[ModbusDevice]) -> None:
    with plant(tmp_path, devices) as gateway:
        gateway.start()
        await up(gateway, "boiler-1")
        bad = await eventually(lambda: state_of(gateway)["boiler-1"]["bad_points"]["some"])
        assert [(one["point"], one["reason"]) for one in bad] == [("hole", "config")]
        shown = await asyncio.to_thread(command, "tail", gateway.config, "boiler-1", "--limit", 6)
        assert shown.returncode == 0, shown.stderr
        assert ("level", "17") in {tuple(line.split()[1:3]) for line in shown.stdout.splitlines()}
        one = await asyncio.to_thread(command, "tail", gateway.config, "boiler-1", "level", "--limit", 3, "--json")
        assert [orjson.loads(line)["value"] for line in one.stdout.splitlines()] == [17, 17, 17]
        wrong = await asyncio.to_thread(command, "tail", gateway.config, "boiler-9")
        assert wrong.returncode == 1
        assert "boiler-9 is no device of this gateway" in wrong.stderr

        def listen() -> bool:
            """Until readings come in the unit of the new config."""
            with Client(gateway.log) as client:
                for more in client.stream("tail", device="boiler-1", points=["level"]):
                    if any(unit == "m" for _, _, _, unit, _, _ in more["readings"]):
                        return True
            return False

        listening = asyncio.create_task(asyncio.to_thread(listen))
        changed = device_file("boiler-1", devices[0].url)
        changed["points"][0] |= {"scale": 0.1, "unit": "m"}
        write_yaml(gateway.config / "devices" / "boiler-1.yaml", changed)
        assert (await asyncio.to_thread(lambda: ask(gateway.log, "reload", START_S)))["ok"]
        assert await asyncio.wait_for(listening, START_S)
        assert await asyncio.to_thread(gateway.stop) == 0
