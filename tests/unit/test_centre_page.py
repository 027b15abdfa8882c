"""docs/centre.md: its tables can be made and its queries say what the page says they say."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson

from simulators.centre.confirm import confirmation
from simulators.centre.schemas import DEFAULT_FOLDER, SchemaSet
from simulators.centre.store import Store
from tests.support.messages import TOPIC, catalogue, readings

PAGE = Path(__file__).parents[2] / "docs" / "centre.md"
TABLES, DUE, HOLES, NOT_FILLED = re.findall(
    r"^```sql\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)

CONFIRMATION = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[1]


def centre(stored: Sequence[int], **account: int) -> sqlite3.Connection:
    """A database with readings of one series; the account says 0 to 9 accepted unless told otherwise."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(TABLES)
    insert = (
        "INSERT INTO readings (enterprise, gateway, stream, device, n) VALUES ('e', 'g', 's', 'd', ?) "
        "ON CONFLICT DO NOTHING"
    )
    connection.executemany(insert, [(n,) for n in stored])
    counts = {"first_n": 0, "last_n": 9, "accepted": 10, "delivered": 10, "waiting": 0, "parked": 0, "withheld": 0}
    counts |= {"dropped": 0, "complete_n": 10} | account
    connection.execute(
        f"INSERT INTO account (enterprise, gateway, destination, stream, device, number, time, {', '.join(counts)}) "
        f"VALUES ('e', 'g', 'c', 's', 'd', 1, '', {', '.join('?' * len(counts))})",
        [*counts.values()],
    )
    return connection


def test_all_is_stored_however_often_it_came() -> None:
    connection = centre([*range(10), *range(5)])
    assert connection.execute(DUE).fetchall() == [("s", "d", 10, 10)]
    assert connection.execute(HOLES).fetchall() == []


def test_what_was_never_stored_is_found_with_its_range() -> None:
    connection = centre([0, 1, 2, 6, 7, 9])
    assert connection.execute(DUE).fetchall() == [("s", "d", 10, 6)]
    assert connection.execute(HOLES).fetchall() == [("s", "d", 3, 5), ("s", "d", 8, 8)]


def test_what_is_accounted_for_is_not_due_and_what_waits_is_not_asked_for() -> None:
    connection = centre(range(7), delivered=7, parked=1, dropped=2)
    assert connection.execute(DUE).fetchall() == [("s", "d", 7, 7)]
    assert centre(range(7), delivered=7, waiting=3).execute(DUE).fetchall() == []


def test_the_centre_answers_what_it_has_committed_and_acknowledged(tmp_path: Path) -> None:
    """A duplicate is answered as the first is; what asks for no answer gets none."""
    done: list[Any] = []
    store = Store(tmp_path / "c.db", SchemaSet(DEFAULT_FOLDER))
    store.begin()
    store.take(f"{TOPIC}/boiler-1/catalogue/0", orjson.dumps(catalogue()), 0)
    message = readings(7, [1, 2])
    batch = [SimpleNamespace(response_topic=topic, correlation_data=b"c") for topic in ("answers", "answers", None)]
    results = [store.take(f"{TOPIC}/boiler-1/readings", orjson.dumps(message), 0) for _ in batch]

    def publish(topic: str, answer: bytes, **properties: Any) -> None:
        done.append((topic, orjson.loads(answer)["stored"], properties))

    names = {
        "store": SimpleNamespace(commit=lambda: (store.commit(), done.append("commit"))),
        "acknowledge": lambda _: done.append("ack"),
        "confirmation": confirmation,
    }
    exec(compile(CONFIRMATION, str(PAGE), "exec"), names | {"batch": batch, "results": results, "publish": publish})
    entry = {key: message[key] for key in ("stream", "device", "n", "count")}
    answer = ("answers", [entry], {"correlation_data": b"c", "qos": 1})
    assert done == ["commit", "ack", answer, "ack", answer, "ack"]
    store.close()
