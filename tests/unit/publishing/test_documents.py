"""Every message beside the readings is what its schema says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from gateway.log.records import EventRecord, Labels, PointRecord
from gateway.publishing import documents
from gateway.publishing.clearance import Clearance, Rule
from gateway.publishing.ledger import Ledger, Settled
from gateway.publishing.ranges import Ranges
from tests.support.fakelog import NOW, FakeLog, define, readings, stream
from tests.support.subscriber import SCHEMAS, check

ORIGIN = documents.Origin("91370200MA3C00000K", "gw-1")


def decoded(payload: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(payload)
    check(document)
    return document


def test_schemas_are_schemas_and_the_asyncapi_document_names_each() -> None:
    files = sorted(SCHEMAS.glob("*.schema.json"))
    for path in files:
        jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))
    api = yaml.safe_load((SCHEMAS.parent / "asyncapi.yaml").read_text())
    messages = api["components"]["messages"].values()
    assert sorted(Path(message["payload"]["$ref"]).name for message in messages) == [path.name for path in files]
    for message in messages:
        name = message["name"].replace("/", "-")
        assert message["payload"]["$ref"] == f"schemas/{name}.schema.json"


def test_status() -> None:
    online = decoded(documents.encode(documents.status(ORIGIN, "online", NOW, "1.0", "s")))
    assert "reason" not in online
    stopped = documents.status(ORIGIN, "offline", NOW, "1.0", "s", "stopped")
    assert decoded(documents.encode(stopped))["reason"] == "stopped"


def test_health() -> None:
    decoded(documents.encode(documents.health(ORIGIN, NOW, {"accepted": 1, "state": "online", "queue": None})))


@pytest.mark.parametrize(
    "body",
    [
        {"schema": "gap/1", "id": "g", "of": "d", "points": ["p"], "from": "2026-11-20T08:00:00Z", "to": None,
         "reason": "overflow"},
        {"schema": "gap-filled/1", "id": "g", "of": "d", "points": None, "from": "2026-11-20T08:00:00Z",
         "to": "2026-11-20T08:00:01Z", "count": 3},
        {"schema": "gap-filled/1", "id": "g", "of": "d", "points": ["p"], "from": "2026-11-20T08:00:00Z",
         "to": "2026-11-20T08:00:01Z", "count": None},
        {"schema": "stream/1", "closed": "S0", "labels": {"domain": "production", "grade": 1, "class": "general"},
         "last": {"d": 7, "e": -1}, "reason": "cloned", "successor": None},
        {"schema": "clock/1", "step_ns": -5, "synchronised": True},
        {"schema": "config/1", "accepted": True, "digest": "ab", "changed": ["d"]},
        {"schema": "refusal/1", "of": "centre", "reason": "not-authorised", "message": "ask"},
    ],
)  # fmt: skip
def test_events(body: dict[str, Any]) -> None:
    document = decoded(documents.encode(documents.event(ORIGIN, EventRecord("S1", NOW, body, n=4))))
    assert (document["device"], document["n"], document["stream"]) == ("_events", 4, "S1")


def test_catalogue_is_split_below_the_limit_and_complete() -> None:
    records = [record for record in define(count=50) if isinstance(record, PointRecord)]
    records[3] = replace(records[3], retired_at=NOW + 1, scale=0.1, offset=0.0, description="旧", unit="℃")
    labels = Labels("production", 1, "general")
    parts = documents.catalogue(ORIGIN, "boiler-1", None, 7, [(r, labels) for r in records], NOW, 3000)
    assert all(len(part) <= 3000 for part in parts)
    decoded_parts = [decoded(part) for part in parts]
    assert [(part["part"], part["parts"]) for part in decoded_parts] == [(k, len(parts)) for k in range(len(parts))]
    points = [point for part in decoded_parts for point in part["points"]]
    assert [point["index"] for point in points] == list(range(50))
    assert (points[3]["scale"], points[3]["offset"], points[3]["description"]) == (0.1, 0.0, "旧")
    assert "retired_at" not in points[0]


def test_a_device_without_visible_points_has_one_empty_part() -> None:
    (part,) = documents.catalogue(ORIGIN, "boiler-1", None, 7, [], NOW, 3000)
    assert decoded(part)["points"] == []


def test_account_shows_entitled_streams_only() -> None:
    log = FakeLog()
    log.append(stream(), stream("S3", grade=3))
    clearance = Clearance(Rule(1))
    clearance.apply(log.points.streams(), 0)
    ledger = Ledger(Ranges(), clearance)
    first = log.append(readings(5), readings(5, device="secret", stream_id="S3"))
    second = log.append(readings(5))
    ledger.observe(first.position, first.heads)
    ledger.observe(second.position, second.heads)
    ledger.settle(first.position + 1, [Settled(0, []), Settled(1, first.heads)])
    document = documents.account(ORIGIN, "centre", ledger, 7, NOW, "hour", NOW - 10, NOW, None)
    (entry,) = decoded(documents.encode(document))["entries"]
    assert entry == {
        "device": "boiler-1", "stream": "S1", "first_n": 0, "last_n": 9, "first_time": documents.rfc3339(NOW),
        "last_time": documents.rfc3339(NOW + 4_000_000), "accepted": 10, "delivered": 5, "confirmed": 0, "withheld": 0,
        "parked": 0, "waiting": 5, "dropped": {}, "complete_n": 5,
    }  # fmt: skip
