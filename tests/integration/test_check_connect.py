"""`check --connect` against real devices: what fails is named, and nothing is asked more often than needed."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from asyncua import ua

from gateway.commands.main import main
from simulators.plant.opcua import OpcUaDevice
from tests.support.broker import free_port
from tests.support.modbus_device import Act, Asked, ModbusDevice
from tests.unit.config.plant import GATEWAY, write


class Ran(NamedTuple):
    code: int
    out: str

    @property
    def report(self) -> Any:
        return json.loads(self.out)


Check = Callable[..., Awaitable[Ran]]


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    async def call(folder: Path, *options: str) -> Ran:
        # The command runs a loop of its own, the devices are served in this one.
        code = await asyncio.to_thread(main, ["check", str(folder), "--connect", *options])
        said = capsys.readouterr()
        assert not said.err
        return Ran(code, said.out)

    return call


def modbus(folder: Path, port: int, *, load: str = "{}", timeout: str = "20s") -> Path:
    text = f"""\
device: meter
adapter: modbus
connection: {{url: "tcp://127.0.0.1:{port}", station: 3, timeout: {timeout}, retries: 0}}
load: {load}
points:
  - {{point: a, address: holding 0, type: uint16}}
  - {{point: hole, address: holding 2, type: uint16}}
  - {{point: b, address: holding 4, type: uint16}}
  - {{point: on, address: coil 7}}
"""
    return write(folder, GATEWAY, devices__meter=text)


async def test_modbus_reads_the_plan_once(tmp_path: Path, check: Check) -> None:
    device = ModbusDevice()
    async with device.serve():
        ran = await check(modbus(tmp_path, device.port))
    assert ran.code == 0, ran.out
    assert "meter: all 4 points answer (2 requests, " in ran.out
    assert [(each.station, each.function, each.address, each.count) for each in device.asked] == [
        (3, 1, 7, 1),
        (3, 3, 0, 5),
    ]


async def test_what_modbus_refuses_is_named_point_by_point(tmp_path: Path, check: Check) -> None:
    device = ModbusDevice(holes={2})
    async with device.serve():
        folder = modbus(tmp_path, device.port, load="{requests_per_s: 50}")
        ran = await check(folder)
        asked = len(device.asked)
        again = await check(folder, "--json")
    assert ran.code == 3, ran.out
    assert asked == 5
    assert "meter: 1 of 4 points fail (5 requests, " in ran.out
    file = folder / "devices" / "meter.yaml"
    assert f"  {file}:7:5: hole (holding 2): the device has no such address (exception 2)" in ran.out
    assert again.code == 3
    (found,) = again.report["connect"]
    assert (found["device"], found["reached"], found["points"], found["requests"]) == ("meter", True, 4, 5)
    assert found["failing"] == [
        {
            "point": "hole",
            "where": "holding 2",
            "reason": "the device has no such address (exception 2)",
            "file": str(file),
            "line": 7,
            "column": 5,
        }
    ]


async def test_a_station_that_is_silent_is_left_alone_soon(tmp_path: Path, check: Check) -> None:
    def silent(_: Asked) -> Act:
        return Act(silent=True)

    device = ModbusDevice(script=silent)
    async with device.serve():
        ran = await check(modbus(tmp_path, device.port, timeout="300ms"))
    assert ran.code == 1, ran.out
    assert "meter: not reached" in ran.out
    assert "station 3 does not answer" in ran.out
    assert len(device.asked) == 2


async def test_one_device_that_is_not_there_is_part_of_the_answer(tmp_path: Path, check: Check) -> None:
    device, nobody = ModbusDevice(), free_port()
    async with device.serve():
        folder = modbus(tmp_path, device.port)
        text = (folder / "devices" / "meter.yaml").read_text()
        other = text.replace("device: meter", "device: gone").replace(f":{device.port}", f":{nobody}")
        (folder / "devices" / "gone.yaml").write_text(other)
        ran = await check(folder)
    assert ran.code == 3, ran.out
    assert "gone: not reached" in ran.out
    assert re.search(r"gone\.yaml:3:19: .*check the url", ran.out)
    assert "meter: all 4 points answer" in ran.out


async def test_opcua_nodes_types_and_what_is_no_variable(tmp_path: Path, check: Check) -> None:
    nodes = {"T": (ua.VariantType.Double, 1.5), "N": (ua.VariantType.Int16, 7)}
    async with OpcUaDevice(nodes) as server:
        text = f"""\
device: reactor
adapter: opcua
connection: {{url: "{server.url}", timeout: 20s}}
points:
  - {{point: t, node: "{server.node_text("T")}", type: float64}}
  - {{point: n, node: "{server.node_text("N")}", type: float32}}
  - {{point: typo, node: "{server.node_text("Tee")}"}}
  - {{point: folder, node: "i=85"}}
  - {{point: elsewhere, node: "nsu=http://nowhere.example;s=T"}}
"""
        folder = write(tmp_path, GATEWAY, devices__reactor=text)
        ran = await check(folder)
        opened = server.connections_opened
    assert ran.code == 3, ran.out
    assert opened == 1
    lines = {line.split(": ")[1].split(" (")[0]: line for line in ran.out.splitlines() if line.startswith("  /")}
    assert "reactor: 4 of 5 points fail" in ran.out
    assert lines["n"].startswith(f"  {folder}/devices/reactor.yaml:6:5: n (")
    assert lines["n"].endswith("the server has Int16 (type: int16), the device file says type: float32")
    assert "BadNodeIdUnknown" in lines["typo"]
    assert lines["folder"].endswith('"Objects" is a folder or an object without a value; a point needs a variable')
    assert "does not know this namespace" in lines["elsewhere"]


async def test_libraries_are_loaded_before_the_first_device_is_waited_for(tmp_path: Path) -> None:
    text = f"""\
device: reactor
adapter: opcua
connection: {{url: "opc.tcp://127.0.0.1:{free_port()}"}}
points: [{{point: t, node: "ns=2;s=T"}}]
"""
    folder = modbus(tmp_path, free_port())
    (folder / "devices" / "reactor.yaml").write_text(text)
    # In a process of its own, where nothing is loaded yet; the order of events is what counts, not the time.
    code = (
        "import asyncio, sys; from gateway.commands.main import main; run = asyncio.run;"
        "asyncio.run = lambda task: (print('loaded', {'asyncua', 'pymodbus'} <= set(sys.modules)), run(task))[1];"
        f"sys.exit(main(['check', {str(folder)!r}, '--connect']))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert "loaded True" in out.decode()
    assert process.returncode == 1, out.decode()


async def test_opcua_that_is_not_there(tmp_path: Path, check: Check) -> None:
    text = f"""\
device: reactor
adapter: opcua
connection: {{url: "opc.tcp://127.0.0.1:{free_port()}", timeout: 1s}}
points: [{{point: t, node: "ns=2;s=T"}}]
"""
    ran = await check(write(tmp_path, GATEWAY, devices__reactor=text))
    assert ran.code == 1, ran.out
    assert "reactor: not reached" in ran.out
    assert "Traceback" not in ran.out


async def test_a_wrong_config_is_not_tried(tmp_path: Path, check: Check) -> None:
    device = ModbusDevice()
    async with device.serve():
        ran = await check(modbus(tmp_path, device.port, load="{connection: 1}"))
    assert ran.code == 2
    assert not device.asked
