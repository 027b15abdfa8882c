"""The account of what others send, by value alone, against plain sets."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np

from benchmarks.load import kinds, modbus_devices
from benchmarks.receive.mqtt import Message
from benchmarks.receive.peer_messages import NODE_RED_TOPIC, THINGSBOARD_TOPIC, PeerAccount, parse, values_of
from benchmarks.receive.receiver import Receiver

SECOND = 1_700_000_000_000
"""ms"""


def doubles(pairs: list[tuple[int, int]]) -> list[float]:
    """The load's values of (item, tick)."""
    return [float(kinds.numbers("double", tick, np.array([item]))[0]) for item, tick in pairs]


def thingsboard(pairs: list[tuple[int, int]], values: list[float]) -> bytes:
    """A telemetry message with an entry for each reading."""
    entries = [
        {"ts": SECOND + tick + 0.25, "values": {f"p{item}": value}}
        for (item, tick), value in zip(pairs, values, strict=True)
    ]
    return json.dumps({"load": entries}).encode()


def node_red(device: str, slots: list[int], values: list[float]) -> bytes:
    """A message of our flow."""
    return json.dumps([{"device": device, "p": slots, "t": [SECOND] * len(slots), "v": values}]).encode()


def take(account: PeerAccount, payload: bytes, topic: str = THINGSBOARD_TOPIC) -> None:
    """Half a second after the readings' second."""
    assert account.take(topic, payload, len(payload), SECOND * 1_000_000 + 500_000_000)


def test_ticks_against_a_plain_set() -> None:
    rng = random.Random(3)
    for _ in range(30):
        account, seen, readings = PeerAccount("double"), set[tuple[int, int]](), 0
        for _ in range(rng.randrange(1, 8)):
            pairs = [(rng.randrange(6), rng.randrange(100, 140)) for _ in range(rng.randrange(1, 40))]
            take(account, thingsboard(pairs, doubles(pairs)))
            seen.update(pairs)
            readings += len(pairs)
        ticks = [[tick for item, tick in seen if item == wanted] for wanted in range(6)]
        missing = sum(max(those) - min(those) + 1 - len(those) for those in ticks if those)
        assert (account.readings, account.distinct) == (readings, len(seen))
        assert (account.duplicates, account.missing, account.wrong) == (readings - len(seen), missing, 0)


def test_values_under_a_wrong_name_and_values_that_nobody_sent() -> None:
    account = PeerAccount("double")
    take(account, thingsboard([(1, 5), (2, 5), (3, 5)], doubles([(1, 5), (3, 5), (2, 5)])))
    take(account, thingsboard([(4, 5)], [17.25]))
    assert (account.readings, account.distinct, account.wrong, account.duplicates) == (4, 1, 3, 0)


def test_registers_are_followed_by_device_over_the_end_of_their_ticks() -> None:
    account, slots = PeerAccount("modbus"), [0, 1, 7]

    def cycle(device: str, tick: int) -> None:
        values = modbus_devices.slot_values(tick, np.array(slots)).astype(float).tolist()
        take(account, node_red(device, slots, values), NODE_RED_TOPIC)

    for tick in (398, 399, 400, 402):
        cycle("m0", tick)
    cycle("m1", 398)
    assert (account.distinct, account.duplicates, account.wrong) == (15, 0, 0)
    cycle("m0", 402)
    cycle("m0", 400)
    assert (account.distinct, account.duplicates) == (15, 6)
    twice = modbus_devices.slot_values(403, np.array([5, 5])).astype(float).tolist()
    take(account, node_red("m2", [5, 5], twice), NODE_RED_TOPIC)
    assert (account.distinct, account.duplicates, account.missing) == (16, 7, 0)


def test_times_and_values_of_both_formats() -> None:
    values = doubles([(1, 5), (2, 6)])
    found = values_of(THINGSBOARD_TOPIC, thingsboard([(1, 5), (2, 6)], values))
    assert found is not None
    assert list(found.values) == values
    assert [round((time - SECOND * 1_000_000) / 1000) for time in found.times] == [5250, 6250]  # us
    assert parse(NODE_RED_TOPIC, node_red("d", [1, 2], values)) == [("d", [1, 2], values, [SECOND * 1_000_000] * 2)]
    registers = b'{"m0": [{"ts": 1, "values": {"r0": 1.5, "r14": 2.5}}]}'
    assert parse(THINGSBOARD_TOPIC, registers) == [("m0", [0, 7], [1.5, 2.5], [1_000_000] * 2)]
    assert parse("v1/gateway/connect", b"{}") is None


def test_what_cannot_be_read_is_counted() -> None:
    account = PeerAccount("double")
    broken: list[Any] = [{"load": [{"ts": 1}]}, {"load": [{"ts": 1, "values": {"x": 1.0}}]}, [1], "text", {"load": 3}]
    for body in broken:
        take(account, json.dumps(body).encode())
    take(account, b"{")
    take(account, b'{"load": [{"ts": 1, "values": {"p1": null, "p2": "text"}}]}')
    assert (account.unreadable, account.readings) == (7, 0)


def test_the_receiver_adds_them_to_its_counts() -> None:
    receiver, size = Receiver("double"), 0
    for pairs in ([(0, 1), (1, 1)], [(0, 3), (1, 1)]):
        payload = thingsboard(pairs, doubles(pairs))
        receiver.take(Message(THINGSBOARD_TOPIC, memoryview(payload), len(payload) + 30))
        size += len(payload) + 30
    stats = receiver.snapshot()
    assert (stats["messages"], stats["readings"], stats["distinct"]) == (2, 4, 3)
    assert (stats["duplicates"], stats["missing"], stats["wrong"], stats["unreadable"]) == (1, 1, 0, 0)
    assert stats["bytes"] == size
    assert stats["delay_ms"]["count"] == 2
    receiver.reset()
    assert receiver.snapshot()["delay_ms"] == {}
