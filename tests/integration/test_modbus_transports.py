"""TLS with certificates on both sides, UDP with lost and late datagrams, and several requests on their way at once."""

from __future__ import annotations

import asyncio
import ssl
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymodbus.framer import FramerType
from pymodbus.server import ModbusTlsServer, ModbusUdpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from gateway.contract import LinkLost
from gateway.contract.status import GOOD
from tests.integration.test_modbus_adapter import assert_own_addresses, holding
from tests.support.modbus_device import Act, Asked, ModbusDevice
from tests.support.modbus_sink import CollectingSink, build, cycles, device_file, running
from tests.support.modbus_udp import serve_udp


class Authority:
    """Signs certificates with openssl, which is not what the gateway uses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=plant ca",
                      "-keyout", "ca.key", "-out", "ca.pem")  # fmt: skip

    def issue(self, name: str, san: str, days: int = 2) -> tuple[str, str]:
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
                      "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
        (self.folder / "san").write_text(f"subjectAltName={san}\n")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                      "-days", str(days), "-extfile", "san", "-out", f"{name}.pem")  # fmt: skip
        return str(self.folder / f"{name}.pem"), str(self.folder / f"{name}.key")

    @property
    def ca(self) -> str:
        return str(self.folder / "ca.pem")

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def server(self, san: str = "IP:127.0.0.1") -> ssl.SSLContext:
        """A device's side: it asks for a certificate of this authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue("device", san))
        context.load_verify_locations(self.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "plant")


def tls_file(port: int, authority: Authority, ca: str | None = None, **tls: Any) -> dict[str, Any]:
    certificate, key = authority.issue("gateway", "DNS:gateway")
    keys = {"ca": ca or authority.ca, "certificate": certificate, "key": key, **tls}
    return device_file(
        port, holding(0, 200), connection={"url": f"tls://127.0.0.1:{port}", "timeout": "2s", "tls": keys}
    )


async def test_tls_with_certificates_on_both_sides(authority: Authority) -> None:
    sink = CollectingSink()
    async with (
        ModbusDevice().serve(authority.server()) as device,
        running(build(tls_file(device.port, authority)), sink) as task,
    ):
        await cycles(sink, 101, 3, task)
    assert_own_addresses(sink, holding(0, 200))
    assert device.functions == {3}


async def test_a_pymodbus_tls_server(authority: Authority) -> None:
    bits = [SimData(0, values=[False] * 8, datatype=DataType.BITS)]
    registers = [SimData(0, values=list(range(300)), datatype=DataType.REGISTERS)]
    data = (bits, bits, registers, registers)
    server = ModbusTlsServer(
        SimDevice(1, simdata=data), framer=FramerType.SOCKET, address=("127.0.0.1", 0), sslctx=authority.server()
    )
    await server.listen()
    try:
        port = server.transport.sockets[0].getsockname()[1]
        sink = CollectingSink()
        async with running(build(tls_file(port, authority)), sink) as task:
            await cycles(sink, 101, 3, task)
        assert_own_addresses(sink, holding(0, 200))
    finally:
        await server.shutdown()


async def test_a_device_that_is_not_who_it_should_be_is_refused(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger")
    wrong: list[tuple[ssl.SSLContext, Callable[[int], dict[str, Any]], str]] = [
        (stranger.server(), lambda port: tls_file(port, authority), "certificate verify failed"),
        (authority.server("DNS:another"), lambda port: tls_file(port, authority), "IP address mismatch"),
    ]
    for context, content, message in wrong:
        async with ModbusDevice().serve(context) as device:
            with pytest.raises(LinkLost, match=message):
                await build(content(device.port)).run(CollectingSink())
            assert not device.asked


async def test_a_missing_certificate_file_says_which(authority: Authority) -> None:
    async with ModbusDevice().serve(authority.server()) as device:
        content = tls_file(device.port, authority, ca="/nowhere/ca.pem")
        with pytest.raises(LinkLost, match=r"/nowhere/ca\.pem"):
            await build(content).run(CollectingSink())


async def test_udp() -> None:
    sink = CollectingSink()
    device = ModbusDevice()
    async with serve_udp(device) as port:
        content = device_file(port, holding(0, 200), connection={"url": f"udp://127.0.0.1:{port}"})
        async with running(build(content), sink) as task:
            await cycles(sink, 101, 3, task)
    assert_own_addresses(sink, holding(0, 200))
    assert device.functions == {3}


async def test_a_pymodbus_udp_server() -> None:
    bits = [SimData(0, values=[False] * 8, datatype=DataType.BITS)]
    registers = [SimData(0, values=list(range(300)), datatype=DataType.REGISTERS)]
    server = ModbusUdpServer(SimDevice(1, simdata=(bits, bits, registers, registers)), address=("127.0.0.1", 0))
    await server.listen()
    try:
        port = server.transport.get_extra_info("sockname")[1]
        sink = CollectingSink()
        content = device_file(port, holding(0, 200), connection={"url": f"udp://127.0.0.1:{port}"})
        async with running(build(content), sink) as task:
            await cycles(sink, 101, 3, task)
        assert_own_addresses(sink, holding(0, 200))
    finally:
        await server.shutdown()


async def test_datagrams_that_are_lost_late_doubled_or_foreign() -> None:
    points = holding(0, 200, 400)

    def script(asked: Asked) -> Act | None:
        kinds = {
            2: Act(silent=True),
            5: Act(delay_s=0.35),
            8: Act(transaction_offset=1),
            11: Act(raw=b"hello"),
            14: Act(station=9),
            17: Act(trailing=b"\0\1\0\0\0\5\1\3\2\xff\xff"),
        }
        return kinds.get(asked.number)

    sink = CollectingSink()
    device = ModbusDevice(script=script)
    async with serve_udp(device) as port:
        content = device_file(port, points, connection={"url": f"udp://127.0.0.1:{port}"})
        async with running(build(content), sink) as task:
            await cycles(sink, 102, 9, task)
    assert len(device.asked) > 20
    assert_own_addresses(sink, points)
    assert {reading.status for readings in sink.readings.values() for reading in readings} == {GOOD}


async def test_several_requests_on_their_way_over_one_connection() -> None:
    """A device 40 ms away: one at a time, 8 blocks take 320 ms; four at a time they take about 80 ms."""
    points = holding(*range(0, 1600, 200))
    most = 0
    waiting: set[int] = set()

    class Pipelined(ModbusDevice):
        async def _serve_one(self, reader: Any, writer: Any) -> bool:
            return await pipelined(self, reader, writer)

    async def pipelined(device: ModbusDevice, reader: Any, writer: Any) -> bool:
        nonlocal most
        header = await reader.readexactly(7)
        transaction, _, length, station = struct.unpack(">HHHB", header)
        function, address, count = struct.unpack(">BHH", await reader.readexactly(length - 1))
        asked = Asked(len(device.asked), transaction, station, function, address, count)
        device.asked.append(asked)
        waiting.add(transaction)
        most = max(most, len(waiting))

        def answer() -> None:
            waiting.discard(transaction)
            writer.write(device.frame(asked, Act()))

        asyncio.get_running_loop().call_later(0.04, answer)
        return True

    sink = CollectingSink()
    async with Pipelined().serve() as device:
        content = device_file(device.port, points, load={"outstanding": 4}, every="100ms")
        async with running(build(content), sink) as task:
            for index in range(100, 108):
                await cycles(sink, index, 5, task)
        assert device.most_open == 1
    assert most == 4
    assert_own_addresses(sink, points)
