"""Function codes 1 to 4 and nothing else on the wire: in every transport, and whenever something special is asked.

On lines every byte is looked at that came, before any station made sense of it; over TCP, TLS and UDP every request.
While they pass, a block is refused and bisected, replies come late so that the line is settled, and the tools ask.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from adapters.modbus import ADAPTER, links
from gateway.contract.registers import Hint, ScanQuery, Wire
from tests.integration.test_modbus_dial_in import modem
from tests.integration.test_modbus_transports import Authority
from tests.support.broker import free_port
from tests.support.modbus_device import Act, Asked, ModbusDevice
from tests.support.modbus_line import ModbusLine, crc16, lrc
from tests.support.modbus_sink import CollectingSink, build, cycles, running
from tests.support.modbus_udp import serve_udp
from tests.support.modbus_wire import modbus_wire

READS = {1, 2, 3, 4}
LINES = ("serial", "serial-ascii", "rtu+tcp", "ascii+tcp", "listen+rtu")
NO_TOOLS = ("tls", "listen+rtu")
"""their urls say too little: certificates, and a modem that is gone with the adapter"""
HOLE = 2
TIMEOUT_S = 0.5
"""enough for a TLS handshake on a busy machine"""


def late(asked: Asked) -> Act | None:
    """After its timeout, for a request alone and for two in a row."""
    return Act(delay_s=1.5 * TIMEOUT_S) if asked.number in (9, 15, 16, 17) else None


class Heard:
    """What came over a wire."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.device = ModbusDevice(holes={HOLE}, script=late)
        self.line = ModbusLine({1: self.device}, "ascii" if "ascii" in kind else "rtu")
        self.extra: dict[str, Any] = {}

    def functions(self) -> list[int]:
        """Of every request. Fails on bytes that are none."""
        if self.kind not in LINES:
            return [asked.function for asked in self.device.asked]
        if self.line.framing == "rtu":
            frames = [self.line.raw[i : i + 8] for i in range(0, len(self.line.raw), 8)]
            assert all(len(frame) == 8 and crc16(frame[:6]) == frame[6:] for frame in frames)
        else:
            texts = self.line.raw.split(b"\r\n")
            assert texts.pop() == b""
            frames = [bytes.fromhex(text.removeprefix(b":").decode()) for text in texts]
            assert all(len(frame) == 7 and lrc(frame[:6]) == frame[6:] for frame in frames)
        return [frame[1] for frame in frames]


@asynccontextmanager
async def served(heard: Heard, authority: Authority) -> AsyncIterator[str]:
    """Yields the url."""
    kind = heard.kind
    async with AsyncExitStack() as stack:
        if kind == "udp":
            yield f"udp://127.0.0.1:{await stack.enter_async_context(serve_udp(heard.device))}"
        elif kind == "tls":
            await stack.enter_async_context(heard.device.serve(authority.server()))
            certificate, key = authority.issue("gateway", "DNS:gateway")
            heard.extra = {"tls": {"ca": authority.ca, "certificate": certificate, "key": key}}
            yield f"tls://127.0.0.1:{heard.device.port}"
        elif kind == "tcp":
            await stack.enter_async_context(heard.device.serve())
            wire = await stack.enter_async_context(modbus_wire("127.0.0.1", heard.device.port))
            stack.callback(wire.assert_read_only)
            yield f"tcp://127.0.0.1:{wire.port}"
        elif kind == "listen+rtu":
            yield f"listen+rtu://127.0.0.1:{free_port()}?id=DTU"
        elif kind.startswith("serial"):
            path = await stack.enter_async_context(heard.line.on_pty())
            yield f"serial://{path}?baud=115200&parity=N&framing={heard.line.framing}"
        else:
            yield f"{kind}://127.0.0.1:{await stack.enter_async_context(heard.line.on_tcp())}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "plant")


@pytest.mark.parametrize("kind", ["tcp", "tls", "udp", *LINES])
async def test_only_reads_pass(kind: str, authority: Authority) -> None:
    links.LATE.clear()
    heard, sink = Heard(kind), CollectingSink()
    cells = ["holding 0", "holding 1", "holding 2", "holding 3", "input 9", "coil 5", "discrete 5"]
    points = [
        {"point": f"p{i}", "address": cell, **({"type": "uint16"} if "ing" in cell or "input" in cell else {})}
        for i, cell in enumerate(cells)
    ]
    async with served(heard, authority) as url, AsyncExitStack() as stack:
        connection = {"url": url, "station": 1, "timeout": f"{TIMEOUT_S}s", "retries": 2, **heard.extra}
        file = {"device": "d", "adapter": "modbus", "every": "50ms", "points": points, "connection": connection}
        async with running(build(file), sink) as task:
            if kind == "listen+rtu":
                port = int(url.split(":")[2].split("?")[0])
                await stack.enter_async_context(modem(port, heard.line, b"DTU"))
            await cycles(sink, 106, 8, task)
        assert len(heard.device.asked) > 20, "the late ones are among them"
        if kind not in NO_TOOLS:
            tools = ADAPTER.register_tools()
            way = Wire(url, timeout_s=TIMEOUT_S, requests_per_s=200)
            looked = await tools.look(way, 1, ["holding 1", "coil 5"], Hint())
            assert all(one.raw for one in looked)
            query = ScanQuery((1,), ("holding 0-9", "input 0-9", "coil 0-9"), (), only_master=True)
            assert (await tools.scan(way, query)).stations[0].refused
    functions = heard.functions()
    assert len(functions) == len(heard.device.asked)
    assert set(functions) == READS
    assert not heard.line.strange
