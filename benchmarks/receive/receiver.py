"""Counts what arrives at the broker: distinct offsets, duplicates, gaps, wrong values, delay, bytes.

    python -m benchmarks.receive.receiver --port 1883 --topic 'bench/#' --values double

Offsets are taken from the header of every message. Values are checked in every `columns` message and in every 20th
`readings` message (decoding all of them would take more of this core than the broker does). Delay is arrival minus
source time, over every 50th reading of the decoded messages. What other programs send is counted by value, all of it:
see `peer_messages`. Commands on standard input: `stats`, `reset` (of delays).
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import zstandard

from benchmarks.receive import arrivals
from benchmarks.receive.mqtt import Message, Subscriber
from benchmarks.receive.offsets import Offsets
from benchmarks.receive.peer_messages import PeerAccount
from benchmarks.receive.values import ValueCheck
from benchmarks.rig import control

HEAD_BYTES: Final = 512
DELAY_EVERY: Final = 50
JSON_EVERY: Final = 20
_SERIES: Final = re.compile(rb'"stream":"([^"]*)","device":"([^"]*)","n":(\d+),"count":(\d+)')
_COLUMNS: Final = b'"schema":"columns/1"'
_ZSTD: Final = b"\x28\xb5\x2f\xfd"


class Receiver:
    """Everything that is known about what arrived."""

    def __init__(self, values: str) -> None:
        self._series: dict[tuple[bytes, bytes], Offsets] = {}
        self._items: dict[bytes, npt.NDArray[np.int64]] = {}
        self._check = ValueCheck(values)
        self._delays: list[npt.NDArray[np.int64]] = []
        self._peers = PeerAccount(values)
        self._zstd = zstandard.ZstdDecompressor()
        self.readings = self.messages = self.bytes = self.unreadable = self.others = 0

    def take(self, message: Message) -> None:
        """Account for one message."""
        if message.topic.endswith("/readings"):
            self._take_readings(message)
        elif "/catalogue/" in message.topic and message.payload:
            self._take_catalogue(orjson.loads(message.payload))
        elif not self._peers.take(message.topic, message.payload, message.size, time.time_ns()):
            self.others += 1

    def reset(self) -> dict[str, bool]:
        """Forget the delays seen so far."""
        self._delays = []
        self._peers.delays = []
        return {"reset": True}

    def snapshot(self) -> dict[str, Any]:
        """Counts since the start, delays since the last reset."""
        series = self._series.values()
        check, peers = self._check, self._peers
        return {
            "messages": self.messages + peers.messages,
            "readings": self.readings + peers.readings,
            "distinct": sum(offsets.received for offsets in series) + peers.distinct,
            "duplicates": sum(offsets.duplicates for offsets in series) + peers.duplicates,
            "missing": sum(offsets.missing for offsets in series) + peers.missing,
            "series": len(series),
            "bytes": self.bytes + peers.bytes,
            "unreadable": self.unreadable + peers.unreadable,
            "others": self.others,
            "checked": check.checked + peers.readings,
            "wrong": check.wrong + peers.wrong,
            "skipped": check.skipped,
            "repeated": check.repeated,
            "marked": check.marked,
            "delay_ms": arrivals.percentiles(self._delays + peers.delays, 1e6),
            "cpu_s": control.cpu_s(),
            "time": time.monotonic(),
        }

    def _take_readings(self, message: Message) -> None:
        arrival = time.time_ns()
        payload: bytes | memoryview = message.payload
        if payload[:4] == _ZSTD:
            payload = self._zstd.decompressobj().decompress(payload)
        head = bytes(payload[:HEAD_BYTES])
        found = _SERIES.search(head)
        self.messages += 1
        self.bytes += message.size
        if found is None:
            self.unreadable += 1
            return
        stream, device, n, count = found[1], found[2], int(found[3]), int(found[4])
        self.readings += count
        fresh = self._series.setdefault((stream, device), Offsets()).add(n, count)
        if _COLUMNS in head:
            self._look_at_columns(device, orjson.loads(payload), arrival, fresh)
        elif self.messages % JSON_EVERY == 1:
            self._look_at_readings(device.decode(), orjson.loads(payload)["readings"], arrival)

    def _look_at_columns(self, device: bytes, body: Any, arrival: int, fresh: bool) -> None:
        times = arrivals.ns_of(body["t0"]) + np.array(body["dt"], np.int64)
        if times.ndim == 0:
            times = np.broadcast_to(times, (body["count"],))
        self._delays.append(arrival - times[::DELAY_EVERY])
        items = self._items.get(device)
        if items is not None and fresh:
            points = np.array(body["points"], np.int64)
            statuses = np.array(body.get("s", 0), np.uint32)
            self._check.check(
                items[points], body["v"], follow=True, marks=lambda: (times, np.broadcast_to(statuses, times.shape))
            )

    def _look_at_readings(self, device: str, readings: Sequence[Any], arrival: int) -> None:
        times = [arrivals.ns_of(reading["t"]) for reading in readings[::DELAY_EVERY]]
        self._delays.append(arrival - np.array(times, np.int64))
        items = np.array([self._check.item(device, int(reading["p"][1:])) for reading in readings], np.int64)

        def marks() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
            whole = np.array([arrivals.ns_of(reading["t"]) for reading in readings], np.int64)
            return whole, np.array([int(reading.get("s", "0"), 16) for reading in readings], np.uint32)

        self._check.check(items, [reading["v"] for reading in readings], follow=False, marks=marks)

    def _take_catalogue(self, body: Any) -> None:
        """Points are called p0, p1 ...: their number is the item's."""
        known = self._items.get(body["device"].encode(), np.zeros(0, np.int64))
        highest = max((point["index"] for point in body["points"]), default=-1)
        items = np.full(max(len(known), highest + 1), -1, np.int64)
        items[: len(known)] = known
        for point in body["points"]:
            items[point["index"]] = self._check.item(body["device"], int(point["p"][1:]))
        self._items[body["device"].encode()] = items


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--topic", default="#")
    parser.add_argument("--values", default="double", help="modbus, modbus-apart, or the type of the OPC UA load")
    parser.add_argument("--seconds", type=float, default=None, help="print the counts and end after so long")
    arguments = parser.parse_args()
    receiver = Receiver(arguments.values)
    commands: control.Commands = {"stats": receiver.snapshot, "reset": receiver.reset}
    subscriber = Subscriber(arguments.host, arguments.port, arguments.topic)
    control.say({"subscribed": arguments.topic})
    arrivals.count(subscriber, receiver.take, commands, arguments.seconds)
    if arguments.seconds is not None:
        control.say(receiver.snapshot())


if __name__ == "__main__":
    main()
