"""Secure channels that live for seconds: renewing them under load loses nothing, encrypted or not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from adapters.opcua.config import LoadConfig
from adapters.opcua.connecting import connect
from adapters.opcua.connecting.connect import open_session
from gateway.contract import Refused
from tests.fault.test_opcua_life import Device
from tests.support.interop import InteropServer, interop_server
from tests.support.machine import slowdown
from tests.support.opcua_rig import patient_device as device
from tests.support.tcp_pipe import TcpPipe
from tests.support.wait import eventually

COUNTERS = 200
RENEWALS = 2


async def trusting(server: InteropServer, folder: Path, security: str) -> dict[str, Any]:
    """Keys of a connection with which the server's certificate is trusted, as its refusal says."""
    keys = {"security": security, "pki": str(folder / "pki")}
    if security != "None":
        config = device(server.port, [server.node("c0")], connection=keys).connection
        with pytest.raises(Refused, match="is not trusted") as refused:
            async with open_session(config, LoadConfig()):
                pass
        pin = re.search(r'connection\.trust: "(.*)"', str(refused.value))
        assert pin is not None
        keys["trust"] = pin[1]
    return keys


@pytest.mark.parametrize(
    "security", ["None", "Basic256Sha256/Sign", "Basic256Sha256/SignAndEncrypt", "Aes256_Sha256_RsaPss/SignAndEncrypt"]
)
async def test_renewing_the_channel_under_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, security: str) -> None:
    # As long as both sides need on this machine now: the server ends a channel that is renewed too late.
    lifetime_s = min(8.0 * slowdown(), 60.0)
    monkeypatch.setattr(connect, "CHANNEL_LIFETIME_S", lifetime_s)
    options = {"counters": COUNTERS, "period_ms": 50, "quiet_time": True}
    async with interop_server(tmp_path, **options) as server, TcpPipe("127.0.0.1", server.port) as pipe:
        keys = await trusting(server, tmp_path, security)
        nodes = [server.node(f"c{i}") for i in range(COUNTERS)]
        one = Device("reactor", device(pipe.port, nodes, connection=keys, subscribe={"publishing": "50ms"}))
        async with one.running(COUNTERS):
            before: list[int] = (await server.tell("run"))["values"]
            channels, connections = pipe.channels, pipe.connections
            await eventually(lambda: pipe.channels >= channels + RENEWALS, 3 * lifetime_s + 60, str(one.state))
            final: list[int] = (await server.tell("pause"))["values"]
            await eventually(lambda: all(one.last(point) == final[point] for point in range(COUNTERS)))
        assert pipe.connections == connections
        for point in range(COUNTERS):
            values = one.values(point)
            assert values == list(range(before[point], final[point] + 1)), f"point {point}"
        assert one.gaps == []
        assert one.state.outages == 0
