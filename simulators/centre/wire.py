"""Messages as they arrive: decompression, both reading formats, times. Pure; written from docs/schemas/ alone."""

from __future__ import annotations

import calendar
import gzip
import re
import zlib
from dataclasses import dataclass
from itertools import repeat
from typing import Any, TypeVar

import orjson
import zstandard

T = TypeVar("T")

MAX_MESSAGE = 64 * 2**20
"""bytes after decompression"""

BASIS = {"source": 0, "server": 1, "gateway": 2}
FLAGS = {"backfilled": 1, "overflow": 2, "initial": 4, "maintenance": 8, "wrapped": 16, "reset": 32}
QUALITIES = ("good", "uncertain", "bad", "bad")
"""By the top two bits of a status code"""

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?Z")
_PLAIN = {int, float, bool, type(None)}


class WireError(Exception):
    """A message that cannot be taken; `kind` is what it is counted under."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


@dataclass(slots=True)
class Readings:
    """The readings of one message as equally long columns; offset of the k-th is `n + k`."""

    enterprise: str
    gateway: str
    stream: str
    device: str
    n: int | None
    """None in an image"""
    lane: str
    catalogue: int
    points: list[tuple[str, str | None]]
    """(point name, identifier)"""
    indexes: list[int]
    """point indexes, in place of `points`, in columns"""
    times: list[int]
    """ns since the epoch"""
    values: list[str]
    """JSON texts"""
    status: list[int]
    basis: list[int]
    flags: list[int]
    originals: list[str | None]
    """times that came with readings and are not theirs, as text: they may lie outside of what ns can count"""


def decompress(payload: bytes, encoding: str | None = None) -> bytes:
    """The plain payload; `encoding` (gzip, zstd) as the message says, else recognised by its first bytes."""
    if encoding in (None, "", "none", "identity"):
        encoding = "gzip" if payload[:2] == _GZIP else "zstd" if payload[:4] == _ZSTD else "identity"
    try:
        if encoding == "gzip":
            return gzip.decompress(payload)
        if encoding == "zstd":
            return zstandard.ZstdDecompressor().decompressobj().decompress(payload)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise WireError("encoding", f"not {encoding}: {error}") from None
    if encoding != "identity":
        raise WireError("encoding", f"unknown content encoding {encoding!r}")
    return payload


def parse(payload: bytes) -> dict[str, Any]:
    """The JSON object in a plain payload."""
    try:
        message = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise WireError("json", str(error)) from None
    if not isinstance(message, dict):
        raise WireError("json", "not an object")
    return message


def parse_time(text: str) -> int:
    """ns since the epoch of a UTC time with up to nine fraction digits."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise WireError("time", f"not a UTC time: {text!r}")
    *whole, fraction = match.groups()
    seconds = calendar.timegm((*map(int, whole), 0, 0, 0))
    return seconds * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))


def decode(message: dict[str, Any]) -> Readings:
    """The readings of a valid message of readings, or of an image. Raises WireError where its parts disagree."""
    readings = _decode_objects(message) if "readings" in message else _decode_columns(message)
    lengths = {len(readings.points or readings.indexes)}
    lengths |= {len(c) for c in (readings.times, readings.values, readings.status, readings.basis, readings.flags)}
    lengths.add(len(readings.originals))
    if lengths != {message["count"]}:
        raise WireError("count", f"count is {message['count']}, columns have {sorted(lengths)}")
    return readings


def _decode_objects(message: dict[str, Any]) -> Readings:
    rows = message["readings"]
    usual = message.get("basis", "source")
    status = [int(row.get("s", "0x0"), 16) for row in rows]
    for row, code in zip(rows, status, strict=True):
        if row["q"] != QUALITIES[code >> 30]:
            raise WireError("quality", f"point {row['p']}: quality {row['q']} with status 0x{code:08X}")
    return _readings(
        message,
        points=[(row["p"], row["id"]) for row in rows],
        indexes=[],
        times=_parse_times([row["t"] for row in rows]),
        values=value_texts([row["v"] for row in rows]),
        status=status,
        basis=[BASIS[row.get("basis", usual)] for row in rows],
        flags=[sum(FLAGS.get(word, 0) for word in row["flags"]) if "flags" in row else 0 for row in rows],
        originals=[row.get("ot") for row in rows],
    )


def _decode_columns(message: dict[str, Any]) -> Readings:
    count = message["count"]
    start = parse_time(message["t0"])
    return _readings(
        message,
        points=[],
        indexes=message["points"],
        times=[start + dt for dt in _column(message["dt"], count)],
        values=value_texts(message["v"]),
        status=_column(message.get("s", 0), count),
        basis=_column(message.get("basis", 0), count),
        flags=_column(message.get("flags", 0), count),
        originals=_column(message.get("ot"), count),
    )


def _readings(message: dict[str, Any], **columns: Any) -> Readings:
    keys = ("enterprise", "gateway", "stream", "device", "lane", "catalogue")
    return Readings(**{key: message[key] for key in keys}, n=message.get("n"), **columns)


def _column(content: T | list[T], count: int) -> list[T]:
    return content if isinstance(content, list) else list(repeat(content, count))


def _parse_times(texts: list[str]) -> list[int]:
    known = {text: parse_time(text) for text in set(texts)}  # one scan has one time
    return [known[text] for text in texts]


def value_texts(values: list[Any]) -> list[str]:
    """Each value's JSON text."""
    if set(map(type, values)) <= _PLAIN:
        return orjson.dumps(values)[1:-1].decode().split(",") if values else []
    return [orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode() for value in values]
