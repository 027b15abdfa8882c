"""Counts what arrives at the broker, lane by lane: distinct offsets, duplicates, holes, and the delay of live readings.

    python -m tests.soak.outage_receiver --port 1883 --topic 'iiot/v1/#'

Headers of every message are read, bodies of the live lane's alone: a delay is arrival minus a reading's own time.
Commands on standard input: `stats`, `reset` (of delays). It ends when its standard input does.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from benchmarks.receive import arrivals
from benchmarks.receive.mqtt import Message, Subscriber
from benchmarks.receive.offsets import Offsets
from benchmarks.rig import control

_HEAD_BYTES: Final = 512
_SERIES: Final = re.compile(rb'"stream":"([^"]*)","device":"([^"]*)","n":(\d+),"count":(\d+),"lane":"([^"]*)"')


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
            "delay_s": arrivals.percentiles(self._delays, 1e9),
            "time": time.monotonic(),
        }


def _times(body: Any) -> npt.NDArray[np.int64]:
    """ns since the epoch, of each reading of a message in either format."""
    if "readings" in body:
        return np.array([arrivals.ns_of(reading["t"]) for reading in body["readings"]], np.int64)
    return np.broadcast_to(arrivals.ns_of(body["t0"]) + np.array(body["dt"], np.int64), (body["count"],))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--topic", default="#")
    parser.add_argument("--delays-of", default="", help="how the names of the devices begin whose delays are wanted")
    arguments = parser.parse_args()
    receiver = Receiver(arguments.delays_of)
    commands: control.Commands = {"stats": receiver.snapshot, "reset": receiver.reset}
    subscriber = Subscriber("127.0.0.1", arguments.port, arguments.topic)
    control.say({"subscribed": arguments.topic})
    arrivals.count(subscriber, receiver.take, commands)


if __name__ == "__main__":
    main()
