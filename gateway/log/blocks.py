"""Blocks: the segments of a closed file by device, column after column (docs/log-format.md, Block). Pure: no I/O.

A block holds whole segments and gives them back at their own positions, record for record and bit for bit; only the
bytes in between are arranged anew. Readings of one device and type lie together, each column sorted by point: what one
point says next is mostly near to what it said before, which no compressor sees across the points of a batch.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import zstandard

from gateway.contract.adapter import Origin
from gateway.contract.batch import Batch, ValueType
from gateway.log import codec, columns
from gateway.log.batches import decode_values, encode_values
from gateway.log.columns import Column, Reader
from gateway.log.errors import LogCorruptError, LogFormatError
from gateway.log.records import BatchRecord, EventRecord, Record, Segment, Series, SeriesHead

BLOCK: Final = b"EGB1"
FORMAT: Final = 2
"""of data files that hold blocks; versions that know none refuse them by it"""
BLOCK_BYTES: Final = 512_000
"""encoded bytes of the segments that go into one block, unless a single one is larger"""
LEVEL: Final = 9

_HEAD: Final = struct.Struct("<4sIQQHHIIIIIQqqqq")
_CRC_START: Final = 8
_LENGTH: Final = struct.Struct("<I")
BATCH: Final = 4
"""the kind of a key of batches"""

_BOOL, _U8, _U16, _U32 = np.dtype(np.bool_), np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.uint32)
_I32, _I64, _U64 = np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.uint64)


class Source(NamedTuple):
    """A segment that goes into a block."""

    head: codec.Head
    nbytes: int
    """size that it had by itself"""
    records: list[Record]


class Held(NamedTuple):
    """What a block's head says of one of its segments."""

    position: int
    commit_time: int
    """ns since the epoch"""
    nbytes: int
    """size that it had by itself, so that a limit in bytes means the same before and after"""
    records: int
    series: list[SeriesHead]


class BlockHead(NamedTuple):
    """A block's head, checked against its checksum."""

    first: int
    last: int
    body_bytes: int
    raw_bytes: int
    body_crc: int
    readings: int
    min_source: int
    max_source: int
    min_received: int
    max_received: int
    segments: list[Held]


class Key(NamedTuple):
    """Records of one key lie together."""

    kind: int
    stream: str | None = None
    device: str | None = None
    type: int = 0
    origins: bool = False
    original_times: bool = False


@dataclass(slots=True)
class _Groups:
    """The records of a block by key, and the way back: the key of each record in the order of the log."""

    order: list[int] = field(default_factory=list)
    keys: dict[Key, int] = field(default_factory=dict)
    members: list[list[Record]] = field(default_factory=list)

    def add(self, record: Record) -> None:
        key = _key_of(record)
        index = self.keys.setdefault(key, len(self.members))
        if index == len(self.members):
            self.members.append([])
        self.members[index].append(record)
        self.order.append(index)


def pack(sources: Sequence[Source]) -> tuple[bytes, bytes]:
    """What a block says of its segments, and what is in them; neither is compressed or sealed."""
    groups = _Groups()
    for source in sources:
        for record in source.records:
            groups.add(record)
    parts = [
        _json([list(key) for key in groups.keys]),
        _LENGTH.pack(len(groups.order)),
        _integers(groups.order, _U16),
    ]
    for key, members in zip(groups.keys, groups.members, strict=True):
        parts += _pack_batches(key, members) if key.kind == BATCH else _pack_payloads(members)
    raw = b"".join(parts)
    return _pack_tables(sources), raw


def unpack(tables: bytes, raw: bytes) -> tuple[list[Held], list[Segment]]:
    """What `pack` packed, in the order of the positions. Raises LogCorruptError or LogFormatError."""
    held = _read_tables(Reader(tables))
    return held, _segments(held, raw)


