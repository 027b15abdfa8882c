"""docs/centre.md against a real gateway: its receiver takes what came, its queries find what it says, its examples fit.

The run that the page's examples are from is made again: an outage of the broker, a crash, a gap that the server's
history fills, a change of label, a stop. Numbers and times are this run's; what the page's lines say beside them must
be the same.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.forked import ForkedGateway, ForkServer
from tests.support.interop import InteropServer, interop_server
from tests.support.rig import START_S, Delivery, write_yaml
from tests.support.wait import eventually

PAGE = (Path(__file__).parents[2] / "docs" / "centre.md").read_text(encoding="utf-8")
TABLES, DUE, HOLES, NOT_FILLED = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
RECEIVER = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]

DOWN_S = 2.0


class Tap:
    """A subscriber whose session outlives the broker, and which keeps every message as it came."""

    def __init__(self, port: int) -> None:
        self.messages: list[dict[str, Any]] = []
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, "tap", protocol=mqtt.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_message = lambda _, __, message: self.messages.append(json.loads(message.payload))
        properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 3600
        self._client.connect("127.0.0.1", port, clean_start=False, properties=properties)
        self._client.loop_start()

    def of(self, schema: str) -> list[dict[str, Any]]:
        return [message for message in list(self.messages) if message["schema"] == schema]

    def events(self, schema: str, reason: str) -> list[dict[str, Any]]:
        return [event for event in self.of(schema) if event["reason"] == reason]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def device_file(server: InteropServer) -> dict[str, Any]:
    return {
        "device": "reactor",
        "adapter": "opcua",
        "connection": {"url": f"opc.tcp://127.0.0.1:{server.port}", "timeout": "60s"},
        "subscribe": {"publishing": "100ms", "sampling": "50ms", "queue": "1s"},
        "backfill": True,
        "points": [{"point": f"c{i}", "node": server.node(f"c{i}")} for i in range(2)],
    }


async def the_run(folder: Path) -> list[dict[str, Any]]:
    """Every message of the run that the page tells of."""
    options = {"counters": 2, "period_ms": 200, "history": 10_000, "no_transfer": "BadUserAccessDenied"}
    async with interop_server(folder, **options) as server:
        with Delivery(folder) as delivery:
            tap = Tap(delivery.broker.port)
            with (
                ForkServer() as starts,
                ForkedGateway(folder, [device_file(server)], starts, destinations=[delivery.destination()]) as gateway,
            ):
                gateway.start()
                await eventually(lambda: taken(tap) > 10, START_S, "live readings")
                await asyncio.to_thread(delivery.broker.stop)
                before = gateway.metric("edge_gateway_readings_accepted_total", device="reactor", adapter="opcua")
                await eventually(
                    lambda: (
                        gateway.metric("edge_gateway_readings_accepted_total", device="reactor", adapter="opcua")
                        > before + 10
                    ),
                    START_S,
                    "readings that wait",
                )
                await asyncio.to_thread(delivery.broker.start)
                await eventually(lambda: "backlog" in lanes(tap), START_S, "the backlog")
                gateway.kill()
                await asyncio.sleep(DOWN_S)  # nobody reads the plant
                gateway.start()
                await eventually(lambda: down(tap) and down(tap) <= ids(tap, "gap-filled/1"), START_S, "it is filled")
                await delivery.settled(gateway)
                assert await delivery.stop(gateway) == 0, gateway.output
                raised = {**gateway.content["governance"], "grade": 2}
                write_yaml(gateway.config / "gateway.yaml", {**gateway.content, "governance": raised})
                gateway.start()
                await eventually(lambda: len(streams(tap)) == 2, START_S, "the second stream")
                await delivery.settled(gateway)
                assert await delivery.stop(gateway) == 0, gateway.output
                await eventually(lambda: len(tap.of("account/1")) >= len(accounts(delivery)), START_S, "the account")
            tap.close()
            with delivery.report() as report:
                assert report.errors() == {}, report.error_samples()
                assert report.reconcile().exact
                stored = {tuple(count.source): count.stored for count in report.counts()}
            assert stored == count_series(filled_database(tap.messages)), "the reference receiver has the same"
            return tap.messages


def taken(tap: Tap) -> int:
    return sum(message["count"] for message in tap.of("readings/1"))


def lanes(tap: Tap) -> set[str]:
    return {message["lane"] for message in tap.of("readings/1")}


def streams(tap: Tap) -> set[str]:
    return {message["stream"] for message in tap.of("readings/1")}


def ids(tap: Tap, schema: str) -> set[str]:
    return {event["id"] for event in tap.of(schema)}


def down(tap: Tap) -> set[str]:
    return {event["id"] for event in tap.events("gap/1", "gateway-down") if event["to"] is not None}


def accounts(delivery: Delivery) -> list[dict[str, Any]]:
    with delivery.report() as report:
        return report.accounts()


def filled_database(messages: list[dict[str, Any]]) -> sqlite3.Connection:
    """The page's tables, filled by the page's receiver."""
    receiver: dict[str, Any] = {}
    exec(compile(RECEIVER, "docs/centre.md", "exec"), receiver)
    db = sqlite3.connect(":memory:")
    db.executescript(TABLES)
    for message in messages:
        receiver["take"](db, message, "now")
    return db


def count_series(db: sqlite3.Connection) -> dict[tuple[str, ...], int]:
    rows = db.execute(
        "SELECT enterprise, gateway, stream, device, count(*) FROM readings GROUP BY 1, 2, 3, 4 UNION ALL "
        "SELECT enterprise, gateway, stream, '_events', count(*) FROM events GROUP BY 1, 2, 3"
    )
    return {tuple(place): count for *place, count in rows}


def table(db: sqlite3.Connection, name: str) -> set[tuple[Any, ...]]:
    return set(db.execute(f"SELECT * FROM {name}"))


# -- the page's examples, of another run --


def outage(db: sqlite3.Connection) -> Iterator[str]:
    """Of the first outage: the lanes before the crash."""
    rows = db.execute("SELECT lane, min(n), max(n), count(*) FROM readings GROUP BY lane ORDER BY lane DESC")
    for lane, first, last, count in rows:
        yield f"{lane}  n {first} .. {last}  {count} readings"


def gaps(db: sqlite3.Connection) -> Iterator[str]:
    for n, body in db.execute("SELECT n, body FROM events ORDER BY stream, n"):
        event = json.loads(body)
        if event["schema"] not in ("gap/1", "gap-filled/1"):
            continue
        what = event["reason"] if event["schema"] == "gap/1" else f"count {event['count']}"
        to = event["to"] or "null"
        yield f"n {n} {event['schema']} id {event['id']} of {event['of']} {what} from {event['from']} to {to}"


def labels(db: sqlite3.Connection) -> Iterator[str]:
    rows = db.execute(
        "SELECT stream, device, min(n), max(n), count(*) FROM readings GROUP BY 1, 2 ORDER BY min(catalogue), 1"
    ).fetchall()
    for k, (stream, device, first, last, count) in enumerate(rows):
        points = db.execute(
            "SELECT idx, grade, valid_from, retired_at FROM points WHERE stream = ? ORDER BY idx", (stream,)
        ).fetchall()
        indexes = ", ".join(str(point[0]) for point in points)
        (grade,) = {point[1] for point in points}
        since = f"retired_at {points[0][3]}" if k == 0 else f"valid_from {points[0][2]}"
        yield f"stream {stream} {device} n {first} .. {last} {count} readings grade {grade} index {indexes} {since}"


def closing(db: sqlite3.Connection) -> Iterator[str]:
    stored = count_series(db)
    counts = "first_n, last_n, accepted, delivered, waiting, complete_n"
    rows = db.execute(f"SELECT enterprise, gateway, stream, device, {counts} FROM account")
    for *place, first, last, accepted, delivered, waiting, complete in rows:
        _, _, stream, device = place
        yield (
            f"stream {stream} {device} first_n {first} last_n {last} accepted {accepted} delivered {delivered} "
            f"waiting {waiting} complete_n {complete} stored {stored[tuple(place)]}"
        )


def ns(time: str) -> int:
    return int(np.datetime64(time.removesuffix("Z"), "ns").astype(np.int64))


def shape(line: str) -> str:
    """A line without what belongs to a run: times, ids, streams, numbers but those of schemas, columns' widths."""
    line = re.sub(r"[\dT:-]{8,}[.\d]*Z", "TIME", " ".join(line.split()))
    line = re.sub(r"(stream|id) \S+", r"\1 ID", line)
    return re.sub(r"(?<![/\w])\d+(?!\w)", "#", line)


