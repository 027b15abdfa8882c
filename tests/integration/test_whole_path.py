"""A reading's whole way, proved with values: what the device holds is what the centre has, in every type and order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from asyncua import ua

from simulators.plant.encoding import arrange, encode, encode_bcd, encode_text
from simulators.plant.modbus import ModbusDevice
from simulators.plant.opcua import OpcUaDevice
from tests.support.modbus_wire import modbus_wire
from tests.support.opcua_wire import OpcUaWire
from tests.support.rig import START_S, Delivery, GatewayProcess
from tests.support.wait import eventually

ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")


class Case(NamedTuple):
    point: str
    address: int
    keys: dict[str, Any]
    registers: list[int]
    expected: Any


def modbus_cases() -> Iterator[Case]:
    """Every type in every byte order that has one, with values that no other type or order would give."""
    address = 0
    numbers = {
        "int16": -12345,
        "uint16": 54321,
        "int32": -1234567890,
        "uint32": 3456789012,
        "int64": -1234567890123456789,
        "uint64": 12345678901234567890,
        "float16": 1.5,
        "float32": 20.1,
        "float64": 3.141592653589793,
    }
    for type, value in numbers.items():
        for order in ORDERS:
            if type in ("int16", "uint16", "float16") and order in ("CDAB", "DCBA"):
                continue  # a single register has no word order
            registers = encode(value, type, order)
            yield Case(f"{type}_{order}", address, {"type": type, "order": order}, registers, value)
            address += len(registers)
    for value, type in ((-5, "int8"), (200, "uint8")):
        yield Case(f"{type}_low", address, {"type": type}, [value & 0xFF], value)
        address += 1
    extra = [
        ("bcd4", {"type": "bcd", "length": 2}, encode_bcd(12345678, 2), 12345678),
        ("text", {"type": "string", "length": 10}, encode_text("泵-7 ok", 5), "泵-7 ok"),
        ("raw", {"type": "bytes", "length": 4}, [0xDEAD, 0xBEEF], "3q2+7w=="),
        ("scaled", {"type": "int16", "scale": 0.1, "offset": -5, "unit": "℃"}, [3], -4.7),
        ("bit", {"type": "bool", "bit": 3}, [0b1000], True),
        ("list", {"type": "int16", "count": 3}, [1, 0xFFFF, 3], [1, -1, 3]),
        ("nan", {"type": "float32"}, [0x7FC0, 0], "NaN"),
        ("infinite", {"type": "float64"}, [0xFFF0, 0, 0, 0], "-Infinity"),
    ]
    for point, keys, registers, expected in extra:
        yield Case(point, address, keys, registers, expected)
        address += len(registers)


OPCUA_VALUES: dict[str, tuple[ua.VariantType, Any, Any]] = {
    "Bool": (ua.VariantType.Boolean, True, True),
    "SByte": (ua.VariantType.SByte, -128, -128),
    "Byte": (ua.VariantType.Byte, 255, 255),
    "Int16": (ua.VariantType.Int16, -32768, -32768),
    "UInt16": (ua.VariantType.UInt16, 65535, 65535),
    "Int32": (ua.VariantType.Int32, -(2**31), -(2**31)),
    "UInt32": (ua.VariantType.UInt32, 2**32 - 1, 2**32 - 1),
    "Int64": (ua.VariantType.Int64, -(2**63), -(2**63)),
    "UInt64": (ua.VariantType.UInt64, 2**64 - 1, 2**64 - 1),
    "Float": (ua.VariantType.Float, float(np.float32(20.1)), 20.1),
    "Double": (ua.VariantType.Double, 2.718281828459045, 2.718281828459045),
    "String": (ua.VariantType.String, "反应釜", "反应釜"),
    "Bytes": (ua.VariantType.ByteString, b"\xde\xad\xbe\xef", "3q2+7w=="),
    "NaN": (ua.VariantType.Double, float("nan"), "NaN"),
    "Array": (ua.VariantType.Double, [1.5, 2.5], [1.5, 2.5]),
}


@pytest.fixture
async def modbus_device() -> AsyncIterator[ModbusDevice]:
    async with ModbusDevice() as device:
        for case in modbus_cases():
            device.write("holding", case.address, case.registers)
            device.write("input", case.address, case.registers)
        device.write("coil", 7, 1)
        device.write("discrete", 9, 1)
        yield device


def modbus_file(url: str, **keys: Any) -> dict[str, Any]:
    points: list[dict[str, Any]] = [
        {"point": f"h_{case.point}", "address": f"holding {case.address}", **case.keys} for case in modbus_cases()
    ]
    points += [{"point": f"i_{case.point}", "address": f"input {case.address}", **case.keys} for case in modbus_cases()]
    points += [
        {"point": "coil", "address": "modicon 00008", "type": "bool"},
        {"point": "discrete", "address": "modicon 10010", "type": "bool"},
        {"point": "hole", "address": "holding 9000", "type": "uint16", "tag": "no such register"},
    ]
    return {
        "device": "meter",
        "adapter": "modbus",
        "connection": {"url": url, "timeout": "60s"},
        "every": "200ms",
        "points": points,
        **keys,
    }


@pytest.mark.parametrize("format", ["json", "columns"])
async def test_every_modbus_type_and_order_arrives_as_it_was(
    tmp_path: Path, modbus_device: ModbusDevice, format: str
) -> None:
    async with modbus_wire("127.0.0.1", modbus_device.port) as wire:
        with Delivery(tmp_path) as delivery:
            devices = [modbus_file(f"tcp://127.0.0.1:{wire.port}")]
            destination = delivery.destination(format=format, compression="zstd")
            with GatewayProcess(tmp_path, devices, destinations=[destination]) as gateway:
                gateway.start()
                await eventually(
                    lambda: delivered(delivery, "meter", "h_text") >= 3, START_S, "three cycles at the centre"
                )
                assert await delivery.stop(gateway) == 0, gateway.output
                check_modbus(delivery)
        wire.assert_read_only()


def delivered(delivery: Delivery, device: str, point: str) -> int:
    with delivery.report() as report:
        return sum(reading.value is not None for reading in report.readings(device, point))


def check_modbus(delivery: Delivery) -> None:
    with delivery.report() as report:
        for case in modbus_cases():
            for table in "hi":
                readings = report.readings("meter", f"{table}_{case.point}")
                values = [reading.value for reading in readings if reading.quality == "good"]
                assert values, case
                assert all(value == case.expected and type(value) is type(case.expected) for value in values), (
                    case,
                    values,
                )
                assert {reading.id for reading in readings} == {f"88.118.8/meter.{table}_{case.point}"}
                assert {reading.unit for reading in readings} == {case.keys.get("unit")}
                assert {reading.basis for reading in readings} == {2}, "Modbus has no clock but ours"
                assert all(abs(reading.received_at - reading.t_ns) < 30e9 for reading in readings)
        assert {reading.value for reading in report.readings("meter", "coil")} == {True}
        assert {reading.value for reading in report.readings("meter", "discrete")} == {True}
        hole = report.readings("meter", "hole")
        assert {(reading.value, reading.quality) for reading in hole} == {(None, "bad")}
        exact(report)


def exact(report: Any) -> None:
    """The centre reconciles from the account messages alone, to the reading."""
    reconciliation = report.reconcile()
    assert reconciliation.exact, (reconciliation, report.error_samples())
    assert report.missing() == []
    assert report.errors() == {}
    assert report.conflicts() == []


@pytest.mark.parametrize("format", ["json", "columns"])
async def test_every_opcua_type_arrives_as_it_was(tmp_path: Path, format: str) -> None:
    nodes = {name: (kind, value) for name, (kind, value, _) in OPCUA_VALUES.items()}
    async with OpcUaDevice(nodes) as device, OpcUaWire("127.0.0.1", device.port) as wire:
        points: list[dict[str, Any]] = [
            {"point": name, "node": device.node_text(name), "unit": "℃" if name == "Double" else None}
            for name in OPCUA_VALUES
        ]
        points = [{key: value for key, value in point.items() if value is not None} for point in points]
        points.append({"point": "Gone", "node": device.node_text("NoSuchNode")})
        file = {
            "device": "reactor",
            "adapter": "opcua",
            "connection": {"url": f"opc.tcp://127.0.0.1:{wire.port}/plant", "timeout": "60s"},
            "subscribe": {"publishing": "100ms", "sampling": "100ms"},
            "points": points,
        }
        with Delivery(tmp_path) as delivery:
            destination = delivery.destination(format=format)
            with GatewayProcess(tmp_path, [file], destinations=[destination]) as gateway:
                gateway.start()
                await eventually(lambda: delivered(delivery, "reactor", "Double") >= 1, START_S, "first values")
                stamp = 1_900_000_000_123_456_000 - 130_000_000 * 10**9
                await device.write("Double", 42.5, source_time_ns=stamp)
                await eventually(lambda: delivered(delivery, "reactor", "Double") >= 2, START_S, "the change")
                await device.write("Float", 1.0, status=0x808C0000)
                await eventually(lambda: bad(delivery, "reactor", "Float"), START_S, "a Bad value")
                assert await delivery.stop(gateway) == 0, gateway.output
                check_opcua(delivery, stamp)
        wire.assert_read_only()


def bad(delivery: Delivery, device: str, point: str) -> bool:
    with delivery.report() as report:
        return any(reading.quality == "bad" for reading in report.readings(device, point))


def check_opcua(delivery: Delivery, stamp: int) -> None:
    with delivery.report() as report:
        for name, (_, _, expected) in OPCUA_VALUES.items():
            first = report.readings("reactor", name)[0]
            assert (first.value, first.quality, first.id) == (expected, "good", f"88.118.8/reactor.{name}"), name
        changed = report.readings("reactor", "Double")[1]
        assert (changed.value, changed.t_ns, changed.basis, changed.unit) == (42.5, stamp, 0, "℃")
        sensor = [reading for reading in report.readings("reactor", "Float") if reading.quality == "bad"]
        assert {(reading.status, reading.value) for reading in sensor} == {(0x808C0000, None)}
        gone = report.readings("reactor", "Gone")
        assert {(reading.value, reading.quality) for reading in gone} == {(None, "bad")}
        exact(report)


def test_the_encoder_is_not_the_decoder() -> None:
    assert encode(20.1, "float32", "CDAB") == [0xCCCD, 0x41A0]
    assert arrange(b"\x01\x02\x03\x04", "DCBA") == [0x0403, 0x0201]
