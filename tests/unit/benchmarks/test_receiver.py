"""The receiver's account of offsets against a plain set, and its checks of values."""

from __future__ import annotations

import json
import random

import numpy as np

from benchmarks.load import kinds, modbus_devices
from benchmarks.receive.mqtt import Message
from benchmarks.receive.offsets import Offsets
from benchmarks.receive.receiver import Receiver
from benchmarks.receive.values import ValueCheck


def test_offsets_against_a_plain_set() -> None:
    rng = random.Random(7)
    for _ in range(200):
        offsets, seen, duplicates = Offsets(), set[int](), 0
        for _ in range(rng.randrange(1, 30)):
            n, count = rng.randrange(60), rng.randrange(1, 12)
            new = set(range(n, n + count))
            duplicates += len(new & seen)
            assert offsets.add(n, count) == (not new & seen)
            seen |= new
            assert offsets.received == len(seen)
            assert offsets.duplicates == duplicates
            assert offsets.next == max(seen) + 1
            assert offsets.missing == max(seen) + 1 - len(seen)


def test_a_hole_closes_when_the_backlog_comes() -> None:
    offsets = Offsets()
    offsets.add(0, 10)
    offsets.add(20, 10)
    assert offsets.missing == 10
    offsets.add(10, 10)
    assert (offsets.missing, offsets.received, offsets.duplicates) == (0, 30, 0)


def test_doubles_are_followed_tick_by_tick() -> None:
    check, items = ValueCheck("double"), np.arange(5)
    for tick in (3, 4):
        check.check(items, kinds.numbers("double", tick, items).tolist(), follow=True)
    assert (check.checked, check.wrong, check.skipped, check.repeated) == (10, 0, 0, 0)
    both = np.concatenate([items, items[::-1]])
    late = [*kinds.numbers("double", 6, items), *kinds.numbers("double", 7, items[::-1])]
    check.check(both, late, follow=True)
    assert (check.wrong, check.skipped, check.repeated) == (0, 5, 0)
    check.check(items, kinds.numbers("double", 7, items).tolist(), follow=True)
    assert (check.wrong, check.skipped, check.repeated) == (0, 5, 5)
    check.check(items, kinds.numbers("double", 8, items + 1).tolist(), follow=True)
    assert check.wrong == 5


def test_modbus_values() -> None:
    items = np.arange(30)
    modbus = ValueCheck("modbus")
    modbus.check(items, modbus_devices.slot_values(123, items).tolist(), follow=False)
    assert modbus.wrong == 0
    modbus.check(items + 1, modbus_devices.slot_values(123, items).tolist(), follow=False)
    assert modbus.wrong == 30


def test_messages_of_both_formats_and_the_catalogue() -> None:
    receiver = Receiver("double")

    def take(topic: str, body: object) -> None:
        payload = json.dumps(body, separators=(",", ":")).encode()
        receiver.take(Message(topic, memoryview(payload), len(payload)))

    head = {"enterprise": "e", "gateway": "g", "stream": "s", "device": "d"}
    take("t/d/catalogue/0", {"device": "d", "points": [{"index": 7, "p": "p0"}, {"index": 8, "p": "p1"}]})
    first = kinds.numbers("double", 1, np.arange(2)).tolist()
    columns = {"n": 0, "count": 2, "points": [7, 8], "t0": "2026-01-01T00:00:00.5Z", "dt": 0, "v": first}
    take("t/d/readings", {"schema": "columns/1", **head, **columns})
    readings = [{"p": "p1", "id": None, "t": "2026-01-01T00:00:01Z", "v": 5.0, "q": "good"}]
    take("t/d/readings", {"schema": "readings/1", **head, "n": 3, "count": 1, "readings": readings})
    take("t/d/readings", {"something": "else"})
    stats = receiver.snapshot()
    assert (stats["readings"], stats["distinct"], stats["missing"], stats["unreadable"]) == (3, 3, 1, 1)
    assert (stats["checked"], stats["wrong"]) == (2, 0)
    assert stats["delay_ms"]["max"] > 0
