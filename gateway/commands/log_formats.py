"""Readings and events as lines of text: JSON lines and CSV, made from whole columns. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from datetime import datetime, tzinfo
from itertools import chain, repeat
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import orjson

from gateway.commands.equipment import finite
from gateway.commands.log_query import Rows
from gateway.contract.batch import ValueType
from gateway.contract.status import quality
from gateway.log.records import EventRecord, PointRecord
from gateway.publishing.fragments import text_fragment, time_fragments, value_fragments
from gateway.rfc3339 import rfc3339

COLUMNS: Final = (
    "source_time", "received_time", "device", "point", "id", "value", "unit", "status", "quality", "stream", "n"
)  # fmt: skip
EVENT_COLUMNS: Final = ("time", "schema", "of", "from", "to", "reason", "stream", "n", "body")
BOM: Final = "\ufeff".encode()
_QUARTER_NS: Final = 900_000_000_000
"""offsets of time zones change at whole quarters of an hour"""
_MS: Final = 1_000_000
_FLOATS: Final = (ValueType.FLOAT32, ValueType.FLOAT64)


class Lines(Protocol):
    """A format of text."""

    head: bytes
    event_head: bytes

    def rows(self, rows: Rows) -> bytes:
        """Lines of readings."""
        ...

    def event(self, record: EventRecord) -> bytes:
        """The line of an event."""
        ...


class JsonLines:
    """One JSON object a line; values as on the wire: float32 as the shortest text, NaN as text, bytes in base64."""

    head = event_head = b""

    def __init__(self) -> None:
        self._points = _Pieces(
            lambda device, point, identifier: b'","device":%s,"point":%s,"id":%s,"value":' % (
                text_fragment(device), text_fragment(point), text_fragment(identifier)
            ),
            lambda unit: b',"unit":%s' % text_fragment(unit),
        )  # fmt: skip

    def rows(self, rows: Rows) -> bytes:
        """Lines of readings."""
        batch = rows.batch
        received = b'Z","received_time":"%s' % rfc3339(batch.received_time).encode()
        stream = text_fragment(rows.stream)
        before, after = self._points.of(rows)
        return _joined(
            repeat(b'{"source_time":"'),
            time_fragments(batch.source_time),
            repeat(received),
            before,
            value_fragments(batch.type, batch.values, batch.valid),
            after,
            _each(
                batch.status,
                lambda code: b',"status":%d,"quality":"%s","stream":%s,"n":' % (code, quality(code).encode(), stream),
            ),
            [b"%d" % n for n in rows.n.tolist()],
            repeat(b"}\n"),
        )

    @staticmethod
    def event(record: EventRecord) -> bytes:
        """The line of an event: where and when it stands, and its body."""
        place = {"time": rfc3339(record.time), "stream": record.stream, "n": record.n}
        return _json(place | record.body) + b"\n"


class Csv:
    """RFC 4180: CRLF, quotes where they are needed. `zone`: for spreadsheets, with a BOM and times that those know."""

    def __init__(self, zone: tzinfo | None = None) -> None:
        self._zone = zone
        self._utc = b"Z" if zone is None else b""
        names = [f"{name} ({zone})" if zone and name.endswith("time") else name for name in COLUMNS]
        events = [f"{name} ({zone})" if zone and name == "time" else name for name in EVENT_COLUMNS]
        mark = b"" if zone is None else BOM
        self.head = mark + _csv(names)
        self.event_head = mark + _csv(events)
        self._points = _Pieces(
            lambda device, point, identifier: b",%s,%s,%s," % (_cell(device), _cell(point), _cell(identifier)),
            lambda unit: b",%s," % _cell(unit),
        )

    def rows(self, rows: Rows) -> bytes:
        """Lines of readings."""
        batch = rows.batch
        received = b"%s,%s" % (self._utc, self._time(batch.received_time).encode())
        stream = _cell(rows.stream)
        before, after = self._points.of(rows)
        return _joined(
            self._times(batch.source_time),
            repeat(received),
            before,
            _value_cells(batch.type, batch.values, batch.valid),
            after,
            _each(batch.status, lambda code: b"%d,%s,%s," % (code, quality(code).encode(), stream)),
            [b"%d" % n for n in rows.n.tolist()],
            repeat(b"\r\n"),
        )

    def event(self, record: EventRecord) -> bytes:
        """The line of an event; what kinds of events do not share is in the last column, as JSON."""
        body = record.body
        shared = [body.get(name) for name in EVENT_COLUMNS[1:6]]
        return _csv([self._time(record.time), *shared, record.stream, record.n, _json(body).decode()])

    def _time(self, time: int) -> str:
        return rfc3339(time) if self._zone is None else self._times(np.array([time]))[0].decode()

    def _times(self, times: npt.NDArray[np.int64]) -> list[bytes]:
        if self._zone is None:
            return time_fragments(times)
        shifted = (times + _offsets(times, self._zone)) // _MS * _MS
        return [text.replace(b"T", b" ") for text in time_fragments(shifted)]


class _Pieces:
    """What of a line depends on the point alone, made once for each."""

    def __init__(self, before: Callable[[str, str, str | None], bytes], after: Callable[[str | None], bytes]) -> None:
        self._before = before
        self._after = after
        self._known: dict[str, dict[int, tuple[bytes, bytes]]] = {}

    def of(self, rows: Rows) -> tuple[list[bytes], list[bytes]]:
        """Before and after the value, for each reading."""
        device = rows.batch.device
        known = self._known.setdefault(device, {})
        indexes = rows.batch.points.tolist()
        for index in set(indexes) - known.keys():
            known[index] = self._make(device, index, rows.points.get(index))
        pieces = [known[index] for index in indexes]
        return [piece[0] for piece in pieces], [piece[1] for piece in pieces]

    def _make(self, device: str, index: int, entry: PointRecord | None) -> tuple[bytes, bytes]:
        if entry is None:
            return self._before(device, str(index), None), self._after(None)
        return self._before(device, entry.point, entry.id), self._after(entry.unit)


def _joined(*pieces: Iterable[bytes]) -> bytes:
    return b"".join(chain.from_iterable(zip(*pieces, strict=False)))  # some of the columns are endless


def _each(codes: npt.NDArray[np.uint32], make: Callable[[int], bytes]) -> Iterable[bytes]:
    """One text per distinct code."""
    listed = codes.tolist()
    texts = {code: make(code) for code in set(listed)}
    return map(texts.__getitem__, listed)


def _value_cells(type: ValueType, values: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> list[bytes]:
    if type is ValueType.STRING:
        return [_cell(value, empty=b'""') if ok else b"" for value, ok in zip(values.tolist(), valid, strict=True)]
    texts = value_fragments(type, values, valid)
    if type is ValueType.JSON:
        return [_cell(text.decode()) if ok else b"" for text, ok in zip(texts, valid, strict=True)]
    if type is ValueType.BYTES or (type in _FLOATS and not np.isfinite(values).all()):
        texts = [text.strip(b'"') for text in texts]
    if valid.all():
        return texts
    return [text if ok else b"" for text, ok in zip(texts, valid.tolist(), strict=True)]


def _cell(text: str | None, empty: bytes = b"") -> bytes:
    """A cell of CSV; what UTF-8 cannot carry (lone surrogates) becomes "?"."""
    if not text:
        return b"" if text is None else empty
    cell = text.encode("utf-8", "replace")
    if any(sign in cell for sign in b',"\r\n'):
        return b'"%s"' % cell.replace(b'"', b'""')
    return cell


def _csv(cells: Iterable[Any]) -> bytes:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue().encode("utf-8", "replace")


def _json(value: Any) -> bytes:
    return orjson.dumps(finite(value), option=orjson.OPT_NON_STR_KEYS)


def _offsets(times: npt.NDArray[np.int64], zone: tzinfo) -> npt.NDArray[np.int64]:
    """What is to be added to UTC, ns."""
    quarters, where = np.unique(times // _QUARTER_NS, return_inverse=True)
    found = (datetime.fromtimestamp(quarter * 900, zone).utcoffset() for quarter in quarters.tolist())
    return np.array([0 if one is None else int(one.total_seconds()) * 10**9 for one in found], np.int64)[where]
