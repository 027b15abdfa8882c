"""Fifty lost connections leave nothing behind; `python -m tests.soak.opcua_reconnects` makes it a thousand."""

from __future__ import annotations

from pathlib import Path

from tests.support.interop import interop_server
from tests.support.opcua_wire import OpcUaWire
from tests.support.reconnects import reconnects


async def test_fifty_reconnects_leave_nothing_behind(tmp_path: Path) -> None:
    async with (
        interop_server(tmp_path, counters=10, period_ms=50) as server,
        OpcUaWire("127.0.0.1", server.port) as wire,
    ):
        before, after = await reconnects(wire, [server.node(f"c{i}") for i in range(10)], 10, 50)
        left = await server.tell("count")
    assert after.descriptors <= before.descriptors
    assert after.tasks <= before.tasks
    assert after.rss <= before.rss * 1.05, f"{before.rss} grew to {after.rss} bytes"
    assert (left["sessions"], left["subscriptions"]) == (1, 1), "the server has one of ours, whatever happened"
