"""Segments and preambles as bytes and back (docs/log-format.md). Pure: no I/O, no clock.

`pack_record` makes a record's payload; `encode_segment` puts payloads together, compresses and seals them. They are
apart so that a writer can see how large records are before it decides which segment they go into.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import struct
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import orjson
import zstandard

from gateway.contract.batch import ValueType
from gateway.log import columns
from gateway.log.batches import pack_batch, unpack_batch
from gateway.log.columns import Reader
from gateway.log.errors import LogCorruptError, LogFormatError
from gateway.log.origins import newest_origins, pack_origins
from gateway.log.records import (
    BatchRecord,
    DeviceRecord,
    EventRecord,
    Labels,
    NoteRecord,
    PointRecord,
    Record,
    Series,
    SeriesHead,
    StreamRecord,
)

FORMAT: Final = 1
SEGMENT: Final = b"EGS1"
PREAMBLE: Final = b"EGP1"
SEGMENT_BYTES: Final = 512_000
"""most bytes that a segment has encoded"""
LEVEL: Final = 1
"""of zstd's, for bodies"""

_local = threading.local()
"""zstandard's objects, which must not be shared between threads"""

_STREAM, _DEVICE, _POINT, _BATCH, _EVENT, _NOTE = 1, 2, 3, 4, 5, 6
_NO_SERIES: Final = 0xFFFF
_DEFINES: Final = 1

_HEAD: Final = struct.Struct("<4sIQHHIIIIIqqqqq")
_CRC_START: Final = 8
_COUNT16: Final = struct.Struct("<H")
_COUNT32: Final = struct.Struct("<I")
_SERIES: Final = struct.Struct("<HHIQqq")
"""stream, device, readings, n, least and greatest time"""
_FRAME: Final = struct.Struct("<BHI")
_EVENT_TIME: Final = struct.Struct("<q")


class Head(NamedTuple):
    """A segment's head, checked against its checksum."""

    position: int
    defines: bool
    """holds stream, device, point or note records"""
    body_bytes: int
    raw_bytes: int
    body_crc: int
    readings: int
    """batch readings, without events"""
    commit_time: int
    min_source: int
    max_source: int
    min_received: int
    max_received: int
    series: list[SeriesHead]
    origins: bytes
    """for `read_origins`, which few need"""


def pack_record(record: Record) -> bytes:
    """A record's payload; its size is known before compression. Raises TypeError for an event that is not JSON-able."""
    match record:
        case BatchRecord():
            return pack_batch(record.batch, record.origin)
        case EventRecord():
            return _EVENT_TIME.pack(record.time) + columns.encode_json([record.body])
        case StreamRecord() | DeviceRecord() | PointRecord():
            return orjson.dumps(definition_json(record))
        case NoteRecord():
            return orjson.dumps({"device": record.device, "note": record.note})


def encode_segment(
    records: Sequence[Record],
    position: int,
    commit_time: int,
    packed: Sequence[bytes] | None = None,
) -> tuple[bytes, bytes, list[SeriesHead]]:
    """Head, body and series heads of a segment whose records have their offsets.

    Raises ValueError where the offsets of a series do not follow each other, TypeError for events that are not
    JSON-able.
    """
    payloads = [pack_record(record) for record in records] if packed is None else packed
    tallies: dict[Series, _Tally] = {}
    received: list[int] = []
    frames: list[bytes] = []
    defines = 0
    readings = 0
    for record, payload in zip(records, payloads, strict=True):
        kind, index = _KINDS[type(record)], _NO_SERIES
        if isinstance(record, BatchRecord):
            batch = record.batch
            tally = _tally(tallies, record)
            tally.add(record.n, len(batch.points), *columns.bounds(batch.source_time))
            tally.batches = True
            received.append(batch.received_time)
            readings += len(batch.points)
            index = tally.index
        elif isinstance(record, EventRecord):
            tally = _tally(tallies, record)
            tally.add(record.n, 1, record.time, record.time)
            index = tally.index
        else:
            defines = _DEFINES
        frames += (_FRAME.pack(kind, index, len(payload)), payload)
    heads = [SeriesHead(series, t.first, t.count, t.low, t.high) for series, t in tallies.items()]
    batches = [t for t in tallies.values() if t.batches]
    bounds = (
        (min(t.low for t in batches), max(t.high for t in batches), min(received), max(received))
        if batches
        else (0, 0, 0, 0)
    )
    raw = b"".join(frames)
    body = compress(raw)
    tables = _tables(heads) + pack_origins(newest_origins(records), heads)
    fixed = _HEAD.pack(
        SEGMENT, 0, position, FORMAT, defines, _HEAD.size + len(tables), len(body), len(raw), zlib.crc32(body),
        readings, commit_time, *bounds,
    )  # fmt: skip
    return _sealed(fixed + tables), body, heads


