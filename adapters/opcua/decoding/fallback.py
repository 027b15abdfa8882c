"""Values of the rarer types: node ids, structures, variants in variants. Slow, and rare on the data path. Pure.

Every count is checked against the bytes that are left before anything is made of it, and nesting is bounded, so that no
bytes, however wrong, cost more than a small multiple of their length.
"""

from __future__ import annotations

import base64
import functools
import struct
from collections.abc import Callable
from typing import Any, Final

from adapters.opcua.decoding.envelope import MOST_NESTED_DIAGNOSTICS
from adapters.opcua.decoding.layouts import (
    ARRAY,
    DATA_VALUE,
    DIAGNOSTIC_INFO,
    DIMENSIONS,
    EXPANDED_NODEID,
    EXTENSION_OBJECT,
    NODEID,
    NULL,
    SERVER,
    SOURCE,
    STATUS,
    STRING,
    TAILS,
    VALUE,
    VARIANT,
)
from adapters.opcua.decoding.structures import STANDARD, Field, Structure, Structures
from adapters.opcua.decoding.variant import (
    DecodeError,
    Value,
    decode_plain,
    decode_text,
    decode_variant,
    format_guid,
    format_ticks,
    is_plain,
    matrix,
    read_bytes,
    read_length,
    read_shape,
    read_text,
)

_FOUR_BYTES: Final = 1
"""encoding of a node id of namespace and number that are short (Part 6, 5.2.2.9)"""
_LAST_RESERVED: Final = 31
_DEEPEST: Final = 32
"""nesting of variants and structures that we follow"""


def decode_other(data: bytes, offset: int, end: int, structures: Structures = STANDARD, depth: int = 0) -> Value:
    """See `variant.OtherVariant`; `structures`: what is known of the server's own types."""
    if depth > _DEEPEST:
        raise DecodeError("a value is nested too deeply")
    return _Decoder(data, structures, depth).variant(offset, end)


