"""The device file: defaults, and the message of each mistake."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.modbus import ADAPTER, ModbusDeviceConfig
from adapters.modbus.point import ModbusPointConfig
from gateway.contract import ValueType


def device(points: list[dict[str, Any]], **keys: Any) -> ModbusDeviceConfig:
    content = {"device": "d", "adapter": "modbus", "connection": {"url": "tcp://h"}, "points": points, **keys}
    return ModbusDeviceConfig.model_validate(content)


def point(**keys: Any) -> ModbusPointConfig:
    return ModbusPointConfig.model_validate({"point": "p", "address": "holding 0", **keys})


def test_defaults() -> None:
    config = device([{"point": "p", "address": "coil 0"}])
    assert config.connection.place.wire == ("tcp", "h", 502)
    assert (config.connection.station, config.connection.timeout_s, config.connection.retries) == (1, 1.0, 1)
    assert (config.load.connections, config.load.max_registers, config.load.max_bits) == (1, 125, 2000)
    assert (config.load.max_gap, config.load.requests_per_s, config.every) == (8, None, 1.0)
    assert config.points[0].value_type is ValueType.BOOL
    assert ADAPTER.device_model is ModbusDeviceConfig


def test_a_point_in_what_must_not_be_read() -> None:
    points = [{"point": "p", "address": "holding 39", "type": "float32"}]
    with pytest.raises(ValidationError, match="point p lies in holding 40-49, which `unreadable` says"):
        device(points, unreadable=["holding 40-49"])
    assert device(points, unreadable=["holding 41", "input 39"]).model_dump(mode="json")["unreadable"] == [
        "holding 41",
        "input 39",
    ]


def test_it_goes_through_json_and_has_a_schema() -> None:
    schema = ModbusDeviceConfig.model_json_schema()
    assert "holding" in str(schema["$defs"]["ModbusPointConfig"]["properties"]["address"])
    config = device([{"point": "p", "address": "modicon 40001", "type": "float32"}])
    assert config.points[0].model_dump(mode="json")["address"] == "holding 0"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "add a type"),
        ({"address": 40001, "type": "int16"}, "two ways"),
        ({"address": "coil 1", "type": "int16"}, "a coil holds one bit"),
        ({"address": "coil 1", "bit": 3}, "bit is only for type bool in a holding or input register"),
        ({"type": "int16", "bit": 3}, "bit is only for"),
        ({"type": "bool", "bit": 16}, "less than or equal to 15"),
        ({"type": "float32", "length": 4}, "length is only for bcd, string and bytes"),
        ({"type": "string"}, "needs a length in bytes"),
        ({"type": "bytes"}, "needs a length in bytes"),
        ({"type": "bcd", "length": 5}, "at most 4"),
        ({"type": "string", "length": 4, "count": 2}, "count cannot be combined"),
        ({"type": "float32", "order": "GHEFCDAB"}, "names eight bytes"),
        ({"type": "string", "length": 4, "order": "CDAB"}, "use ABCD or BADC"),
        ({"type": "int16", "order": "ABDC"}, "ABCD"),
        ({"address": "holding 65535", "type": "float32"}, "beyond the last address"),
        ({"type": "float"}, "float32"),
        ({"type": "int16", "every": "0s"}, "more than zero"),
        ({"type": "int16", "invalid": [math.inf]}, "inf does not fit into int16"),
        ({"type": "int16", "invalid": [math.nan]}, "nan does not fit into int16"),
    ],
)
def test_mistakes_in_a_point(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        point(**keys)


def test_a_point_larger_than_a_request() -> None:
    with pytest.raises(ValidationError, match=r"point p covers 126 registers, but load.max_registers allows 125"):
        device([{"point": "p", "address": "holding 0", "type": "uint16", "count": 126}])
    with pytest.raises(ValidationError, match=r"point p covers 20 bits, but load.max_bits allows 16"):
        device([{"point": "p", "address": "coil 0", "count": 20}], load={"max_bits": 16})


@pytest.mark.parametrize("station", [-1, 256])
def test_station_range(station: int) -> None:
    with pytest.raises(ValidationError):
        device([{"point": "p", "address": "coil 0"}], connection={"url": "tcp://h", "station": station})
