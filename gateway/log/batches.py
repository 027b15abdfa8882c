"""Batches as bytes and back (docs/log-format.md, Segment). Pure: no I/O, no clock."""

from __future__ import annotations

import functools
import struct
from typing import Final

import numpy as np

from gateway.contract.adapter import Origin
from gateway.contract.batch import Batch, ValueType
from gateway.log import columns
from gateway.log.columns import Reader
from gateway.log.errors import LogFormatError

_SHORT: Final = 64
"""readings of a small device: what is said of them beside time and value is mostly what was said the last time"""
_KNOWN: Final = 2_000
"""encoded columns that are kept for that: devices of one kind have theirs in common"""

_BATCH_HEAD: Final = struct.Struct("<BBIqq")
_ORIGIN: Final = struct.Struct("<QQH")
_ANNEX: Final = struct.Struct("<BI")
_ORIGINAL_TIME: Final = 1

_INT32, _INT64 = np.dtype(np.int32), np.dtype(np.int64)
_UINT32, _UINT8, _BOOL = np.dtype(np.uint32), np.dtype(np.uint8), np.dtype(np.bool_)


def pack_batch(batch: Batch, origin: Origin | None) -> bytes:
    """The payload of a batch record."""
    count = len(batch.points)
    points, circumstances = (_pack_points, _pack_circumstances) if count > _SHORT else (_known_points, _known)
    parts = [
        _BATCH_HEAD.pack(batch.type, origin is not None, count, batch.received_time, batch.monotonic),
        b"" if origin is None else _pack_origin(origin),
        points(batch.points.tobytes()),
        columns.encode_integers(batch.source_time),
        circumstances(batch.status.tobytes(), batch.basis.tobytes(), batch.flags.tobytes(), batch.valid.tobytes()),
        encode_values(batch.type, batch.values),
    ]
    if batch.original_time is not None:
        column = columns.encode_integers(batch.original_time)
        parts += (_ANNEX.pack(_ORIGINAL_TIME, len(column)), column)
    return b"".join(parts)


def unpack_batch(device: str, payload: Reader) -> tuple[Batch, Origin | None]:
    """What `pack_batch` packed. Raises LogCorruptError or LogFormatError."""
    type_number, has_origin, count, received_time, monotonic = payload.unpack(_BATCH_HEAD)
    try:
        type = ValueType(type_number)
    except ValueError:
        raise LogFormatError(
            f"value type {type_number} is not known to this version; a newer version wrote it"
        ) from None
    origin = None
    if has_origin:
        subscription, sequence, length = payload.unpack(_ORIGIN)
        origin = Origin(payload.take(length).decode(), subscription, sequence)
    column = columns.decode_column
    points = column(payload, count, _INT32)
    source_time = column(payload, count, _INT64)
    status = column(payload, count, _UINT32)
    basis = column(payload, count, _UINT8)
    flags = column(payload, count, _UINT8)
    valid = column(payload, count, _BOOL)
    values = decode_values(payload, type, count)
    original_time = None
    while payload.offset < len(payload.data):
        annex, length = payload.unpack(_ANNEX)
        content = Reader(payload.take(length))
        if annex == _ORIGINAL_TIME:
            original_time = column(content, count, _INT64)
    batch = Batch(
        device, type, points, values, valid, status, source_time, basis, flags, received_time, monotonic,
        original_time,
    )  # fmt: skip
    return batch, origin


def encode_values(type: ValueType, values: columns.Column) -> bytes:
    """A column of values of a batch's type."""
    return _ENCODERS[type](values)


def decode_values(reader: Reader, type: ValueType, count: int) -> columns.Column:
    """What `encode_values` encoded. Raises LogCorruptError or LogFormatError."""
    objects = _OBJECT_DECODERS.get(type)
    return objects(reader, count) if objects else columns.decode_column(reader, count, type.dtype)


def _pack_points(points: bytes) -> bytes:
    return columns.encode_integers(np.frombuffer(points, _INT32))


def _pack_circumstances(status: bytes, basis: bytes, flags: bytes, valid: bytes) -> bytes:
    return b"".join(
        (
            columns.encode_integers(np.frombuffer(status, _UINT32)),
            columns.encode_integers(np.frombuffer(basis, _UINT8)),
            columns.encode_integers(np.frombuffer(flags, _UINT8)),
            columns.encode_bools(np.frombuffer(valid, _BOOL)),
        )
    )


_known_points = functools.lru_cache(_KNOWN)(_pack_points)
_known = functools.lru_cache(_KNOWN)(_pack_circumstances)


def _pack_origin(origin: Origin) -> bytes:
    server = origin.server.encode()
    return _ORIGIN.pack(origin.subscription, origin.sequence, len(server)) + server


_ENCODERS: Final = {
    ValueType.BOOL: columns.encode_bools,
    ValueType.INT64: columns.encode_integers,
    ValueType.UINT64: columns.encode_integers,
    ValueType.FLOAT32: columns.encode_floats,
    ValueType.FLOAT64: columns.encode_floats,
    ValueType.STRING: columns.encode_strings,
    ValueType.BYTES: columns.encode_bytes,
    ValueType.JSON: columns.encode_json_column,
}
_OBJECT_DECODERS: Final = {
    ValueType.STRING: columns.decode_strings,
    ValueType.BYTES: columns.decode_bytes,
    ValueType.JSON: columns.decode_json_column,
}
