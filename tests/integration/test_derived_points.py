"""Derived points, ranges, deadbands and windows through a real gateway: what the centre has of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simulators.plant.encoding import encode
from simulators.plant.modbus import ModbusDevice
from tests.support.rig import START_S, Delivery, GatewayProcess
from tests.support.wait import eventually


def device_file(port: int) -> dict[str, Any]:
    return {
        "device": "pump-1",
        "adapter": "modbus",
        "connection": {"url": f"tcp://127.0.0.1:{port}", "timeout": "60s"},
        "every": "100ms",
        "points": [
            {"point": "p_in", "address": "holding 0", "type": "float32", "range": [0, 1.6], "unit": "MPa"},
            {"point": "p_kpa", "address": "holding 0", "type": "float32", "unit": "MPa", "convert_to": "kPa"},
            {"point": "p_out", "address": "holding 2", "type": "uint16", "scale": 0.1, "deadband": 0.25},
        ],
        "derived": [
            {"point": "high", "expression": "delta_p > 500", "tag": "PDAH-101"},
            {
                "point": "delta_p",
                "expression": "(p_in - p_out) * 1000",
                "unit": "kPa",
                "governance": {"grade": 2},
            },
            {"point": "p_in_1s", "window": {"of": "p_in", "over": "1s", "kind": "max"}, "unit": "MPa"},
        ],
    }


async def test_what_is_computed_is_a_point_of_its_own_at_the_centre(tmp_path: Path) -> None:
    async with ModbusDevice() as plant:
        plant.write("holding", 0, encode(1.25, "float32", "ABCD"))
        plant.write("holding", 2, [5])
        with Delivery(tmp_path) as delivery:
            with GatewayProcess(tmp_path, [device_file(plant.port)], destinations=[delivery.destination()]) as gateway:
                gateway.start()
                await eventually(
                    lambda: any(value == 750.0 for value, _ in told(delivery, "delta_p")), START_S, "750 kPa"
                )
                plant.write("holding", 0, encode(1.75, "float32", "ABCD"))
                await eventually(
                    lambda: any(value == 1250.0 for value, _ in told(delivery, "delta_p")), START_S, "1250 kPa"
                )
                plant.write("holding", 0, encode(0.75, "float32", "ABCD"))
                await eventually(lambda: (False, "good") in told(delivery, "high"), START_S, "no alarm")
                await eventually(lambda: len(told(delivery, "p_in_1s")) >= 3, START_S, "three windows")
                assert gateway.metric("edge_gateway_readings_filtered_total", adapter="modbus") > 0
                assert await delivery.stop(gateway) == 0, gateway.output
            assert set(told(delivery, "delta_p")) == {(750.0, "good"), (1250.0, "uncertain"), (250.0, "good")}
            assert set(told(delivery, "high")) == {(True, "good"), (True, "uncertain"), (False, "good")}
            assert {value for value, _ in told(delivery, "p_kpa")} == {1250.0, 1750.0, 750.0}
            assert told(delivery, "p_out") == [(0.5, "good")]  # the deadband leaves out all that is equal
            assert {value for value, _ in told(delivery, "p_in_1s")} <= {1.25, 1.75, 0.75}
            assert told(delivery, "p_in_1s")[0][1] == "uncertain"  # the beginning of the first was not seen
            with delivery.report() as report:
                assert report.reconcile().exact, report.error_samples()
                assert report.errors() == {}
                entries = {entry["p"]: entry for entry in report.catalogue("pump-1").values()}
            assert (entries["high"]["type"], entries["delta_p"]["type"]) == ("bool", "float64")
            assert (entries["delta_p"]["unit"], entries["high"]["id"]) == ("kPa", "88.118.8/pump-1.high")
            assert (entries["p_kpa"]["unit"], entries["p_kpa"]["scale"]) == ("kPa", 1000.0)
            assert (entries["p_kpa"]["ucum"], entries["p_kpa"]["unit_code"]) == ("kPa", "KPA")
            assert "ucum" not in entries["high"]
            assert {name: entries[name]["grade"] for name in ("p_in", "delta_p", "high")} == {
                "p_in": 1, "delta_p": 2, "high": 2
            }  # fmt: skip


def told(delivery: Delivery, point: str) -> list[tuple[Any, str]]:
    """Value and quality of each reading that the centre has of a point."""
    with delivery.report() as report:
        return [(reading.value, reading.quality) for reading in report.readings("pump-1", point)]
