"""A thousand lost OPC UA connections: descriptors, tasks and memory stay where they are, within 5 %.

usage: python -m tests.soak.opcua_reconnects [COUNT]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.support.interop import interop_server
from tests.support.opcua_wire import OpcUaWire
from tests.support.reconnects import reconnects

GROWTH = 1.05


async def main(count: int) -> int:
    """Run, print what was held before and after; 0 if nothing grew, 1 otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            interop_server(Path(folder), counters=10, period_ms=50) as server,
            OpcUaWire("127.0.0.1", server.port) as wire,
        ):
            before, after = await reconnects(wire, [server.node(f"c{i}") for i in range(10)], 50, count)
            left = await server.tell("count")
    print(f"before: {before}\nafter {count} reconnects: {after}\nat the server: {left}")
    grown = any(late > early * GROWTH for early, late in zip(before, after, strict=True))
    return int(grown or left["sessions"] > 1 or left["subscriptions"] > 1)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)))
