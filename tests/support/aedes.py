"""The aedes broker, which shares no code with Mosquitto, in a process of its own.

async with aedes() as broker:
    ... mqtt://127.0.0.1:{broker.port} ...
    await broker.tell("deny", topics="/readings$")
    await broker.kill(); await broker.start()          # it keeps nothing; the port stays the same
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.interop import InteropServer

_FOLDER = Path(__file__).parents[1] / "interop" / "aedes"


@asynccontextmanager
async def aedes(**options: Any) -> AsyncIterator[InteropServer]:
    """Run it; `options` are those of broker.js."""
    node = shutil.which("node")
    assert node, "Node.js is missing: run scripts/interop"
    assert (_FOLDER / "node_modules").is_dir(), "the broker's packages are missing: run scripts/interop"
    broker = InteropServer([node, "broker.js"], _FOLDER, options)
    try:
        await broker.start()
        yield broker
    finally:
        await broker.kill()
