"""Pieces of JSON text made from whole columns: timestamps and values. Pure."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from gateway.contract.batch import NO_TIME, ValueType
from gateway.rfc3339 import rfc3339, second_text

NULL = b"null"
SECOND_NS = 1_000_000_000
_NS_TICKS = 2**63 // 100
"""how far int64 ns reach from 1970, in 100 ns"""

_FLOATS = (ValueType.FLOAT32, ValueType.FLOAT64)
_OBJECTS = (ValueType.STRING, ValueType.BYTES, ValueType.JSON)
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1
_PLAIN = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS


def time_fragments(times: npt.NDArray[np.int64]) -> list[bytes]:
    """RFC 3339 text of int64[n] ns since the epoch, without the closing Z; one element per time."""
    first = times[0]
    if len(times) > 1 and (times == first).all():
        return _times_text(times[:1]) * len(times)
    return _times_text(times)


def original_fragments(times: npt.NDArray[np.int64]) -> list[bytes]:
    """JSON text of int64[n] original times (`Batch.original_time`): RFC 3339, null where there is none."""
    distinct, inverse = np.unique(times, return_inverse=True)
    within = slice(*np.searchsorted(distinct, (-_NS_TICKS, _NS_TICKS)).tolist())
    texts = [
        NULL if time == NO_TIME else b'"%s"' % rfc3339(100 * time).encode()
        for time in distinct[: within.start].tolist()
    ]
    if within.start < within.stop:
        texts += [b'"%sZ"' % text for text in time_fragments(100 * distinct[within])]
    texts += [b'"%s"' % rfc3339(100 * time).encode() for time in distinct[within.stop :].tolist()]
    return [texts[k] for k in inverse.tolist()]


def value_fragments(type: ValueType, values: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> list[bytes]:
    """JSON text of each value: null where not valid, NaN and infinities as strings, bytes as base64.

    Float32 is printed as the shortest text that reads back as the same float32; 64-bit integers are exact.
    """
    if type in _OBJECTS:
        encode = _ENCODERS[type]
        return [encode(value) if ok else NULL for value, ok in zip(values.tolist(), valid.tolist(), strict=True)]
    text = orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    if type in _FLOATS:
        for k in np.flatnonzero(~np.isfinite(values)).tolist():
            text[k] = _not_finite(float(values[k]))
    if not valid.all():
        for k in np.flatnonzero(~valid).tolist():
            text[k] = NULL
    return text


def value_block(type: ValueType, values: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> bytes:
    """The same as one text with commas between, without brackets."""
    nulls = valid.tobytes().count(0)
    text: bytes | None
    if type in _FLOATS:
        written = np.where(valid, values, values.dtype.type(math.nan)) if nulls else values
        text = orjson.dumps(written, option=orjson.OPT_SERIALIZE_NUMPY)
    elif nulls or type in _OBJECTS:
        found = values.tolist()
        for k in np.flatnonzero(~valid).tolist() if nulls else ():
            found[k] = None
        text = _dumped(found)
    else:
        text = orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)
    # orjson writes null for what is not finite too; a text that says null takes the long way as well.
    if text is not None and text.count(b"null") == nulls:
        return text[1:-1]
    return b",".join(value_fragments(type, values, valid))


def integer_block(column: npt.NDArray[Any]) -> bytes:
    """JSON text of an integer column with commas between, without brackets."""
    return orjson.dumps(column, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]


def text_fragment(text: str | None) -> bytes:
    """JSON text of a string; what UTF-8 cannot carry (lone surrogates) becomes "?"."""
    try:
        return orjson.dumps(text)
    except TypeError:
        return orjson.dumps(str(text).encode("utf-8", "replace").decode())


def _not_finite(value: float) -> bytes:
    if math.isnan(value):
        return b'"NaN"'
    return b'"Infinity"' if value > 0 else b'"-Infinity"'


def _bytes_fragment(value: bytes) -> bytes:
    return b'"' + base64.b64encode(value) + b'"'


def _json_fragment(value: Any) -> bytes:
    text = _plain(value)
    return orjson.dumps(_jsonable(value)) if text is None else text


def _plain(value: Any) -> bytes | None:
    """JSON text of a value that needs nothing of `_jsonable`; None where it may: orjson writes null for what is not
    finite, and refuses the rest. A text that merely says null takes the long way.
    """
    text = _dumped(value)
    return None if text is None or b"null" in text else text


def _dumped(value: Any) -> bytes | None:
    """What orjson makes of a value; None where it refuses."""
    try:
        return orjson.dumps(value, option=_PLAIN)
    except TypeError:
        return None


def _jsonable(value: Any) -> Any:  # noqa: PLR0911  one line per kind of value
    """What orjson would drop or refuse, made explicit: not finite, bytes, big integers, odd keys and strings."""
    match value:
        case None | bool():
            return value
        case float() | np.floating():
            number = float(value)
            return number if math.isfinite(number) else orjson.loads(_not_finite(number))
        case int() | np.integer():
            return int(value) if _INT64_MIN <= value <= _UINT64_MAX else str(value)
        case str():
            return orjson.loads(text_fragment(value))
        case bytes() | bytearray():
            return base64.b64encode(value).decode()
        case dict():
            return {_jsonable(str(key)): _jsonable(item) for key, item in value.items()}
        case list() | tuple():
            return [_jsonable(item) for item in value]
        case np.ndarray():
            return [_jsonable(item) for item in value.tolist()]
        case _:
            return str(value)


_ENCODERS: dict[ValueType, Callable[[Any], bytes]] = {
    ValueType.STRING: text_fragment,
    ValueType.BYTES: _bytes_fragment,
    ValueType.JSON: _json_fragment,
}


def _digit_groups() -> npt.NDArray[np.uint8]:
    """Rows 0..999: three digits; rows 1000..1999: the same with trailing zeros as NUL, which numpy strips."""
    plain = [f"{k:03}".encode() for k in range(1000)]
    trimmed = [group.rstrip(b"0").ljust(3, b"\0") for group in plain]
    return np.frombuffer(b"".join(plain + trimmed), np.uint8).reshape(2000, 3)


_GROUPS = _digit_groups()
_SECONDS_WIDTH = 19  # 2026-11-20T08:00:00
_WIDTH = _SECONDS_WIDTH + 1 + 9


def _times_text(times: npt.NDArray[np.int64]) -> list[bytes]:
    seconds, ns = np.divmod(times, SECOND_NS)
    text = np.zeros((len(times), _WIDTH), np.uint8)
    text[:, :_SECONDS_WIDTH] = _seconds_text(seconds)
    if ns.any():
        thousands, nanos = np.divmod(ns, 1000)
        millis, micros = np.divmod(thousands, 1000)
        text[:, _SECONDS_WIDTH] = np.where(ns != 0, ord("."), 0)
        text[:, 20:23] = _GROUPS[millis + 1000 * ((micros == 0) & (nanos == 0))]
        text[:, 23:26] = _GROUPS[micros + 1000 * (nanos == 0)]
        text[:, 26:29] = _GROUPS[nanos + 1000]
    fragments: list[bytes] = text.view(f"S{_WIDTH}").ravel().tolist()
    return fragments


def _seconds_text(seconds: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """uint8[n, 19] or uint8[1, 19] when all are equal."""
    if (seconds == seconds[0]).all():
        return _join_seconds([int(seconds[0])])
    distinct, inverse = np.unique(seconds, return_inverse=True)
    return _join_seconds(distinct.tolist())[inverse]


def _join_seconds(seconds: Sequence[int]) -> npt.NDArray[np.uint8]:
    text = b"".join(map(second_text, seconds))
    return np.frombuffer(text, np.uint8).reshape(len(seconds), _SECONDS_WIDTH)
