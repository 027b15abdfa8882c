"""Counts what arrives at the broker, lane by lane: distinct offsets, duplicates, holes, and the delay of live readings.

    python -m tests.soak.outage_receiver --port 1883 --topic 'iiot/v1/#'

Headers of every message are read, bodies of the live lane's alone: a delay is arrival minus a reading's own time.
Commands on standard input: `stats`, `reset` (of delays). It ends when its standard input does.
"""

from __future__ import annotations

import argparse
import queue
import re
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from benchmarks import control
from benchmarks.mqtt import Message, Subscriber
from benchmarks.offsets import Offsets

_HEAD_BYTES: Final = 512
_SERIES: Final = re.compile(rb'"stream":"([^"]*)","device":"([^"]*)","n":(\d+),"count":(\d+),"lane":"([^"]*)"')
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_END: Final = ""


class Receiver:
    """Everything that is known about what arrived."""

    def __init__(self, delays_of: str) -> None:
        self._delays_of = delays_of.encode()
        self._series: dict[tuple[bytes, bytes], Offsets] = {}
        self._lanes: Counter[str] = Counter()
        self._delays: list[npt.NDArray[np.int64]] = []
        self._messages = self._bytes = self._unreadable = 0

    def take(self, message: Message) -> None:
        if not message.topic.endswith("/readings"):
            return
        arrival = time.time_ns()
        self._messages += 1
        self._bytes += message.size
        found = _SERIES.search(bytes(message.payload[:_HEAD_BYTES]))
        if found is None:
            self._unreadable += 1
            return
        stream, device, n, count, lane = found[1], found[2], int(found[3]), int(found[4]), found[5].decode()
        self._series.setdefault((stream, device), Offsets()).add(n, count)
        self._lanes[lane] += count
        if lane == "live" and device.startswith(self._delays_of):
            self._delays.append(arrival - _times(orjson.loads(message.payload)))

    def reset(self) -> dict[str, bool]:
        """Forget the delays seen so far."""
        self._delays = []
        return {"reset": True}

    def snapshot(self) -> dict[str, Any]:
        series = self._series
        return {
            "messages": self._messages,
            "bytes": self._bytes,
            "unreadable": self._unreadable,
            "distinct": sum(offsets.received for offsets in series.values()),
            "duplicates": sum(offsets.duplicates for offsets in series.values()),
            "by_device": {
                device.decode(): [offsets.first, offsets.next, offsets.received]
                for (_, device), offsets in series.items()
            },
            "lanes": dict(self._lanes),
            "delay_s": self._percentiles(),
            "time": time.monotonic(),
        }

    def _percentiles(self) -> dict[str, float]:
        if not self._delays:
            return {}
        delays = np.concatenate(self._delays) / 1e9
        p50, p99, top = np.percentile(delays, (50, 99, 100)).tolist()
        return {"p50": p50, "p99": p99, "max": top, "count": len(delays)}


def _times(body: Any) -> npt.NDArray[np.int64]:
    """ns since the epoch, of each reading of a message in either format."""
    if "readings" in body:
        return np.array([_ns(reading["t"]) for reading in body["readings"]], np.int64)
    return np.broadcast_to(_ns(body["t0"]) + np.array(body["dt"], np.int64), (body["count"],))


def _ns(text: str) -> int:
    """ns since the epoch of an RFC 3339 time in UTC with up to nine digits."""
    second, _, fraction = text.rstrip("Z").partition(".")
    whole = (datetime.fromisoformat(second).replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
    return whole * 1_000_000_000 + int(fraction.ljust(9, "0") or 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--topic", default="#")
    parser.add_argument("--delays-of", default="", help="how the names of the devices begin whose delays are wanted")
    arguments = parser.parse_args()
    receiver = Receiver(arguments.delays_of)
    commands: control.Commands = {"stats": receiver.snapshot, "reset": receiver.reset}
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(lines,), name="commands", daemon=True).start()
    subscriber = Subscriber("127.0.0.1", arguments.port, arguments.topic)
    control.say({"subscribed": arguments.topic})
    for message in subscriber.messages(0.02):
        if message is not None:
            receiver.take(message)
        while not lines.empty():
            if (line := lines.get()) == _END:
                return
            control.obey(line, commands)


def _read(lines: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    lines.put(_END)


if __name__ == "__main__":
    main()
