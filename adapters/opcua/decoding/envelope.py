"""What surrounds the items: response header, PublishResponse, NotificationMessage (Part 4, 5.13.5, 7.25, 7.33)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from adapters.opcua.decoding.variant import DecodeError, read_bytes, read_length

SERVICE_FAULT: Final = 397
READ_RESPONSE: Final = 634
HISTORY_DATA: Final = 658
HISTORY_READ_RESPONSE: Final = 667
PUBLISH_RESPONSE: Final = 829
REPUBLISH_RESPONSE: Final = 835
DATA_CHANGE: Final = 811
STATUS_CHANGE: Final = 820
"""ids of the binary encodings (Part 6, annex A: NodeIds.csv)"""

_HEADER: Final = struct.Struct("<qII")
_MESSAGE: Final = struct.Struct("<Iq")
MOST_NESTED_DIAGNOSTICS: Final = 100
"""nesting that a decoder has to bear (Part 6, 5.2.2.12)"""


@dataclass(frozen=True, slots=True)
class Message:
    """A NotificationMessage; items are still bytes."""

    sequence: int
    publish_time: int
    """100 ns ticks since 1601"""
    data_changes: tuple[tuple[int, int], ...]
    """(start, end) of each DataChangeNotification in the response"""
    status_change: int | None
    """status of a StatusChangeNotification: the subscription has ended"""
    empty: bool
    """nothing inside: a keep-alive, whose sequence number is the next one to come"""


@dataclass(frozen=True, slots=True)
class Published:
    """A PublishResponse, or the fault in its place: then `message` is None."""

    service_result: int
    subscription: int = 0
    more: bool = False
    """the server has more notifications of this subscription ready"""
    message: Message | None = None
    available: tuple[int, ...] = ()
    """sequence numbers that the server could still send again, this message's own included"""


def read_publish(data: bytes) -> Published:
    """Read the body of the answer to a PublishRequest. Raises DecodeError."""
    result, offset = read_header(data, PUBLISH_RESPONSE, "PublishResponse")
    if offset is None:
        return Published(result)
    subscription = _uint32(data, offset)
    available, offset = _uint32s(data, offset + 4)
    if offset >= len(data):
        raise DecodeError("the message ends before its notification")
    more = data[offset] != 0
    message, offset = _message(data, offset + 1)
    offset = skip_diagnostics(data, _skip_uint32s(data, offset), len(data))
    _check_end(data, offset)
    return Published(result, subscription, more, message, available)


def read_republish(data: bytes) -> Published:
    """Read the body of the answer to a RepublishRequest. Raises DecodeError."""
    result, offset = read_header(data, REPUBLISH_RESPONSE, "RepublishResponse")
    if offset is None:
        return Published(result)
    message, offset = _message(data, offset)
    _check_end(data, offset)
    return Published(result, message=message)


@dataclass(frozen=True, slots=True)
class HistoryResult:
    """What a HistoryRead found of one node (Part 4, 5.11.3); values are still bytes."""

    status: int
    continuation: bytes
    """asks for the rest; empty = there is none"""
    values: tuple[int, int] | None
    """(start, end) of the array of DataValues in the response, None where there is none"""


def read_history(data: bytes) -> tuple[int, list[HistoryResult] | None]:
    """The service result of the answer to a HistoryReadRequest, and a result per node; None where it is a fault.

    Raises DecodeError.
    """
    result, offset = read_header(data, HISTORY_READ_RESPONSE, "HistoryReadResponse")
    if offset is None:
        return result, None
    count = read_length(data, offset, len(data))
    offset += 4
    found = []
    for _ in range(count):
        status = _uint32(data, offset)
        continuation, offset = read_bytes(data, offset + 4, len(data))
        type, start, offset = _extension_object(data, offset)
        found.append(HistoryResult(status, continuation or b"", (start, offset) if type == HISTORY_DATA else None))
    _check_end(data, skip_diagnostics(data, offset, len(data)))
    return result, found


def read_header(data: bytes, wanted: int, name: str) -> tuple[int, int | None]:
    """The service result of an answer, and where its own fields begin; None where it is a fault. Raises DecodeError.

    `wanted`: the type id that the answer must have; `name`: the same for people.
    """
    type, result, offset = _header(data)
    if type == SERVICE_FAULT or (type == wanted and result >> 31):
        return result, None
    if type != wanted:
        raise DecodeError(f"expected a {name}, found the type i={type}")
    return result, offset


def skip_diagnostics(data: bytes, offset: int, end: int) -> int:
    """Where the array of DiagnosticInfo at `offset` ends; we never ask for any, but servers may send them."""
    count = read_length(data, offset, end)
    offset += 4
    for _ in range(count):
        offset = skip_diagnostic(data, offset, end)
    return offset