def encode_block(sources: Sequence[Source]) -> tuple[bytes, bytes]:
    """Head and body of a block of at least one segment, in the order of their positions."""
    tables, raw = pack(sources)
    body = _compress(raw)
    packed = _compress(tables)
    batched = [source.head for source in sources if source.head.readings]
    bounds = (
        (
            min(head.min_source for head in batched),
            max(head.max_source for head in batched),
            min(head.min_received for head in batched),
            max(head.max_received for head in batched),
        )
        if batched
        else (0, 0, 0, 0)
    )
    fixed = _HEAD.pack(
        BLOCK, 0, sources[0].head.position, sources[-1].head.position, FORMAT, 0, _HEAD.size + len(packed),
        len(body), len(raw), zlib.crc32(body), len(tables), sum(head.readings for head in batched), *bounds,
    )  # fmt: skip
    head = fixed + packed
    return head[:4] + zlib.crc32(head[_CRC_START:]).to_bytes(4, "little") + head[_CRC_START:], body


def decode_block_head(head: bytes, first: int) -> BlockHead:
    """The head of the block that begins at `first`. Raises LogCorruptError, or LogFormatError for another version."""
    if len(head) < _HEAD.size or head[:4] != BLOCK:
        raise LogCorruptError(f"position {first}: no block where one should be")
    fields = _HEAD.unpack_from(head)
    _, crc, found, last, version, _, length, body, raw, body_crc, tables, readings = fields[:12]
    low_source, high_source, low_received, high_received = fields[12:]
    if zlib.crc32(head[_CRC_START:]) != crc or length != len(head):
        raise LogCorruptError(f"position {first}: the checksum of the block's head does not match")
    if version != FORMAT:
        raise LogFormatError(
            f"position {first}: block format {version} found, this version reads {FORMAT}; "
            "use the version that wrote this log, or a newer one"
        )
    if found != first:
        raise LogCorruptError(f"position {first}: the block's head says that it is {found}")
    segments = _read_tables(Reader(codec.decompress(head[_HEAD.size :], tables)))
    return BlockHead(
        first, last, body, raw, body_crc, readings, low_source, high_source, low_received, high_received, segments
    )


def check_block(head: BlockHead, body: bytes) -> None:
    """Raise LogCorruptError unless `body` is the one that belongs to `head`."""
    if len(body) != head.body_bytes or zlib.crc32(body) != head.body_crc:
        raise LogCorruptError(f"positions {head.first} to {head.last}: the checksum of the block does not match")


def decode_block(head: BlockHead, body: bytes) -> list[Segment]:
    """The segments of a block, at their positions. Raises LogCorruptError or LogFormatError."""
    check_block(head, body)
    return _segments(head.segments, codec.decompress(body, head.raw_bytes))


def _segments(held_segments: Sequence[Held], raw: bytes) -> list[Segment]:
    reader = Reader(raw)
    keys, order = read_keys(reader)
    groups = [_read_batches(key, reader) if key.kind == BATCH else read_payloads(key, reader) for key in keys]
    records = (next(groups[index]) for index in order)
    segments: list[Segment] = []
    for held in held_segments:
        following = {one.series: one.n for one in held.series}
        segment = Segment(held.position, [], held.series, held.nbytes)
        for _ in range(held.records):
            record = next(records)
            if isinstance(record, BatchRecord | EventRecord):
                record.n = following[record.series]
                following[record.series] += len(record.batch) if isinstance(record, BatchRecord) else 1
            segment.records.append(record)
        segments.append(segment)
    return segments


def read_keys(reader: Reader) -> tuple[list[Key], list[int]]:
    """How a block's records lie: the keys of what follows one after the other, and the key of each record in the order
    of the log.
    """
    keys = [Key(*key) for key in _read_json(reader)]
    return keys, _read_integers(reader, reader.unpack(_LENGTH)[0], _U16).tolist()


def _key_of(record: Record) -> Key:
    kind = codec.kind_of_record(record)
    if isinstance(record, BatchRecord):
        batch = record.batch
        times = batch.original_time is not None
        return Key(kind, record.stream, batch.device, int(batch.type), record.origin is not None, times)
    if isinstance(record, EventRecord):
        return Key(kind, *record.series)
    return Key(kind)


