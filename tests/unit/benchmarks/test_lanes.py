"""The receiver of a backlog beside live readings, the plant of the backlog, and the link that counts its bytes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
import zstandard

from benchmarks.load.backlog import PREFIX, RATE, BacklogPlant
from benchmarks.load.kinds import numbers
from benchmarks.load.link import HEADER_BYTES, Link
from benchmarks.receive.lanes import Receiver
from benchmarks.receive.mqtt import Message
from gateway.contract.batch import ValueType
from gateway.log.records import PointRecord
from tests.support.local_server import LocalServer

HEAD = {"enterprise": "e", "gateway": "g", "stream": "s"}


def columns(device: str, n: int, lane: str, tick: int, items: int = 2) -> dict[str, Any]:
    values = numbers("double", tick, np.arange(items)).tolist()
    head = {"schema": "columns/1", **HEAD, "device": device, "n": n, "count": items, "lane": lane}
    return {**head, "points": list(range(items)), "t0": "2026-01-01T00:00:00Z", "dt": 0, "v": values}


def take(receiver: Receiver, topic: str, body: object, compress: bool = False) -> None:
    payload = json.dumps(body, separators=(",", ":")).encode()
    if compress:
        payload = zstandard.compress(payload)
    receiver.take(Message(topic, memoryview(payload), len(payload)))


def receiver_of(any_lane: bool) -> Receiver:
    receiver = Receiver("load", any_lane, {"load": "double", PREFIX: "double"})
    for device in ("load", f"{PREFIX}1"):
        points = [{"index": index, "p": f"p{index}"} for index in range(2)]
        take(receiver, f"t/{device}/catalogue/0", {"device": device, "points": points})
    return receiver


@pytest.mark.parametrize("compress", [False, True])
def test_lanes_groups_and_values(compress: bool) -> None:
    receiver = receiver_of(any_lane=True)
    for tick in (5, 6, 8):
        take(receiver, f"t/{PREFIX}1/readings", columns(f"{PREFIX}1", 2 * (tick - 5), "backlog", tick), compress)
    take(receiver, "t/load/readings", columns("load", 0, "live", 3))
    take(receiver, "t/load/readings", columns("load", 0, "live", 3))
    seen = receiver.snapshot()
    assert seen["lanes"] == {"backlog": 6, "live": 4}
    assert (seen["distinct"], seen["duplicates"], seen["missing"]) == (8, 2, 2)
    old, live = seen["groups"][PREFIX], seen["groups"]["load"]
    assert (old["distinct"], old["checked"], old["wrong"], old["skipped"], old["repeated"]) == (6, 6, 0, 2, 0)
    assert (live["distinct"], live["checked"], live["wrong"]) == (2, 2, 0)
    assert 0 < old["first"] <= old["last"]
    mixed_up = {**columns("load", 2, "live", 4), "points": [1, 0]}
    take(receiver, "t/load/readings", mixed_up)
    assert receiver.snapshot()["groups"]["load"]["wrong"] == 2


def test_a_live_reading_that_fell_back_into_the_backlog_is_not_left_out_of_the_delays() -> None:
    for any_lane, counted in ((True, {"live": 2, "backlog": 2}), (False, {"live": 2})):
        receiver = receiver_of(any_lane)
        take(receiver, "t/load/readings", columns("load", 0, "live", 1))
        take(receiver, "t/load/readings", columns("load", 2, "backlog", 2))
        take(receiver, f"t/{PREFIX}1/readings", columns(f"{PREFIX}1", 0, "backlog", 2))
        seen = receiver.snapshot()
        assert seen["delayed_in"] == counted
        assert seen["delay_s"]["count"] == sum(counted.values())
        receiver.reset()
        take(receiver, "t/load/readings", columns("load", 4, "live", 3))
        later = {**columns("load", 6, "live", 4), "t0": "2100-01-01T00:00:00Z"}
        assert receiver.snapshot()["delay_s"] == {}, "what is older than the reset no longer counts"
        take(receiver, "t/load/readings", later)
        assert receiver.snapshot()["delay_s"]["count"] == 2


def test_only_a_new_offset_is_the_first_after_a_mark() -> None:
    receiver = receiver_of(any_lane=True)
    take(receiver, "t/load/readings", columns("load", 0, "live", 1))
    assert receiver.mark() == {"distinct": 2}
    take(receiver, "t/load/readings", columns("load", 0, "live", 1))
    assert receiver.marked() is None
    take(receiver, "t/load/readings", columns("load", 2, "live", 2))
    assert receiver.marked() is not None


def test_the_backlog_is_what_its_name_says() -> None:
    plant = BacklogPlant()
    points = {
        (record.device, record.index): int(record.point[1:])
        for record in plant.entries(0)
        if isinstance(record, PointRecord)
    }
    batches = [record.batch for record in plant.second(9, 10**18)]
    assert sum(len(batch) for batch in batches) == RATE == len(points)
    for batch in (batches[0], batches[-1]):
        items = np.array([points[batch.device, index] for index in batch.points.tolist()])
        assert batch.type is ValueType.FLOAT64
        assert (batch.values == numbers("double", 9, items)).all()


class Echo(LocalServer):
    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)


async def test_a_link_counts_both_ways_with_the_headers_of_its_segments() -> None:
    link = Link()
    async with Echo() as echo:
        server = await asyncio.start_server(lambda r, w: link.carry(r, w, echo.port), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
            writer.write(b"x" * 100_000)
            assert await reader.readexactly(100_000) == b"x" * 100_000
            seen = link.snapshot()
            writer.close()
    assert (seen["connections"], seen["up"], seen["down"]) == (1, 100_000, 100_000)
    assert seen["segments"] >= 200
    assert seen["link_bytes"] == 200_000 + HEADER_BYTES * seen["segments"]