def decode_head(head: bytes, position: int, magic: bytes = SEGMENT) -> Head:
    """A head as it was written at `position`. Raises LogCorruptError, or LogFormatError for another version."""
    if len(head) < _HEAD.size or head[:4] != magic:
        raise LogCorruptError(f"position {position}: no head where one should be")
    fields = _HEAD.unpack_from(head)
    _, crc, sequence, version, flags, length, body, raw, body_crc, readings, commit_time = fields[:11]
    low_source, high_source, low_received, high_received = fields[11:]
    if zlib.crc32(head[_CRC_START:]) != crc or length != len(head):
        raise LogCorruptError(f"position {position}: the head's checksum does not match")
    if version != FORMAT:
        raise LogFormatError(
            f"position {position}: format version {version} found, this version reads {FORMAT}; "
            "use the version that wrote this log, or a newer one"
        )
    if sequence != position:
        raise LogCorruptError(f"position {position}: the head says that it is {sequence}")
    reader = Reader(head, _HEAD.size)
    series = _read_tables(reader)
    return Head(
        position,
        bool(flags & _DEFINES),
        body,
        raw,
        body_crc,
        readings,
        commit_time,
        low_source,
        high_source,
        low_received,
        high_received,
        series,
        head[reader.offset :],
    )


def check_body(head: Head, body: bytes) -> None:
    """Raise LogCorruptError unless `body` is the one that belongs to `head`."""
    if len(body) != head.body_bytes or zlib.crc32(body) != head.body_crc:
        raise LogCorruptError(f"position {head.position}: the body's checksum does not match")


def decode_body(head: Head, body: bytes) -> list[Record]:
    """The records of a segment, offsets filled in. Raises LogCorruptError or LogFormatError."""
    check_body(head, body)
    reader = Reader(decompress(body, head.raw_bytes))
    following = [series.n for series in head.series]
    records: list[Record] = []
    while reader.offset < len(reader.data):
        kind, index, length = reader.unpack(_FRAME)
        payload = reader.take(length)
        if kind not in (_BATCH, _EVENT):
            records.append(unpack_record(kind, payload))
            continue
        if index >= len(following):
            raise LogCorruptError(f"position {head.position}: series {index} is not in the head")
        record = unpack_record(kind, payload, head.series[index].series, following[index])
        following[index] += len(record.batch) if isinstance(record, BatchRecord) else 1
        records.append(record)
    return records


def kind_of_record(record: Record) -> int:
    """The number that says what a payload is."""
    return _KINDS[type(record)]


def unpack_record(kind: int, payload: bytes, series: Series | None = None, n: int = -1) -> Record:
    """What `pack_record` packed; `series` and the offset `n` are those of a batch or an event.

    Raises LogCorruptError, or LogFormatError for a kind that a newer version wrote.
    """
    if kind in (_BATCH, _EVENT) and series is not None:
        return _unpack_reading_record(kind, series, n, Reader(payload))
    if kind in _DEFINITIONS:
        return definition_from_json(_DEFINITIONS[kind], orjson.loads(payload))
    if kind == _NOTE:
        note = orjson.loads(payload)
        return NoteRecord(note["device"], note["note"])
    raise LogFormatError(f"record kind {kind} is not known to this version; a newer version wrote it")


