"""A TCP proxy with the delay of a bad line, for machines whose kernel has no netem.

What is lost on the way is sent again by TCP and comes later, together with all that is behind it: so a loss is a pause.
"""

from __future__ import annotations

import asyncio
import random

from tests.support.local_server import LocalServer

RETRANSMISSION_S = 0.2
"""the least that TCP waits before it sends a segment again on Linux (TCP_RTO_MIN)"""


class SlowPipe(LocalServer):
    """`async with SlowPipe(port, latency_s=1.0, loss=0.05) as pipe: ... pipe.port`; latency of each direction."""

    def __init__(self, port: int, *, latency_s: float, loss: float, seed: int = 1) -> None:
        super().__init__()
        self._target = port
        self._latency_s = latency_s
        self._loss = loss
        self._random = random.Random(seed)
        self.lost = 0
        """chunks that were held up"""

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Both directions, until both have ended."""
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        finally:
            back.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What was read is written after the latency, in order; many chunks may be under way."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(10_000)
        sender = asyncio.create_task(self._send(under_way, writer), name="slow pipe")
        due = 0.0
        try:
            while data := await reader.read(1460):
                pause = 0.0
                while self._random.random() < self._loss:
                    pause = 2 * pause or RETRANSMISSION_S
                self.lost += pause > 0
                due = max(due, loop.time() + self._latency_s) + pause
                await under_way.put((due, data))
            await under_way.put((due, b""))
            await sender
        finally:
            sender.cancel()

    async def _send(self, under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()
