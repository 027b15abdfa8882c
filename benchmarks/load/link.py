"""A link between a gateway and its broker, on which every byte is counted in both directions.

    python -m benchmarks.load.link --to 1883

`link_bytes` is what a modem would have to carry: what TCP carries, and 52 bytes of IPv4 and TCP headers (with
timestamps) for each segment. Loopback makes segments larger than a link does, so that at least one for each 1,448
bytes is counted, and an acknowledgement for every other. Commands on standard input: `stats`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import struct
from typing import Any, Final

from benchmarks.rig import control

HEADER_BYTES: Final = 52
SEGMENT_BYTES: Final = 1_448
_CHUNK: Final = 65_536
_SEGMENTS: Final = struct.Struct("II")
_SEGMENTS_AT: Final = 136
"""tcpi_segs_out, tcpi_segs_in in struct tcp_info (linux/tcp.h)"""


class Link:
    """What was carried, over all connections."""

    def __init__(self) -> None:
        self.connections = self.up = self.down = 0
        self._segments = 0
        self._open: set[socket.socket] = set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        """Carry one connection until either side ends it."""
        self.connections += 1
        there, away = await asyncio.open_connection("127.0.0.1", port)
        own = writer.get_extra_info("socket")
        self._open.add(own)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, away, "up"), name="up")
                group.create_task(self._pass(there, writer, "down"), name="down")
        finally:
            self._open.discard(own)
            self._segments += _segments(own)
            writer.close()
            away.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_CHUNK):
                setattr(self, way, getattr(self, way) + len(data))
                writer.write(data)
                await writer.drain()
        writer.close()

    def snapshot(self) -> dict[str, Any]:
        """Bytes and segments so far."""
        carried = self.up + self.down
        segments = max(self._segments + sum(map(_segments, self._open)), round(1.5 * carried / SEGMENT_BYTES))
        return {
            "connections": self.connections,
            "up": self.up,
            "down": self.down,
            "segments": segments,
            "link_bytes": carried + segments * HEADER_BYTES,
        }


def _segments(own: Any) -> int:
    try:
        info = own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SEGMENTS_AT + _SEGMENTS.size)
    except OSError:
        return 0
    return sum(_SEGMENTS.unpack_from(info, _SEGMENTS_AT))


async def run(arguments: argparse.Namespace) -> None:
    """Carry until standard input ends."""
    link = Link()
    server = await asyncio.start_server(
        lambda reader, writer: link.carry(reader, writer, arguments.to), "127.0.0.1", arguments.port
    )
    control.say({"port": server.sockets[0].getsockname()[1]})
    await control.serve({"stats": link.snapshot}, None)


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--to", type=int, required=True, help="the broker's port")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
