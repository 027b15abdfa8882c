"""Values that only asyncua can decode: structures, node ids, variants in variants. Slow, and rare on the data path."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import enum
import struct
import uuid
from typing import Any

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import variant_from_binary
from asyncua.ua.uaerrors import UaError

from adapters.opcua.variant import DecodeError


def decode_other(data: bytes, offset: int, end: int) -> tuple[Any, int]:
    """See `variant.OtherVariant`."""
    # A copy, because asyncua takes what follows a structure without a length for its body.
    buffer = Buffer(data[offset:end])
    try:
        variant = variant_from_binary(buffer)
        value = _jsonable(variant.Value)
    except (UaError, struct.error, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise DecodeError(f"a value cannot be decoded: {error!r}") from error
    except RecursionError as error:
        raise DecodeError("a value is nested too deeply") from error
    return value, end - len(buffer)


_ATOMS = (str, bool, int, float, type(None))


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