def encode_document(document: dict[str, Any], position: int, commit_time: int) -> tuple[bytes, bytes]:
    """Head and body of a preamble: a JSON document, sealed as a segment is."""
    raw = orjson.dumps(document)
    body = zstandard.ZstdCompressor(level=3).compress(raw)
    tables = _tables([])
    fixed = _HEAD.pack(
        PREAMBLE, 0, position, FORMAT, 0, _HEAD.size + len(tables), len(body), len(raw), zlib.crc32(body),
        0, commit_time, 0, 0, 0, 0,
    )  # fmt: skip
    return _sealed(fixed + tables), body


def decode_document(head: bytes, body: bytes, position: int) -> dict[str, Any]:
    """The document of a preamble. Raises LogCorruptError or LogFormatError."""
    checked = check_document(head, body, position)
    document: dict[str, Any] = orjson.loads(decompress(body, checked.raw_bytes))
    return document


def check_document(head: bytes, body: bytes, position: int) -> Head:
    """The head of a preamble that is whole, its document left alone. Raises LogCorruptError or LogFormatError."""
    checked = decode_head(head, position, PREAMBLE)
    check_body(checked, body)
    return checked


def compress(raw: bytes) -> bytes:
    """One zstd frame."""
    compressor: zstandard.ZstdCompressor | None = getattr(_local, "compressor", None)
    if compressor is None:  # making one costs more than a small segment does
        compressor = _local.compressor = zstandard.ZstdCompressor(level=LEVEL)
    return compressor.compress(raw)


def decompress(body: bytes, raw_bytes: int) -> bytes:
    """One zstd frame. Raises LogCorruptError when it is not one of `raw_bytes`."""
    try:
        decompressor: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
        if decompressor is None:
            decompressor = _local.decompressor = zstandard.ZstdDecompressor()
        raw = decompressor.decompress(body, max_output_size=raw_bytes)
    except zstandard.ZstdError as error:
        raise LogCorruptError(f"a body cannot be decompressed: {error}") from error
    if len(raw) != raw_bytes:
        raise LogCorruptError(f"a body of {raw_bytes} bytes expected, found {len(raw)}")
    return raw


def definition_json(record: StreamRecord | DeviceRecord | PointRecord) -> dict[str, Any]:
    """A stream, device or point record as JSON; absent = None."""
    # Not asdict: it would copy deeply, and labels would lose their names.
    kind = type(record)
    pairs = zip(_FIELDS[kind], _VALUES[kind](record), strict=True)
    found = {name: value for name, value in pairs if value is not None}
    if isinstance(record, StreamRecord):
        found["labels"] = record.labels._asdict()
    elif isinstance(record, PointRecord) and record.enumeration is not None:
        found["enumeration"] = {str(number): text for number, text in record.enumeration.items()}
    return found


def definition_from_json(
    kind: type[StreamRecord | DeviceRecord | PointRecord], found: dict[str, Any]
) -> StreamRecord | DeviceRecord | PointRecord:
    """The record again; unknown fields are passed over, missing ones None. Raises LogCorruptError."""
    values: dict[str, Any] = {name: found.get(name) for name in _FIELDS[kind]}
    try:
        if kind is StreamRecord:
            values["labels"] = Labels(**values["labels"])
        elif kind is PointRecord:
            values["type"] = None if values["type"] is None else ValueType(values["type"])
            values["enumeration"] = _enumeration(values["enumeration"])
    except (AttributeError, TypeError, ValueError) as error:
        raise LogCorruptError(f"a {kind.__name__} cannot be read: {error}") from error
    return kind(**values)


def _enumeration(found: dict[str, str] | None) -> Mapping[int, str] | None:
    return None if found is None else _shared(tuple((int(number), text) for number, text in found.items()))


