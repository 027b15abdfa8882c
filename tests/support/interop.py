"""A node-opcua server in a process of its own: another implementation of OPC UA than the gateway's library.

async with interop_server(tmp_path, counters=100, period_ms=50) as server:
    ... opc.tcp://127.0.0.1:{server.port}, nodes nsu=http://interop.test/;s=c0 ...
    await server.tell("delete", nodes=["c3"])
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.broker import free_port

URI = "http://interop.test/"
_FOLDER = Path(__file__).parents[1] / "interop" / "node_opcua"
_START_S = 30.0


class InteropServer:
    """One running server process."""

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        self.port = options.pop("port", None) or free_port()
        self._arguments = json.dumps({"port": self.port, "folder": str(folder), **options})
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()

    def node(self, name: str) -> str:
        """The node id of one of its nodes as a device file writes it."""
        return f"nsu={URI};s={name}"

    async def start(self) -> None:
        """Start the process and wait until it serves; also after `kill`, on the same port."""
        node = shutil.which("node")
        assert node, "Node.js is missing: run scripts/interop"
        assert (_FOLDER / "node_modules").is_dir(), "the server's packages are missing: run scripts/interop"
        self._process = await asyncio.create_subprocess_exec(
            node,
            "server.js",
            self._arguments,
            cwd=_FOLDER,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(_START_S):
            ready = await self._line()
        assert ready.get("ready"), ready

    async def kill(self) -> None:
        """End the process without a word."""
        process = self._process
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def tell(self, op: str, **of: Any) -> dict[str, Any]:
        """Send one command and return the answer."""
        assert self._process is not None
        assert self._process.stdin is not None
        async with self._lock, asyncio.timeout(10):
            self._process.stdin.write(json.dumps({"op": op, **of}).encode() + b"\n")
            answer = await self._line()
        assert "error" not in answer, answer
        return answer

    async def _line(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        while True:
            line = await self._process.stdout.readline()
            assert line, "the server ended"
            if line.startswith(b"{"):  # node-opcua prints warnings of its own in between
                answer: dict[str, Any] = json.loads(line)
                return answer


@asynccontextmanager
async def interop_server(folder: Path, **options: Any) -> AsyncIterator[InteropServer]:
    """Run a server; `options` are those of server.js."""
    server = InteropServer(folder, options)
    try:
        await server.start()
        yield server
    finally:
        await server.kill()