class _Decoder:
    """Decodes at one depth of nesting."""

    def __init__(self, data: bytes, structures: Structures, depth: int) -> None:
        self._data = data
        self._structures = structures
        self._depth = depth

    def variant(self, offset: int, end: int) -> Value:
        """A variant of one of our types."""
        encoding = self._data[offset]
        type = encoding & 0x3F
        offset += 1
        if not encoding & ARRAY:
            if encoding & DIMENSIONS or type == VARIANT:
                raise DecodeError(f"encoding {encoding:#x} of a value")
            value, offset = self._one(type, offset, end)
            return Value(NULL if value is None else type, False, value, offset)
        values, offset = self._array(offset, end, functools.partial(self._one, type))
        if encoding & DIMENSIONS:
            shape, offset = read_shape(self._data, offset, end)
            if values is not None and shape:
                values = matrix(values, shape)
                if values is None:
                    return Value(NULL, False, None, offset, sound=False)
        return Value(NULL if values is None else type, values is not None, values, offset)

    def _array(
        self, offset: int, end: int, read: Callable[[int, int], tuple[Any, int]]
    ) -> tuple[list[Any] | None, int]:
        count = read_length(self._data, offset, end)
        offset += 4
        if count > end - offset:
            raise DecodeError("an array is longer than the message")
        if count < 0:
            return None, offset
        values = []
        for _ in range(count):
            value, offset = read(offset, end)
            values.append(value)
        return values, offset

    def _one(self, type: int, offset: int, end: int) -> tuple[Any, int]:
        """One value of a rarer type, JSON-able; takes at least one byte."""
        if type == EXTENSION_OBJECT:
            return self._extension_object(offset, end)
        if type in (NODEID, EXPANDED_NODEID):
            return read_node_id(self._data, offset, end)
        if type == DATA_VALUE:
            return self._data_value(offset, end)
        if type == VARIANT:
            return self._nested_variant(offset, end)
        if type == DIAGNOSTIC_INFO:
            return _diagnostic_info(self._data, offset, end)
        if DIAGNOSTIC_INFO < type <= _LAST_RESERVED:
            # Ids of the future are byte strings to us (Part 6, 5.2.2.16).
            return _as_json(*read_bytes(self._data, offset, end))
        raise DecodeError(f"{type} is not a built-in type")

    def _nested_variant(self, offset: int, end: int) -> tuple[Any, int]:
        deeper = functools.partial(decode_other, structures=self._structures, depth=self._depth + 1)
        found = decode_variant(self._data, offset, end, deeper)
        return _as_json(found.value, found.end)

    def _data_value(self, offset: int, end: int) -> tuple[Any, int]:
        """Value and status, and the times that are there."""
        if offset >= end or self._data[offset] >= len(TAILS):
            raise DecodeError("the mask of a DataValue is wrong")
        mask, value = self._data[offset], None
        offset += 1
        if mask & VALUE:
            value, offset = self._nested_variant(offset, end)
        tail, status, source, server = TAILS[mask]
        if offset + tail.size > end:
            raise DecodeError("the message ends inside a DataValue")
        fields = tail.unpack_from(self._data, offset)
        found = {"value": value, "status": fields[status] if mask & STATUS else 0}
        if mask & SOURCE:
            found["source_time"] = format_ticks(fields[source])
        if mask & SERVER:
            found["server_time"] = format_ticks(fields[server])
        return found, offset + tail.size

    def _extension_object(self, offset: int, end: int) -> tuple[Any, int]:
        """A structure as a dict of its fields where we know them, else its type and its bytes (Part 6, 5.2.2.15)."""
        type_id, offset = read_node_id(self._data, offset, end)
        if offset >= end:
            raise DecodeError("the message ends inside a structure")
        encoding = self._data[offset]
        offset += 1
        if encoding == 0:
            return (None if type_id == "i=0" else {"type": type_id}), offset
        if encoding not in (1, 2):
            raise DecodeError(f"encoding {encoding:#x} of a structure")
        body, after = read_bytes(self._data, offset, end)
        if encoding == 2:
            return {"type": type_id, "xml": decode_text(body or b"")}, after
        known = self._structures.by_encoding(type_id) if body is not None else None
        if known is not None:
            try:
                value, stop = self._structure(known, offset + 4, after)
            except DecodeError:
                stop = -1
            # Not to the byte: the server's type is not the one that we know.
            if stop == after:
                return value, after
        return {"type": type_id, "body": base64.b64encode(body or b"").decode()}, after

    def _structure(self, known: Structure, offset: int, end: int) -> tuple[Any, int]:
        """Fields in their order; a mask tells which optional ones are there, a number which one of a union's."""
        if self._depth >= _DEEPEST:
            raise DecodeError("a structure is nested too deeply")
        if known.union:
            return self._union(known, offset, end)
        values: dict[str, Any] = {}
        mask, bit = 0, 1
        if known.masked:
            mask, offset = self._uint32(offset, end)
        for names, numbers, field in known.pieces:
            if numbers is not None:
                after = offset + numbers.size
                if after > end:
                    raise DecodeError("the message ends inside a structure")
                values.update(zip(names, numbers.unpack_from(self._data, offset), strict=True))
                offset = after
                continue
            if field.optional:
                there, bit = mask & bit, bit << 1
                if not there:
                    continue
            if field.type == STRING and field.rank < 0:
                values[field.name], offset = read_text(self._data, offset, end)
                continue
            values[field.name], offset = self._deeper().field(field, offset, end)
        return values, offset

    def _union(self, known: Structure, offset: int, end: int) -> tuple[Any, int]:
        choice, offset = self._uint32(offset, end)
        if choice > len(known.fields):
            raise DecodeError(f"a union has no field {choice}")
        if not choice:
            return {}, offset
        field = known.fields[choice - 1]
        value, offset = self._deeper().field(field, offset, end)
        return {field.name: value}, offset

    def _deeper(self) -> _Decoder:
        return _Decoder(self._data, self._structures, self._depth + 1)

    def field(self, field: Field, offset: int, end: int) -> tuple[Any, int]:
        """The value of a field."""
        read = functools.partial(self._element, field)
        if field.rank < 0:
            return read(offset, end)
        if field.rank <= 1:
            return self._array(offset, end, read)
        shape, offset = read_shape(self._data, offset, end)
        count = 1
        for size in shape:
            count *= size
            if not 0 <= count <= end - offset:
                raise DecodeError("a matrix is longer than its structure")
        values = []
        for _ in range(count if shape else 0):
            value, offset = read(offset, end)
            values.append(value)
        return (matrix(values, shape) if shape else None), offset

    def _element(self, field: Field, offset: int, end: int) -> tuple[Any, int]:
        if field.nested is not None:
            known = self._structures.by_type(field.nested)
            if known is None:
                raise DecodeError(f"the structure {field.nested} is unknown")
            return self._structure(known, offset, end)
        if is_plain(field.type):
            found = decode_plain(self._data, offset, end, field.type)
            return _as_json(found.value, found.end)
        return self._one(field.type, offset, end)

    def _uint32(self, offset: int, end: int) -> tuple[int, int]:
        if offset + 4 > end:
            raise DecodeError("the message ends inside a structure")
        return int.from_bytes(self._data[offset : offset + 4], "little"), offset + 4