@functools.lru_cache(maxsize=1000)
def _shared(texts: tuple[tuple[int, str], ...]) -> Mapping[int, str]:
    """Ten thousand valves with the same four states need one mapping."""
    return MappingProxyType(dict(texts))


_KINDS: Final[dict[type[Record], int]] = {
    StreamRecord: _STREAM,
    DeviceRecord: _DEVICE,
    PointRecord: _POINT,
    BatchRecord: _BATCH,
    EventRecord: _EVENT,
    NoteRecord: _NOTE,
}
_DEFINITIONS: Final[dict[int, type[StreamRecord | DeviceRecord | PointRecord]]] = {
    _STREAM: StreamRecord,
    _DEVICE: DeviceRecord,
    _POINT: PointRecord,
}
_FIELDS: Final[dict[type[Any], tuple[str, ...]]] = {
    kind: tuple(field.name for field in dataclasses.fields(kind)) for kind in _DEFINITIONS.values()
}
_VALUES: Final[dict[type[Any], Callable[[Any], tuple[Any, ...]]]] = {
    kind: operator.attrgetter(*names) for kind, names in _FIELDS.items()
}
"""the values of those fields, all at once"""


@dataclasses.dataclass(slots=True)
class _Tally:
    index: int
    first: int
    count: int
    low: int
    high: int
    batches: bool = False

    def add(self, n: int, count: int, low: int, high: int) -> None:
        if n != self.first + self.count:
            raise ValueError(f"offset {self.first + self.count} expected next in the segment, found {n}")
        self.low = low if self.count == 0 else min(self.low, low)
        self.high = high if self.count == 0 else max(self.high, high)
        self.count += count


def _tally(tallies: dict[Series, _Tally], record: BatchRecord | EventRecord) -> _Tally:
    tally = tallies.get(record.series)
    if tally is None:
        if record.n < 0:
            raise ValueError(f"a record of stream {record.stream} has no offset yet")
        tally = tallies[record.series] = _Tally(len(tallies), record.n, 0, 0, 0)
    return tally


def _unpack_reading_record(kind: int, series: Series, n: int, payload: Reader) -> BatchRecord | EventRecord:
    if kind == _EVENT:
        time = payload.unpack(_EVENT_TIME)[0]
        return EventRecord(series.stream, time, columns.decode_json(payload)[0], n)
    batch, origin = unpack_batch(series.device, payload)
    return BatchRecord(series.stream, batch, origin, n)


def _tables(heads: Sequence[SeriesHead]) -> bytes:
    streams: dict[str, int] = {}
    devices: dict[str, int] = {}
    rows: list[bytes] = []
    for (stream, device), n, readings, low, high in heads:
        of = streams.setdefault(stream, len(streams)), devices.setdefault(device, len(devices))
        rows.append(_SERIES.pack(*of, readings, n, low, high))
    parts: list[bytes] = []
    for names in (streams, devices):
        parts.append(_COUNT16.pack(len(names)))
        for name in names:
            text = name.encode()
            parts += (_COUNT16.pack(len(text)), text)
    return b"".join((*parts, _COUNT32.pack(len(rows)), *rows))


def _read_tables(reader: Reader) -> list[SeriesHead]:
    streams = _read_names(reader)
    devices = _read_names(reader)
    count = reader.unpack(_COUNT32)[0]
    rows = _SERIES.iter_unpack(reader.take(count * _SERIES.size))
    return [
        SeriesHead(Series(streams[stream], devices[device]), n, readings, low, high)
        for stream, device, readings, n, low, high in rows
    ]


def _read_names(reader: Reader) -> list[str]:
    count = reader.unpack(_COUNT16)[0]
    return [reader.take(reader.unpack(_COUNT16)[0]).decode() for _ in range(count)]


def _sealed(head: bytes) -> bytes:
    return head[:4] + zlib.crc32(head[_CRC_START:]).to_bytes(4, "little") + head[_CRC_START:]
