"""The simulated plant seen by plain pymodbus and asyncua clients."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from asyncua import Client, ua
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusIOException

from simulators.plant.encoding import ORDERS, encode, encode_text
from simulators.plant.faults import Fault
from simulators.plant.modbus import ModbusDevice
from simulators.plant.opcua import BAD_DEVICE, NAMESPACE, UNCERTAIN_SENSOR, OpcUaDevice
from simulators.plant.server import PlantServer
from tests.support.wait import eventually


@pytest.fixture
async def device() -> AsyncIterator[ModbusDevice]:
    async with ModbusDevice({"coil": {0: 1, 1: 0, 2: 1}, "discrete": {5: 1}, "input": {7: 42}}) as device:
        yield device


async def connect(device: ModbusDevice, timeout_s: float = 3.0) -> AsyncModbusTcpClient:
    client = AsyncModbusTcpClient(device.host, port=device.port, timeout=timeout_s, retries=0)
    assert await client.connect()
    return client


@pytest.mark.parametrize("order", ORDERS)
async def test_modbus_registers_read_back(device: ModbusDevice, order: str) -> None:
    device.write("holding", 0, [*encode(20.1, "float32", order), *encode_text("空压机", 5)])
    client = await connect(device)
    answer = await client.read_holding_registers(0, count=7)
    client.close()
    raw = struct.pack(">7H", *answer.registers)
    place = {"ABCD": (0, 1, 2, 3), "CDAB": (2, 3, 0, 1), "BADC": (1, 0, 3, 2), "DCBA": (3, 2, 1, 0)}[order]
    assert struct.unpack(">f", bytes(raw[i] for i in place))[0] == pytest.approx(20.1)
    assert raw[4:].rstrip(b"\0").decode() == "空压机"


async def test_modbus_tables_and_exceptions(device: ModbusDevice) -> None:
    client = await connect(device)
    assert (await client.read_coils(0, count=3)).bits[:3] == [True, False, True]
    assert (await client.read_discrete_inputs(5, count=1)).bits[0] is True
    assert (await client.read_input_registers(7, count=1)).registers == [42]
    assert (await client.read_input_registers(7, count=2)).exception_code == 2
    assert (await client.write_register(0, 1)).exception_code == 1
    assert (await client.read_input_registers(7, count=1, device_id=9)).exception_code == 0x0B
    client.close()
    assert device.functions == {1, 2, 4, 6}
    assert device.requests[-1].station == 9
    await eventually(lambda: device.most_connections == 1 and not device.open_connections, message="connection gone")


async def test_modbus_faults_and_back(device: ModbusDevice) -> None:
    client = await connect(device, timeout_s=0.3)
    await device.set_fault(Fault.BAD)
    assert (await client.read_input_registers(7, count=1)).registers == [0xFFFF]
    await device.set_fault(Fault.EXCEPTION)
    assert (await client.read_input_registers(7, count=1)).exception_code == 4
    await device.set_fault(Fault.DELAY, 0.1)
    started = asyncio.get_running_loop().time()
    assert (await client.read_input_registers(7, count=1)).registers == [42]
    assert asyncio.get_running_loop().time() - started >= 0.1
    await device.set_fault(Fault.STOP)
    with pytest.raises(ModbusIOException):
        await client.read_input_registers(7, count=1)
    client.close()
    await device.set_fault(Fault.REFUSE)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(device.host, device.port)
    await device.set_fault(Fault.NONE)
    client = await connect(device)
    assert (await client.read_input_registers(7, count=1)).registers == [42]
    client.close()


async def test_opcua_values_statuses_and_times() -> None:
    nodes = {"R3.Temp": (ua.VariantType.Double, 81.5), "R3.Count": (ua.VariantType.UInt64, 2**63 + 1)}
    async with OpcUaDevice(nodes) as device, Client(device.url) as client:
        index = await client.get_namespace_index(NAMESPACE)
        assert index > 2  # not what a client might guess
        node = client.get_node(f"ns={index};s=R3.Temp")
        assert await node.read_value() == 81.5
        assert await client.get_node(f"ns={index};s=R3.Count").read_value() == 2**63 + 1
        moment = datetime(2026, 3, 4, 5, 6, 7, 123456, UTC)
        time_ns = int(moment.timestamp()) * 10**9 + 123_456_000
        await device.write("R3.Temp", 82.25, status=UNCERTAIN_SENSOR, source_time_ns=time_ns)
        data = await node.read_data_value(raise_on_bad_status=False)
        assert data.Value is not None
        assert data.StatusCode is not None
        assert (data.Value.Value, data.StatusCode.value, data.SourceTimestamp) == (82.25, UNCERTAIN_SENSOR, moment)
        await device.set_fault(Fault.BAD)
        data = await node.read_data_value(raise_on_bad_status=False)
        assert data.StatusCode is not None
        assert data.StatusCode.value == BAD_DEVICE
        await device.set_fault(Fault.NONE)
        data = await node.read_data_value(raise_on_bad_status=False)
        assert data.Value is not None
        assert data.Value.Value == 82.25


async def test_opcua_link_faults() -> None:
    async with OpcUaDevice({"R3.Temp": (ua.VariantType.Double, 81.5)}) as device:
        async with Client(device.url, timeout=3) as client:
            node = client.get_node(device.node_text("R3.Temp").replace(f"nsu={NAMESPACE}", "ns=3"))
            await device.set_fault(Fault.STOP)
            late = asyncio.ensure_future(node.read_value())
            done, _ = await asyncio.wait([late], timeout=0.2)
            assert not done
            await device.set_fault(Fault.NONE)
            assert await late == 81.5
        await device.set_fault(Fault.REFUSE)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", device.port)
        await device.set_fault(Fault.NONE)
        async with Client(device.url) as client:
            assert await client.get_node("ns=3;s=R3.Temp").read_value() == 81.5


async def test_plant_moves_and_obeys_its_control_port() -> None:
    async with PlantServer(tick_s=0.02) as plant:
        first = plant.meter.energy_wh
        await eventually(lambda: plant.meter.energy_wh > first, message="energy grows")
        reader, writer = await asyncio.open_connection("127.0.0.1", plant.ports["control"])

        async def ask(line: str) -> str:
            writer.write(line.encode() + b"\n")
            return (await reader.readline()).decode().strip()

        assert await ask("meter-1 delay 0.5") == "ok meter-1 delay 0.5"
        assert plant.meter_device.faults.fault is Fault.DELAY
        assert await ask("meter-1 ok") == "ok meter-1 ok"
        assert await ask("reactor-3 drop") == "ok reactor-3 dropped"
        assert (await ask("meter-1 explode")).startswith("error: expected drop or one of ok, stop")
        assert (await ask("boiler-1 stop")).startswith("error: expected status or one of compressor-1")
        assert (await ask("status")).startswith("compressor-1 tcp://127.0.0.1:")
        writer.close()
        await writer.wait_closed()


async def test_plant_serves_its_layout() -> None:
    async with PlantServer(tick_s=None) as plant:
        await plant.step(0.5)
        client = await connect(plant.meter_device)
        answer = await client.read_input_registers(18, count=4, device_id=2)
        client.close()
        assert int.from_bytes(struct.pack(">4H", *answer.registers), "big") == plant.meter.energy_wh
        async with Client(plant.urls["reactor-3"]) as reactor:
            index = await reactor.get_namespace_index(NAMESPACE)
            name = await reactor.get_node(f"ns={index};s=R3.PhaseName").read_value()
        assert name == plant.reactor.phase_name
