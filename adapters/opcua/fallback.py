"""Values of the rarer types: node ids, structures, variants in variants. Slow, and rare on the data path.

Lengths are ours to check; asyncua only decodes the fields of structures that it knows, inside a body with a known end.
It trusts every count, so that a few wrong bytes in a variant could keep it busy for minutes: structures that may hold
variants stay opaque.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import enum
import functools
import re
import struct
import uuid
from typing import Any, Final

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary
from asyncua.ua.uaerrors import UaError

from adapters.opcua.envelope import skip_diagnostic
from adapters.opcua.layouts import ARRAY, DIMENSIONS, EXPANDED_NODEID, NODEID, TAILS, VALUE
from adapters.opcua.variant import DecodeError, decode_variant, format_guid, read_bytes, read_length

_EXTENSION_OBJECT: Final = 22
_DATA_VALUE: Final = 23
_VARIANT: Final = 24
_DIAGNOSTIC_INFO: Final = 25
_DEEPEST: Final = 32
"""nesting of variants that we follow"""


def decode_other(data: bytes, offset: int, end: int, depth: int = 0) -> tuple[Any, int]:
    """See `variant.OtherVariant`."""
    if depth > _DEEPEST:
        raise DecodeError("a value is nested too deeply")
    encoding = data[offset]
    type = encoding & 0x3F
    offset += 1
    if not encoding & ARRAY:
        if encoding & DIMENSIONS or type == _VARIANT:
            raise DecodeError(f"encoding {encoding:#x} of a value")
        return _one(type, data, offset, end, depth)
    count = read_length(data, offset, end)
    offset += 4
    if count > end - offset:
        raise DecodeError("an array is longer than the message")
    values = []
    for _ in range(count):
        value, offset = _one(type, data, offset, end, depth)
        values.append(value)
    if encoding & DIMENSIONS:
        offset += 4 + 4 * max(read_length(data, offset, end), 0)
        if offset > end:
            raise DecodeError("array dimensions are longer than the message")
    return (None if count < 0 else values), offset


def _one(type: int, data: bytes, offset: int, end: int, depth: int) -> tuple[Any, int]:
    """One value of a rarer type; takes at least one byte."""
    if type in (NODEID, EXPANDED_NODEID):
        return _node_id(data, offset, end)
    if type == _EXTENSION_OBJECT:
        return _extension_object(data, offset, end)
    if type == _DATA_VALUE:
        return _data_value(data, offset, end, depth)
    if type == _VARIANT:
        return _variant(data, offset, end, depth)
    if type == _DIAGNOSTIC_INFO:
        return None, skip_diagnostic(data, offset, end)
    raise DecodeError(f"{type} is not a built-in type")


def _variant(data: bytes, offset: int, end: int, depth: int) -> tuple[Any, int]:
    found = decode_variant(data, offset, end, functools.partial(decode_other, depth=depth + 1))
    return _jsonable(found.value), found.end


def _data_value(data: bytes, offset: int, end: int, depth: int) -> tuple[Any, int]:
    """Value and status; its timestamps are dropped."""
    if offset >= end or data[offset] >= len(TAILS):
        raise DecodeError("the mask of a DataValue is wrong")
    mask, value = data[offset], None
    offset += 1
    if mask & VALUE:
        value, offset = _variant(data, offset, end, depth)
    tail, status, _, _ = TAILS[mask]
    if offset + tail.size > end:
        raise DecodeError("the message ends inside a DataValue")
    return {"value": value, "status": (*tail.unpack_from(data, offset), 0)[status]}, offset + tail.size


def _node_id(data: bytes, offset: int, end: int) -> tuple[str, int]:
    """A node id's text form (Part 6, 5.2.2.9 and 5.3.1.10)."""
    if offset >= end:
        raise DecodeError("the message ends before a node id")
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
        text = f"s={raw.decode('utf-8', 'backslashreplace')}" if kind == 3 else f"b={base64.b64encode(raw).decode()}"
    prefix = f"ns={namespace};" if namespace else ""
    if flags & 0x80:
        uri, offset = read_bytes(data, offset, end)
        prefix = f"nsu={(uri or b'').decode('utf-8', 'backslashreplace')};"
    if flags & 0x40:
        if offset + 4 > end:
            raise DecodeError("the message ends inside a node id")
        prefix = f"svr={struct.unpack_from('<I', data, offset)[0]};{prefix}"
        offset += 4
    return prefix + text, offset


def _extension_object(data: bytes, offset: int, end: int) -> tuple[Any, int]:
    """A structure as a dict of its fields where we know them, else its type and its bytes (Part 6, 5.2.2.15)."""
    type_id, offset = _node_id(data, offset, end)
    if offset >= end:
        raise DecodeError("the message ends inside a structure")
    encoding = data[offset]
    offset += 1
    if encoding == 0:
        return (None if type_id == "i=0" else {"type": type_id}), offset
    if encoding not in (1, 2):
        raise DecodeError(f"encoding {encoding:#x} of a structure")
    body, offset = read_bytes(data, offset, end)
    known = ua.extension_objects_by_typeid.get(ua.NodeId.from_string(type_id)) if type_id.startswith("i=") else None
    if encoding == 2 or body is None or known is None or not _flat(known):
        return {"type": type_id, "body": base64.b64encode(body or b"").decode()}, offset
    try:
        return _jsonable(struct_from_binary(known, Buffer(body))), offset
    except (UaError, struct.error, ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise DecodeError(f"a structure {known.__name__} cannot be decoded: {error!r}") from error


@functools.cache
def _flat(cls: type) -> bool:
    """Whether a structure holds nothing but values whose size the body's length bounds."""
    fields = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    for field in fields:
        for name in re.findall(r"\w+", str(field.type)):
            inner = getattr(ua, name, None)
            if name in ("Variant", "DataValue", "ExtensionObject", "DiagnosticInfo", "Any") or inner is cls:
                return False
            if dataclasses.is_dataclass(inner) and isinstance(inner, type) and not _flat(inner):
                return False
    return bool(fields)


_ATOMS: Final = (str, bool, int, float, type(None))


def _jsonable(value: Any) -> Any:  # noqa: PLR0911 - one line per kind of value
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, ua.NodeId):
        return value.to_string()
    if isinstance(value, ua.LocalizedText):
        return value.Text
    if isinstance(value, ua.StatusCode):
        return value.value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return value
    if isinstance(value, _ATOMS):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=None).isoformat() + "Z"
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, list | tuple):
        return [_jsonable(element) for element in value]
    if dataclasses.is_dataclass(value):
        return {field.name: _jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    raise DecodeError(f"a value of the type {type(value).__name__} has no JSON form")