def read_node_id(data: bytes, offset: int, end: int) -> tuple[str, int]:
    """A node id's text form (Part 6, 5.2.2.9 and 5.3.1.10), and where it ends."""
    if offset >= end:
        raise DecodeError("the message ends before a node id")
    if data[offset] == _FOUR_BYTES and offset + 4 <= end:
        return _four_byte_id(data[offset + 1 : offset + 4]), offset + 4
    kind = data[offset] & 0x3F
    sizes = {0: 2, 1: 4, 2: 7, 3: 3, 4: 19, 5: 3}
    if kind not in sizes or offset + sizes[kind] > end:
        raise DecodeError(f"encoding {data[offset]:#x} of a node id")
    flags, start, offset = data[offset], offset + 1, offset + sizes[kind]
    namespace = 0 if kind == 0 else data[start] if kind == 1 else struct.unpack_from("<H", data, start)[0]
    if kind <= 2:
        text = f"i={int.from_bytes(data[start + (0, 1, 2)[kind] : offset], 'little')}"
    elif kind == 4:
        text = f"g={format_guid(data[start + 2 : offset])}"
    else:
        raw, offset = read_bytes(data, offset, end)
        raw = raw or b""
        text = f"s={decode_text(raw)}" if kind == 3 else f"b={base64.b64encode(raw).decode()}"
    prefix = f"ns={namespace};" if namespace else ""
    if flags & 0x80:
        uri, offset = read_bytes(data, offset, end)
        prefix = f"nsu={decode_text(uri or b'')};"
    if flags & 0x40:
        if offset + 4 > end:
            raise DecodeError("the message ends inside a node id")
        prefix = f"svr={struct.unpack_from('<I', data, offset)[0]};{prefix}"
        offset += 4
    return prefix + text, offset


@functools.lru_cache(maxsize=1000)
def _four_byte_id(raw: bytes) -> str:
    """The form that nearly all type ids have: those of structures come with every value."""
    number = f"i={raw[1] | raw[2] << 8}"
    return f"ns={raw[0]};{number}" if raw[0] else number


_DIAGNOSTIC_FIELDS: Final = ((1, "symbolic_id"), (2, "namespace_uri"), (8, "locale"), (4, "localized_text"))
"""bit and name, in the order of the encoding: indexes into the string table of the response (Part 6, 5.2.2.12)"""


def _diagnostic_info(data: bytes, offset: int, end: int) -> tuple[Any, int]:
    found: dict[str, Any] = {}
    inner = found
    for _ in range(MOST_NESTED_DIAGNOSTICS):
        if offset >= end:
            raise DecodeError("the message ends inside diagnostics")
        mask = data[offset]
        offset += 1
        if mask & 0x80:
            raise DecodeError(f"mask {mask:#x} of diagnostics")
        for bit, name in _DIAGNOSTIC_FIELDS:
            if mask & bit:
                inner[name], offset = _int32(data, offset, end)
        if mask & 0x10:
            raw, offset = read_bytes(data, offset, end)
            inner["additional_info"] = None if raw is None else decode_text(raw)
        if mask & 0x20:
            status, offset = _int32(data, offset, end)
            inner["inner_status"] = status & 0xFFFFFFFF
        if not mask & 0x40:
            return found, offset
        inner["inner"] = inner = {}
    raise DecodeError("diagnostics are nested too deeply")


def _int32(data: bytes, offset: int, end: int) -> tuple[int, int]:
    return read_length(data, offset, end), offset + 4


def _as_json(value: Any, end: int) -> tuple[Any, int]:
    return (base64.b64encode(value).decode() if isinstance(value, bytes) else value), end