def _pack_batches(key: Key, members: Sequence[Any]) -> list[bytes]:
    batches: list[Batch] = [record.batch for record in members]
    parts = [
        _LENGTH.pack(len(batches)),
        _integers([len(batch) for batch in batches], _U32),
        _integers([batch.received_time for batch in batches], _I64),
        _integers([batch.monotonic for batch in batches], _I64),
    ]
    if key.origins:
        servers: dict[str, int] = {}
        indexes = [servers.setdefault(record.origin.server, len(servers)) for record in members]
        parts += (
            _json(list(servers)),
            _integers(indexes, _U32),
            _integers([record.origin.subscription for record in members], _U64),
            _integers([record.origin.sequence for record in members], _U64),
        )

    def joined(name: str) -> Column:
        return np.concatenate([getattr(batch, name) for batch in batches])

    points = joined("points")
    by_point = np.argsort(points, kind="stable")
    parts += (
        columns.encode_integers(points),
        columns.encode_integers(joined("source_time")[by_point]),
        columns.encode_integers(joined("status")[by_point]),
        columns.encode_integers(joined("basis")[by_point]),
        columns.encode_integers(joined("flags")[by_point]),
        columns.encode_bools(joined("valid")[by_point]),
        encode_values(ValueType(batches[0].type), joined("values")[by_point]),
    )
    if key.original_times:
        parts.append(columns.encode_integers(joined("original_time")[by_point]))
    return parts


def read_counts(reader: Reader) -> tuple[int, Column]:
    """With what the batches of a key begin: how many they are, and uint32[n], the readings of each."""
    number = reader.unpack(_LENGTH)[0]
    return number, columns.decode_column(reader, number, _U32)


def read_origins(reader: Reader, number: int) -> tuple[list[str], list[int], list[int], list[int]]:
    """The servers' names, and of each of `number` batches the index of its server, subscription and sequence number."""
    servers: list[str] = _read_json(reader)
    indexes, subscriptions, sequences = (
        columns.decode_column(reader, number, dtype).tolist() for dtype in (_U32, _U64, _U64)
    )
    return servers, indexes, subscriptions, sequences


def _read_batches(key: Key, reader: Reader) -> Iterator[Record]:
    """The records of a key in the order of the log, without their offsets. Reads its columns at once."""
    assert key.stream is not None
    assert key.device is not None
    number, counts = read_counts(reader)
    received, monotonic = (columns.decode_column(reader, number, _I64) for _ in range(2))
    origins: list[Origin | None] = [None] * number
    if key.origins:
        servers, *rows = read_origins(reader, number)
        origins = [Origin(servers[server], *ids) for server, *ids in zip(*rows, strict=True)]
    total = int(counts.sum())
    try:
        type = ValueType(key.type)
    except ValueError:
        raise LogFormatError(f"value type {key.type} is not known to this version; a newer version wrote it") from None
    points = columns.decode_column(reader, total, _I32)
    by_point = np.argsort(points, kind="stable")
    read = [_restored(columns.decode_column(reader, total, dtype), by_point) for dtype in (_I64, _U32, _U8, _U8, _BOOL)]
    values = _restored(decode_values(reader, type, total), by_point)
    original = _restored(columns.decode_column(reader, total, _I64), by_point) if key.original_times else None
    return _batches(key, type, (points, *read, values, original), counts, received, monotonic, origins)


def _batches(
    key: Key,
    type: ValueType,
    held: tuple[Any, ...],
    counts: Column,
    received: Column,
    monotonic: Column,
    origins: Sequence[Origin | None],
) -> Iterator[Record]:
    assert key.stream is not None
    assert key.device is not None
    points, source_time, status, basis, flags, valid, values, original = held
    ends = np.cumsum(counts, dtype=np.int64).tolist()
    begin = 0
    for end, at, ticks, origin in zip(ends, received.tolist(), monotonic.tolist(), origins, strict=True):
        part = slice(begin, end)
        yield BatchRecord(
            key.stream,
            Batch(
                key.device, type, points[part], values[part], valid[part], status[part], source_time[part],
                basis[part], flags[part], at, ticks, None if original is None else original[part],
            ),
            origin,
        )  # fmt: skip
        begin = end


