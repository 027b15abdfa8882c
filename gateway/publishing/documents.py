"""The messages beside the readings: status, catalogue, events, account, health. Pure; schemas are in docs/schemas."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import orjson

from gateway.log.records import EVENTS_DEVICE, DeviceRecord, EventRecord, Labels, PointRecord, Series
from gateway.publishing.ledger import Ledger
from gateway.rfc3339 import rfc3339
from gateway.units.table import Unit, find

Document = dict[str, Any]


class Origin(NamedTuple):
    """Whose messages these are."""

    enterprise: str
    gateway: str


def encode(document: Document) -> bytes:
    """UTF-8 JSON."""
    return orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY)


def status(origin: Origin, state: str, time: int, version: str, session: str, reason: str | None = None) -> Document:
    """status/1; `state` is online or offline, `time` in ns."""
    document = _head("status/1", origin) | {
        "state": state,
        "time": rfc3339(time),
        "version": version,
        "session": session,
    }
    return document if reason is None else document | {"reason": reason}


def event(origin: Origin, record: EventRecord) -> Document:
    """An event with its offset; the body names its schema."""
    offsets = {"stream": record.stream, "device": EVENTS_DEVICE, "n": record.n, "time": rfc3339(record.time)}
    return {"schema": record.body.get("schema", "event/1"), **origin._asdict(), **offsets} | record.body


def health(origin: Origin, time: int, metrics: Mapping[str, Any]) -> Document:
    """health/1."""
    return _head("health/1", origin) | {"time": rfc3339(time), "metrics": dict(metrics)}


def account(
    origin: Origin,
    destination: str,
    ledger: Ledger,
    number: int,
    time: int,
    period: str,
    start: int,
    end: int,
    complete_until: int | None,
) -> Document:
    """account/1 over the streams that the destination may see; counts are since the destination's start.

    `number` is greater than that of any account before, whatever the clock did.
    """
    return _head("account/1", origin) | {
        "destination": destination,
        "number": number,
        "time": rfc3339(time),
        "period": period,
        "from": rfc3339(start),
        "to": rfc3339(end),
        "complete_until": None if complete_until is None else rfc3339(complete_until),
        "confirm": "centre" if ledger.confirming else "broker",
        "entries": [
            _entry(ledger, series) for series in sorted(ledger.accounts) if ledger.clearance.sees(series.stream)
        ],
    }


def in_parts(document: Document, most_bytes: int) -> list[Document]:
    """An account in parts of at most `most_bytes` each (a single larger entry makes a larger part)."""
    head = document | {"part": 99_999, "parts": 99_999, "entries": []}
    entries = document["entries"]
    counts = [len(part) for part in _fill([encode(entry) for entry in entries], most_bytes - len(encode(head)))]
    if len(counts) == 1:
        return [document]
    ends = list(accumulate(counts))
    return [
        document | {"part": number, "parts": len(counts), "entries": entries[end - count : end]}
        for number, (count, end) in enumerate(zip(counts, ends, strict=True))
    ]


def catalogue(
    origin: Origin,
    device: str,
    record: DeviceRecord | None,
    version: int,
    points: Iterable[tuple[PointRecord, Labels]],
    time: int,
    most_bytes: int,
) -> list[bytes]:
    """catalogue/1 in parts of at most `most_bytes` each (a single larger entry makes a larger part)."""
    head = _head("catalogue/1", origin) | {
        "device": device,
        "name": None if record is None else record.name,
        "adapter": None if record is None else record.adapter,
        "version": version,
        "part": 99_999,
        "parts": 99_999,
        "time": rfc3339(time),
        "points": [],
    }
    room = most_bytes - len(encode(head))
    parts = _fill([encode(_point(point, labels)) for point, labels in points], room)
    return [
        encode(head | {"part": number, "parts": len(parts), "points": [orjson.Fragment(entry) for entry in part]})
        for number, part in enumerate(parts)
    ]


def _head(schema: str, origin: Origin) -> Document:
    return {"schema": schema, **origin._asdict()}


def _fill(entries: Sequence[bytes], room: int) -> list[list[bytes]]:
    parts: list[list[bytes]] = [[]]
    used = 0
    for entry in entries:
        if parts[-1] and used + len(entry) + 1 > room:
            parts.append([])
            used = 0
        parts[-1].append(entry)
        used += len(entry) + 1
    return parts


def _unit(point: PointRecord) -> Unit | None:
    return None if point.unit is None else find(point.unit)


_OPTIONAL: tuple[tuple[str, Callable[[PointRecord], Any]], ...] = (
    ("ucum", lambda point: (unit := _unit(point)) and unit.ucum),
    ("unit_code", lambda point: (unit := _unit(point)) and unit.rec20),
    ("retired_at", lambda point: None if point.retired_at is None else rfc3339(point.retired_at)),
    ("description", lambda point: point.description),
    ("scale", lambda point: point.scale),
    ("offset", lambda point: point.offset),
    ("enum", lambda point: None if point.enumeration is None else dict(point.enumeration)),
)


def _point(point: PointRecord, labels: Labels) -> Document:
    document: Document = {
        "index": point.index,
        "p": point.point,
        "id": point.id,
        "name": point.name,
        "tag": point.tag,
        "unit": point.unit,
        "type": None if point.type is None else point.type.wire_name,
        "stream": point.stream,
        "domain": labels.domain,
        "grade": labels.grade,
        "class": labels.data_class,
        "valid_from": rfc3339(point.valid_from),
    }
    return document | {key: value for key, of in _OPTIONAL if (value := of(point)) is not None}


def _entry(ledger: Ledger, series: Series) -> Document:
    counts = ledger.accounts[series]
    some = counts.accepted > 0
    return {
        "device": series.device,
        "stream": series.stream,
        "first_n": counts.first_n,
        "last_n": counts.next_n - 1 if some else None,
        "first_time": rfc3339(counts.first_time) if counts.timed else None,
        "last_time": rfc3339(counts.last_time) if counts.timed else None,
        "accepted": counts.accepted,
        "delivered": counts.delivered,
        "confirmed": counts.confirmed,
        "withheld": counts.withheld,
        "parked": counts.parked,
        "waiting": counts.waiting,
        "dropped": dict(counts.dropped),
        "complete_n": ledger.complete_n(series),
    }
