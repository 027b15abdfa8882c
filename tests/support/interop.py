"""OPC UA servers that share no code with the gateway's library, each in a process of its own.

node-opcua:
    async with interop_server(tmp_path, counters=100, period_ms=50) as server:
        ... opc.tcp://127.0.0.1:{server.port}, nodes nsu=http://interop.test/;s=c0 ...
        await server.tell("delete", nodes=["c3"])

python-opcua, which has no TransferSubscriptions and forgets subscriptions with their connection:
    async with old_server(counters=100, period_ms=50) as server: ...
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.broker import free_port

URI = "http://interop.test/"
_FOLDER = Path(__file__).parents[1] / "interop"
_START_S = 120.0
"""a server starts in 3 s on a quiet machine; when it starts is no matter of any test"""


class InteropServer:
    """One running server process."""

    def __init__(self, command: Sequence[str], folder: Path, options: dict[str, Any]) -> None:
        """`command` runs in `folder`; its last argument will be `options`, with a `port`."""
        self.port: int = options.setdefault("port", free_port())
        self._command = [*command, json.dumps(options)]
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()

    def node(self, name: str) -> str:
        """The node id of one of its nodes as a device file writes it."""
        return f"nsu={URI};s={name}"

    async def start(self) -> None:
        """Start the process and wait until it serves; also after `kill`, on the same port."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command, cwd=self._folder, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
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

    async def ended(self, timeout_s: float) -> None:
        """Wait until the process ends by itself, as after `tell("shutdown")`."""
        assert self._process is not None
        async with asyncio.timeout(timeout_s):
            await self._process.wait()

    async def tell(self, op: str, **of: Any) -> dict[str, Any]:
        """Send one command and return the answer."""
        assert self._process is not None
        assert self._process.stdin is not None
        async with self._lock, asyncio.timeout(_START_S):
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
            if line.startswith(b"{"):  # servers print warnings of their own in between
                answer: dict[str, Any] = json.loads(line)
                return answer


@asynccontextmanager
async def _running(server: InteropServer) -> AsyncIterator[InteropServer]:
    try:
        await server.start()
        yield server
    finally:
        await server.kill()


@asynccontextmanager
async def interop_server(folder: Path, **options: Any) -> AsyncIterator[InteropServer]:
    """Run a node-opcua server with its certificates in `folder`; `options` are those of server.js."""
    node = shutil.which("node")
    assert node, "Node.js is missing: run scripts/interop"
    home = _FOLDER / "node_opcua"
    assert (home / "node_modules").is_dir(), "the server's packages are missing: run scripts/interop"
    async with _running(InteropServer([node, "server.js"], home, {"folder": str(folder), **options})) as server:
        yield server


@asynccontextmanager
async def old_server(**options: Any) -> AsyncIterator[InteropServer]:
    """Run a python-opcua server; `options` are counters, period_ms and port. It knows run, pause and count."""
    home = _FOLDER / "python_opcua"
    async with _running(InteropServer([sys.executable, "server.py"], home, options)) as server:
        yield server