def skip_diagnostic(data: bytes, offset: int, end: int) -> int:
    """Where the DiagnosticInfo at `offset` ends (Part 6, 5.2.2.12)."""
    for _ in range(MOST_NESTED_DIAGNOSTICS):
        if offset >= end:
            raise DecodeError("the message ends inside diagnostics")
        mask = data[offset]
        if mask & 0x80:
            raise DecodeError(f"mask {mask:#x} of diagnostics")
        offset += 1 + 4 * (mask & 0x0F).bit_count()
        if mask & 0x10:
            _, offset = read_bytes(data, offset, end)
        if mask & 0x20:
            offset += 4
        if not mask & 0x40:
            return offset
    raise DecodeError("diagnostics are nested too deeply")


def _check_end(data: bytes, offset: int) -> None:
    if offset != len(data):
        raise DecodeError(f"the message is {len(data)} bytes long, its content {offset}")


def _header(data: bytes) -> tuple[int, int, int]:
    """Type id, service result, and where the response's own fields begin (Part 4, 7.33)."""
    type, offset = _type_id(data, 0, len(data))
    if offset + _HEADER.size > len(data):
        raise DecodeError("the message ends inside its header")
    _, _, result = _HEADER.unpack_from(data, offset)
    offset = skip_diagnostic(data, offset + _HEADER.size, len(data))
    count = read_length(data, offset, len(data))
    offset += 4
    for _ in range(count):
        _, offset = read_bytes(data, offset, len(data))
    _, _, offset = _extension_object(data, offset)
    return type, result, offset


def _message(data: bytes, offset: int) -> tuple[Message, int]:
    if offset + _MESSAGE.size > len(data):
        raise DecodeError("the message ends inside its notification")
    sequence, publish_time = _MESSAGE.unpack_from(data, offset)
    offset += _MESSAGE.size
    count = read_length(data, offset, len(data))
    offset += 4
    changes, status_change = [], None
    for _ in range(count):
        type, start, offset = _extension_object(data, offset)
        if type == DATA_CHANGE:
            changes.append((start, offset))
        elif type == STATUS_CHANGE:
            status_change = _uint32(data, start)
    return Message(sequence, publish_time, tuple(changes), status_change, count <= 0), offset


def _extension_object(data: bytes, offset: int) -> tuple[int, int, int]:
    """Type id, start and end of the body (Part 6, 5.2.2.15)."""
    type, offset = _type_id(data, offset, len(data))
    if offset >= len(data):
        raise DecodeError("the message ends inside a structure")
    encoding = data[offset]
    if encoding == 0:
        return type, offset + 1, offset + 1
    if encoding not in (1, 2):
        raise DecodeError(f"encoding {encoding:#x} of a structure")
    _, end = read_bytes(data, offset + 1, len(data))
    return (type if encoding == 1 else -1), offset + 5, end


def _type_id(data: bytes, offset: int, end: int) -> tuple[int, int]:
    """The number of a numeric node id of namespace 0, -1 for any other (Part 6, 5.2.2.9)."""
    if offset + 2 > end:
        raise DecodeError("the message ends inside a type id")
    kind = data[offset]
    if kind == 0:
        return data[offset + 1], offset + 2
    if kind == 1 and offset + 4 <= end:
        number = data[offset + 2] | data[offset + 3] << 8
        return (number if data[offset + 1] == 0 else -1), offset + 4
    if kind == 2 and offset + 7 <= end:
        namespace = data[offset + 1] | data[offset + 2] << 8
        return (_uint32(data, offset + 3) if namespace == 0 else -1), offset + 7
    if kind in (3, 5):
        _, after = read_bytes(data, offset + 3, end)
        return -1, after
    if kind == 4 and offset + 19 <= end:
        return -1, offset + 19
    raise DecodeError(f"encoding {kind:#x} of a type id")


def _uint32(data: bytes, offset: int) -> int:
    if offset + 4 > len(data):
        raise DecodeError("the message ends inside a number")
    return int.from_bytes(data[offset : offset + 4], "little")


def _uint32s(data: bytes, offset: int) -> tuple[tuple[int, ...], int]:
    after = _skip_uint32s(data, offset)
    return struct.unpack_from(f"<{(after - offset) // 4 - 1}I", data, offset + 4), after


def _skip_uint32s(data: bytes, offset: int) -> int:
    after = offset + 4 + 4 * max(read_length(data, offset, len(data)), 0)
    if after > len(data):
        raise DecodeError("the message ends inside a list")
    return after