def example(title: str) -> list[str]:
    """The lines of the block that follows a title of the page."""
    block = re.search(rf"^\*\*{title}.*?\n\n((?: {{4}}[^\n]*\n)+)", PAGE, re.MULTILINE | re.DOTALL)
    assert block, f"no block of lines after {title!r}"
    return block[1].splitlines()


@pytest.mark.timeout(400)
async def test_the_page_is_true_of_a_real_gateway(tmp_path: Path) -> None:
    messages = await the_run(tmp_path)
    db = filled_database(messages)

    # Whatever the order, and however often: the same rows, but for how they came.
    again = [*messages, *messages]
    random.Random(1).shuffle(again)
    other = filled_database(again)
    for name in ("events", "account"):
        assert table(other, name) == table(db, name)
    assert count_series(other) == count_series(db)

    # Everything that is due is stored; nothing is missing but where nobody was there to read.
    due = db.execute(DUE).fetchall()
    assert len(due) == 2
    assert all(owed == stored for _, _, owed, stored in due)
    assert db.execute(HOLES).fetchall() == []
    first, second = (line.split()[1] for line in labels(db))
    missing = [(stream, json.loads(body)) for stream, _, body in db.execute(NOT_FILLED)]
    assert [gap["reason"] for stream, gap in missing if stream == first and gap["reason"] == "gateway-down"] == []
    assert "gateway-down" in [gap["reason"] for stream, gap in missing if stream == second]

    # The examples: lines of the same kind.
    for title, lines in (("An outage", outage), ("A change of label", labels), ("The closing account", closing)):
        assert Counter(map(shape, lines(db))) == Counter(map(shape, example(title))), title
    assert set(map(shape, example("A filled gap"))) <= set(map(shape, gaps(db)))
    backfilled = [ns(row[0]) for row in db.execute("SELECT t FROM readings WHERE flags LIKE '%backfilled%'")]
    for body in (row[0] for row in db.execute("SELECT body FROM events WHERE schema = 'gap-filled/1'")):
        event = json.loads(body)
        assert event["count"] <= sum(ns(event["from"]) <= t <= ns(event["to"]) for t in backfilled)
    identifiers = [
        {row[0] for row in db.execute("SELECT id FROM points WHERE stream = ?", (stream,))}
        for stream in (first, second)
    ]
    assert identifiers[0] == identifiers[1], "one series over both streams"
