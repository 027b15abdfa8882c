"""config/devices/*.yaml describes the simulated plant: every point is there and shows what its machine shows.

The registers are decoded by pymodbus, so neither our adapter nor our encoder judges itself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from asyncua import Client
from pymodbus.client import AsyncModbusTcpClient

from simulators.plant.server import DEFAULT_PORTS, PlantServer

CONFIG = Path(__file__).parents[2] / "config"


def load(device: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((CONFIG / "devices" / f"{device}.yaml").read_text(encoding="utf-8"))
    return content


def place(address: str) -> tuple[str, int]:
    table, number = address.split()
    if table == "modicon":
        return {"1": "discrete", "3": "input", "4": "holding"}[number[0]], int(number[1:]) - 1
    return table, int(number)


async def read_point(client: AsyncModbusTcpClient, point: dict[str, Any], station: int) -> Any:
    table, address = place(point["address"])
    if table in ("coil", "discrete"):
        read: Callable[..., Any] = client.read_coils if table == "coil" else client.read_discrete_inputs
        return (await read(address, count=1, device_id=station)).bits[0]
    words = {"uint32": 2, "float32": 2, "uint64": 4, "float64": 4, "string": (point.get("length", 0) + 1) // 2}
    count = words.get(point["type"], 1)
    read = client.read_holding_registers if table == "holding" else client.read_input_registers
    registers = (await read(address, count=count, device_id=station)).registers
    if point["type"] in ("bcd", "float16"):  # unknown to pymodbus
        return registers[0]
    kind = client.DATATYPE[point["type"].upper()]
    order = "little" if point.get("order") == "CDAB" else "big"
    raw = client.convert_from_registers(registers, kind, word_order=order)
    return raw * point["scale"] if "scale" in point else raw


async def read_device(url: str, device: str) -> dict[str, Any]:
    config = load(device)
    host, port = url.removeprefix("tcp://").split(":")
    client = AsyncModbusTcpClient(host, port=int(port))
    assert await client.connect()
    station = config["connection"]["station"]
    values = {point["point"]: await read_point(client, point, station) for point in config["points"]}
    client.close()
    return values


async def test_modbus_points_show_the_machines() -> None:
    async with PlantServer(tick_s=None) as plant:
        await plant.step(0.5)
        got = await read_device(plant.urls["compressor-1"], "compressor-1")
        machine = plant.compressor
        assert got["made"] == 0x2408
        assert got["serial_number"].rstrip("\0") == "LG-75A-20240817"
        assert got["discharge_pressure"] == pytest.approx(machine.pressure_mpa, rel=1e-6)
        assert got["discharge_temperature"] == pytest.approx(machine.discharge_c, rel=1e-6)
        assert got["flow"] == pytest.approx(machine.flow_m3_min, rel=1e-6)
        assert got["oil_temperature"] == pytest.approx(machine.oil_c, abs=0.051)
        assert got["intake_vacuum"] == pytest.approx(machine.vacuum_kpa, abs=0.0051)
        assert got["motor_current"] == pytest.approx(machine.current_a, abs=0.051)
        assert got["ambient_temperature"] == pytest.approx(machine.ambient_c, abs=0.051)
        assert (got["motor_speed"], got["run_time"]) == (machine.speed_rpm, int(machine.run_time_s))
        assert (got["load_cycles"], got["fault_code"]) == (machine.load_cycles, 0)
        assert [got[name] for name in ("running", "loaded", "alarm", "remote")] == [True, machine.loaded, False, True]
        got = await read_device(plant.urls["meter-1"], "meter-1")
        meter = plant.meter
        for i, phase in enumerate("abc"):
            assert got[f"voltage_{phase}"] == pytest.approx(meter.voltage_v[i], rel=1e-6)
            assert got[f"current_{phase}"] == pytest.approx(meter.current_a[i], rel=1e-6)
        assert got["active_power"] == pytest.approx(meter.active_kw, rel=1e-6)
        assert got["reactive_power"] == pytest.approx(meter.reactive_kvar, rel=1e-6)
        assert got["power_factor"] == pytest.approx(meter.power_factor, abs=0.00051)
        assert got["frequency"] == pytest.approx(meter.frequency_hz, abs=0.0051)
        assert got["active_energy"] == meter.energy_wh
        assert got["reactive_energy"] == pytest.approx(meter.reactive_varh / 1000, abs=0.011)
        assert (got["demand"], got["ct_ratio"], got["breaker_closed"]) == (meter.demand_kw, 400, True)


async def test_opcua_points_exist() -> None:
    points = load("reactor-3")["points"]
    async with PlantServer(tick_s=None) as plant, Client(plant.urls["reactor-3"]) as client:
        for point in points:
            uri, _, key = point["node"].removeprefix("nsu=").partition(";")
            index = await client.get_namespace_index(uri)
            data = await client.get_node(f"ns={index};{key}").read_data_value(raise_on_bad_status=False)
            assert data.SourceTimestamp is not None, point
    assert sorted(p["point"] for p in points if p.get("governance") == {"grade": 2}) == [
        "batch_id",
        "catalyst_ratio",
        "hold_time",
        "temperature_setpoint",
    ]


def test_ports_are_the_plants_own() -> None:
    ports = {
        name: int(load(name)["connection"]["url"].split(":")[2].split("/")[0])
        for name in DEFAULT_PORTS
        if name != "control"
    }
    assert ports == {name: port for name, port in DEFAULT_PORTS.items() if name != "control"}
