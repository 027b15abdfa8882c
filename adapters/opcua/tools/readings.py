"""Values out of the answer to a Read, from raw bytes (Part 4, 5.11.2; Part 6, 5.2.2.17). Pure.

Not asyncua's decoder, because one value of a type that it does not know would cost the whole answer.
"""

from __future__ import annotations

import base64
from typing import Any, NamedTuple

import numpy as np

from adapters.opcua.decoding.batches import UNIX_EPOCH_TICKS
from adapters.opcua.decoding.fallback import decode_other
from adapters.opcua.decoding.layouts import BYTESTRING, DATETIME, FLOAT, NULL, TAILS, VALUE
from adapters.opcua.decoding.variant import DecodeError, decode_variant, format_ticks, read_length


class Reading(NamedTuple):
    """One attribute's value."""

    type: int
    """built-in type id; NULL = no value"""
    array: bool
    value: Any
    """plain Python data; ByteString as base64, times and GUIDs as text"""
    status: int
    source_ns: int | None
    server_ns: int | None

    @property
    def good(self) -> bool:
        """Whether there is a value to rely on."""
        return self.status >> 30 == 0 and self.type != NULL


def read_results(data: bytes) -> list[Reading]:
    """The results of a ReadResponse; `data` begins after the response header. Raises DecodeError."""
    count, offset, end = read_length(data, 0, len(data)), 4, len(data)
    if count > end - offset:
        raise DecodeError("more values than the message can hold")
    found = []
    for _ in range(count):
        reading, offset = _data_value(data, offset, end)
        found.append(reading)
    return found


def _data_value(data: bytes, offset: int, end: int) -> tuple[Reading, int]:
    if offset >= end or data[offset] >= len(TAILS):
        raise DecodeError("the mask of a DataValue is wrong")
    mask = data[offset]
    offset += 1
    type, array, value = NULL, False, None
    if mask & VALUE:
        decoded = decode_variant(data, offset, end, decode_other)
        type, array, value, offset = decoded.type, decoded.array, decoded.value, decoded.end
        value = [_plain(type, each) for each in value] if array else _plain(type, value)
    tail, *places = TAILS[mask]
    if offset + tail.size > end:
        raise DecodeError("the message ends inside a DataValue")
    fields = (*tail.unpack_from(data, offset), 0)  # a place of -1 finds this zero: absent
    status, source, server = (fields[place] for place in places)
    return Reading(type, array, value, status, _ns(source), _ns(server)), offset + tail.size


def _plain(type: int, value: Any) -> Any:
    if type == BYTESTRING and isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if type == DATETIME and isinstance(value, int):
        return format_ticks(value)
    if type == FLOAT and isinstance(value, float):
        return float(str(np.float32(value)))  # 0.412, not the 0.41200000047683716 that double precision makes of it
    return value


def _ns(ticks: int) -> int | None:
    return (ticks - UNIX_EPOCH_TICKS) * 100 if ticks else None
