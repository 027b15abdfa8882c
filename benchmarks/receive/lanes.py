"""Counts what arrives lane by lane: a backlog that drains beside live readings, and the delay of the latter.

    python -m benchmarks.receive.lanes --port 1883 --delays-of load --any-lane --values load=double --values old-=double

Headers of every message are read: distinct offsets, duplicates, holes. A delay is arrival minus a reading's own time,
of every reading of the devices that `--delays-of` names in the live lane, or with `--any-lane` wherever. `--values`
says what the devices with a name that begins so show (see `values.ValueCheck`): every value in `columns`, every 20th
message in `json`. Commands on standard input: `stats`, `reset` (of delays: older readings no longer count), `mark`,
`marked` (monotonic seconds of the first new offset after it, or null). It ends when its standard input does.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import zstandard

from benchmarks.receive import arrivals
from benchmarks.receive.mqtt import Message, Subscriber
from benchmarks.receive.offsets import Offsets
from benchmarks.receive.values import ValueCheck
from benchmarks.rig import control

_HEAD_BYTES: Final = 512
_JSON_EVERY: Final = 20
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_SERIES: Final = re.compile(rb'"stream":"([^"]*)","device":"([^"]*)","n":(\d+),"count":(\d+),"lane":"([^"]*)"')


class Group:
    """Devices whose names begin alike: what came of them, since when, until when."""

    def __init__(self, values: str) -> None:
        self.check = ValueCheck(values)
        self.distinct = 0
        self.first = self.last = 0.0
        """monotonic seconds of the first and of the newest message"""

    def came(self, new: int, moment: float) -> None:
        """`new` offsets have come."""
        self.first = self.first or moment
        self.last = moment
        self.distinct += new

    def snapshot(self) -> dict[str, Any]:
        """All of it, as plain data."""
        check = self.check
        counts = {"checked": check.checked, "wrong": check.wrong, "skipped": check.skipped, "repeated": check.repeated}
        return {"distinct": self.distinct, "first": self.first, "last": self.last, **counts}


class Receiver:
    """Everything that is known about what arrived."""

    def __init__(self, delays_of: str, any_lane: bool, values: Mapping[str, str]) -> None:
        """`values`: what to expect of devices whose names begin so."""
        self._any_lane = any_lane
        self._delays_of = delays_of.encode()
        self._groups = {prefix.encode(): Group(kind) for prefix, kind in values.items()}
        self._items: dict[bytes, npt.NDArray[np.int64]] = {}
        self._series: dict[tuple[bytes, bytes], Offsets] = {}
        self._lanes: Counter[str] = Counter()
        self._delayed: Counter[str] = Counter()
        self._delays: list[npt.NDArray[np.int64]] = []
        self._zstd = zstandard.ZstdDecompressor()
        self._marked: float | None = None
        self._since = 0
        self._messages = self._bytes = self._unreadable = 0

    def take(self, message: Message) -> None:
        """Account for one message."""
        if message.topic.endswith("/readings"):
            self._take_readings(message)
        elif self._groups and "/catalogue/" in message.topic and message.payload:
            self._take_catalogue(orjson.loads(message.payload))

    def reset(self) -> dict[str, bool]:
        """Forget the delays seen so far, and leave those readings out that are older than this."""
        self._since = time.time_ns()
        self._delays = []
        self._delayed.clear()
        return {"reset": True}

    def mark(self) -> dict[str, int]:
        """Wait for the next new offset; how many have come."""
        self._marked = None
        return {"distinct": sum(offsets.received for offsets in self._series.values())}

    def marked(self) -> float | None:
        """When it came, monotonic seconds; None = not yet."""
        return self._marked

    def snapshot(self) -> dict[str, Any]:
        """Counts since the start, delays since the last reset."""
        series = self._series
        return {
            "messages": self._messages,
            "bytes": self._bytes,
            "unreadable": self._unreadable,
            "distinct": sum(offsets.received for offsets in series.values()),
            "duplicates": sum(offsets.duplicates for offsets in series.values()),
            "missing": sum(offsets.missing for offsets in series.values()),
            "by_device": {
                device.decode(): [offsets.first, offsets.next, offsets.received]
                for (_, device), offsets in series.items()
            },
            "groups": {prefix.decode(): group.snapshot() for prefix, group in self._groups.items()},
            "lanes": dict(self._lanes),
            "delayed_in": dict(self._delayed),
            "delay_s": arrivals.percentiles(self._delays, 1e9),
            "cpu_s": control.cpu_s(),
            "time": time.monotonic(),
        }

    def _take_readings(self, message: Message) -> None:
        arrival = time.time_ns()
        self._messages += 1
        self._bytes += message.size
        payload: bytes | memoryview = message.payload
        if payload[:4] == _ZSTD:
            payload = self._zstd.decompressobj().decompress(payload)
        head = bytes(payload[:_HEAD_BYTES])
        found = _SERIES.search(head)
        if found is None:
            self._unreadable += 1
            return
        stream, device, n, count, lane = found[1], found[2], int(found[3]), int(found[4]), found[5].decode()
        offsets = self._series.setdefault((stream, device), Offsets())
        known = offsets.received
        fresh = offsets.add(n, count)
        self._lanes[lane] += count
        if self._marked is None and offsets.received > known:
            self._marked = time.monotonic()
        group = self._group_of(device)
        if group is not None:
            group.came(offsets.received - known, time.monotonic())
        delayed = device.startswith(self._delays_of) and (self._any_lane or lane == "live")
        columns = b'"schema":"columns/1"' in head
        if not (delayed or (group is not None and (columns or self._messages % _JSON_EVERY == 0))):
            return
        body = orjson.loads(payload)
        if delayed:
            times = _times(body)
            new = times[times >= self._since]
            self._delays.append(arrival - new)
            self._delayed[lane] += len(new)
        if group is not None and columns and fresh and device in self._items:
            items = self._items[device][np.array(body["points"], np.int64)]
            # Only a backlog is sent in the order of the log
            group.check.check(items, body["v"], follow=lane == "backlog")
        elif group is not None and not columns:
            name = device.decode()
            numbers = np.array(
                [group.check.item(name, int(reading["p"][1:])) for reading in body["readings"]], np.int64
            )
            group.check.check(numbers, [reading["v"] for reading in body["readings"]], follow=False)

    def _group_of(self, device: bytes) -> Group | None:
        return next((group for prefix, group in self._groups.items() if device.startswith(prefix)), None)

    def _take_catalogue(self, body: Any) -> None:
        """Points are called p0, p1 ...: their number is the item's."""
        device = body["device"].encode()
        group = self._group_of(device)
        known = self._items.get(device, np.zeros(0, np.int64))
        highest = max((point["index"] for point in body["points"]), default=-1)
        items = np.full(max(len(known), highest + 1), -1, np.int64)
        items[: len(known)] = known
        for point in body["points"]:
            number = int(point["p"][1:])
            items[point["index"]] = number if group is None else group.check.item(body["device"], number)
        self._items[device] = items


def _times(body: Any) -> npt.NDArray[np.int64]:
    """ns since the epoch, of each reading of a message in either format."""
    if "readings" in body:
        return np.array([arrivals.ns_of(reading["t"]) for reading in body["readings"]], np.int64)
    return np.broadcast_to(arrivals.ns_of(body["t0"]) + np.array(body["dt"], np.int64), (body["count"],))


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--topic", default="#")
    parser.add_argument("--delays-of", default="", help="how the names of the devices begin whose delays are wanted")
    parser.add_argument("--any-lane", action="store_true", help="not only what comes in the live lane")
    parser.add_argument("--values", action="append", default=[], metavar="PREFIX=KIND")
    arguments = parser.parse_args()
    values = dict(pair.split("=") for pair in arguments.values)
    receiver = Receiver(arguments.delays_of, arguments.any_lane, values)
    commands: control.Commands = {
        "stats": receiver.snapshot,
        "reset": receiver.reset,
        "mark": receiver.mark,
        "marked": receiver.marked,
    }
    subscriber = Subscriber("127.0.0.1", arguments.port, arguments.topic)
    control.say({"subscribed": arguments.topic})
    arrivals.count(subscriber, receiver.take, commands)


if __name__ == "__main__":
    main()