def _pack_payloads(members: Sequence[Record]) -> list[bytes]:
    payloads = np.empty(len(members), object)
    payloads[:] = [codec.pack_record(record) for record in members]
    return [_LENGTH.pack(len(members)), columns.encode_bytes(payloads)]


def read_payloads(key: Key, reader: Reader) -> Iterator[Record]:
    """The records of a key that is not of batches, in the order of the log; events are without their offsets."""
    payloads = columns.decode_bytes(reader, reader.unpack(_LENGTH)[0])
    series = None if key.stream is None or key.device is None else Series(key.stream, key.device)
    return (codec.unpack_record(key.kind, payload, series) for payload in payloads)


def _pack_tables(sources: Sequence[Source]) -> bytes:
    """What can be known of the segments without the body; their series sorted by series, as readings are by point."""
    rows = [one for source in sources for one in source.head.series]
    names: dict[Series, int] = {}
    series = np.fromiter((names.setdefault(one.series, len(names)) for one in rows), _U16, len(rows))
    by_series = np.argsort(series, kind="stable")
    parts = [
        _json([list(name) for name in names]),
        _LENGTH.pack(len(sources)),
        _LENGTH.pack(len(rows)),
        _integers([source.head.position for source in sources], _I64),
        _integers([source.head.commit_time for source in sources], _I64),
        _integers([source.nbytes for source in sources], _U32),
        _integers([len(source.records) for source in sources], _U32),
        _integers([len(source.head.series) for source in sources], _U32),
        _integers(series, _U16),
    ]
    for field_name, dtype in _ROW:
        column = np.fromiter((getattr(one, field_name) for one in rows), dtype, len(rows))
        parts.append(_integers(column[by_series], dtype))
    return b"".join(parts)


_ROW: Final = (("n", _I64), ("readings", _U32), ("min_time", _I64), ("max_time", _I64))


def _read_tables(reader: Reader) -> list[Held]:
    names = [Series(*name) for name in _read_json(reader)]
    count, total = reader.unpack(_LENGTH)[0], reader.unpack(_LENGTH)[0]
    held = [_read_integers(reader, count, dtype).tolist() for dtype in (_I64, _I64, _U32, _U32, _U32)]
    series = _read_integers(reader, total, _U16)
    by_series = np.argsort(series, kind="stable")
    fields = [_restored(_read_integers(reader, total, dtype), by_series).tolist() for _, dtype in _ROW]
    rows = iter([SeriesHead(names[index], *row) for index, *row in zip(series.tolist(), *fields, strict=True)])
    return [
        Held(position, commit_time, nbytes, records, [next(rows) for _ in range(length)])
        for position, commit_time, nbytes, records, length in zip(*held, strict=True)
    ]


def _restored(sorted_column: Column, order: npt.NDArray[np.intp]) -> Column:
    """The column as it was before it was taken in this order."""
    column = np.empty_like(sorted_column)
    column[order] = sorted_column
    return column


def _integers(values: Sequence[int] | Column, dtype: np.dtype[Any]) -> bytes:
    return columns.encode_integers(np.asarray(values, dtype)) if len(values) else b""


def _read_integers(reader: Reader, count: int, dtype: np.dtype[Any]) -> Column:
    return columns.decode_column(reader, count, dtype) if count else np.empty(0, dtype)


def _json(value: Any) -> bytes:
    text = orjson.dumps(value)
    return _LENGTH.pack(len(text)) + text


def _read_json(reader: Reader) -> Any:
    return orjson.loads(reader.take(reader.unpack(_LENGTH)[0]))


def _compress(raw: bytes) -> bytes:
    # Not kept: at this level a compressor holds many megabytes, and a small box needs one every two minutes.
    return zstandard.ZstdCompressor(level=LEVEL).compress(raw)


def blockwise(sources: Iterable[Source]) -> Iterator[list[Source]]:
    """The sources as they go into blocks together."""
    part: list[Source] = []
    taken = 0
    for source in sources:
        if part and taken + source.nbytes > BLOCK_BYTES:
            yield part
            part, taken = [], 0
        part.append(source)
        taken += source.nbytes
    if part:
        yield part
