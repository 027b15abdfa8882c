"""What must hold for any bytes in place of a PublishResponse or a ReadResponse, and bytes to begin with."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import math
import signal
import struct
import time
import tracemalloc
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from adapters.opcua.decoding import layouts
from adapters.opcua.decoding.batches import BatchBuilder, Moment
from adapters.opcua.decoding.decode import Items, decode_items, decode_values
from adapters.opcua.decoding.envelope import READ_RESPONSE, read_header, read_publish
from adapters.opcua.decoding.fallback import decode_other
from adapters.opcua.decoding.variant import DecodeError, format_guid, format_ticks
from gateway.contract.status import BAD_DECODING_ERROR

CORPUS: Final = Path(__file__).parents[1] / "cases" / "opcua" / "corpus"
SHORT: Final = 100
SLOWEST_S: Final = 0.05
"""for SHORT bytes; longer ones in proportion"""
MOST_MEMORY: Final = 20_000_000
_PATIENCE_S: Final = 2.0
_TICKS_9999: Final = 2_650_467_743_990_000_000


class FindingError(AssertionError):
    """Bytes for which the decoder does not do what it promises."""


def wrap(body: bytes) -> bytes:
    """A PublishResponse with one DataChangeNotification of this body."""
    header = struct.pack("<BBH qIIB i BBB", 1, 0, 829, 0, 1, 0, 0, -1, 0, 0, 0)
    message = struct.pack("<IiB Iqi BBHBi", 7, -1, 0, 1, 0, 1, 1, 0, 811, 1, len(body)) + body
    return header + message + struct.pack("<ii", -1, -1)


def notification(items: list[bytes]) -> bytes:
    """A PublishResponse with these items."""
    return wrap(struct.pack("<i", len(items)) + b"".join(items) + struct.pack("<i", -1))


def read_response(values: list[bytes]) -> bytes:
    """A ReadResponse with these DataValues."""
    header = struct.pack("<BBH qIIB i BBB", 1, 0, READ_RESPONSE, 0, 1, 0, 0, -1, 0, 0, 0)
    return header + struct.pack("<i", len(values)) + b"".join(values) + struct.pack("<i", -1)


def is_read(data: bytes) -> bool:
    """Whether the bytes say that they are a ReadResponse; everything else is taken for a PublishResponse."""
    return data[:4] == struct.pack("<BBH", 1, 0, READ_RESPONSE)


def check(data: bytes, *, memory: bool = False) -> str:
    """Decode, hold the result to asyncua's, and return what came out in short. Raises FindingError."""
    outcome, rows = _measured(data, memory)
    if rows is not None:
        wanted = by_asyncua(data)
        if wanted is not None:
            compare(rows, wanted)
    return outcome


def _measured(data: bytes, memory: bool) -> tuple[str, list[Items] | None]:
    limit = SLOWEST_S * max(1.0, len(data) / SHORT)
    for attempt in range(3):  # others may have used the core
        start = time.thread_time()
        result = decode(data)
        spent = time.thread_time() - start
        if spent <= limit:
            break
        if attempt == 2:
            raise FindingError(f"{len(data)} bytes took {spent:.3f} s")
    if memory:
        tracemalloc.start()
        try:
            decode(data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        if peak > MOST_MEMORY * max(1.0, len(data) / SHORT):
            raise FindingError(f"{len(data)} bytes took {peak} bytes of memory")
    return result


def decode(data: bytes) -> tuple[str, list[Items] | None]:
    """What came out in short, and the items where there are any. Raises FindingError for any error but DecodeError."""
    try:
        if is_read(data):
            _, start = read_header(data, READ_RESPONSE, "ReadResponse")
            if start is None:
                return "fault", None
            count = int.from_bytes(data[start : start + 4], "little", signed=True)
            handles = np.arange(min(max(count, 0), len(data)), dtype=np.uint32)
            items = decode_values(data, start, handles, decode_other)
        else:
            published = read_publish(data)
            if published.message is None:
                return "fault", None
            if len(published.message.data_changes) != 1:
                return f"{len(published.message.data_changes)} notifications", None
            start, end = published.message.data_changes[0]
            items = decode_items(data, start, end, decode_other)
        if items:
            handles = {int(handle): 0 for part in items for handle in part.handles[:1] if handle < 1 << 16}
            BatchBuilder("fuzz", handles or {0: 0}, "trust", 0).build(items, Moment(1, 1))
        for part in items:
            if part.type in layouts.FIXED and not part.array:
                continue
            values = [value.hex() if isinstance(value, bytes) else value for value in part.values.tolist()]
            json.dumps(values)
    except DecodeError as error:
        return "refused: " + "".join(c for c in str(error)[:60] if not c.isdigit()), None
    except Exception as error:
        raise FindingError(f"{type(error).__name__}: {error}") from error
    kinds = sorted({(part.type, part.array, bool((part.status == BAD_DECODING_ERROR).any())) for part in items})
    return f"{kinds} {_shape(items)}", items


def _shape(items: list[Items]) -> list[str]:
    """What the first value of each rarer type looks like."""

    def sketch(value: Any, depth: int = 0) -> str:
        if isinstance(value, dict):
            return "{" + ",".join(value if depth else (f"{k}{sketch(v, depth + 1)}" for k, v in value.items())) + "}"
        if isinstance(value, list):
            return "[" + (sketch(value[0], depth + 1) if value and depth < 4 else "") + "]"
        return type(value).__name__[0]

    return sorted({sketch(part.values[0]) for part in items if part.array or part.type > layouts.LOCALIZED_TEXT})


class _ImpatientError(Exception):
    pass


class _StrictBuffer(Buffer):
    """asyncua's, which steps back at negative lengths other than -1: there it has no right reading."""

    def read(self, size: int) -> bytes:
        if size < 0:
            raise ValueError(size)
        return super().read(size)

    def copy(self, size: int = -1) -> Buffer:
        return _StrictBuffer(self._data, self._cur_pos, self._size if size == -1 or size > self._size else size)


def by_asyncua(data: bytes) -> list[tuple[int, Any]] | None:
    """(handle, DataValue) as asyncua reads them; None where it fails or takes too long: it trusts every count."""

    def stop(*_: Any) -> None:
        raise _ImpatientError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE_S)
    try:
        if is_read(data):
            return list(enumerate(struct_from_binary(ua.ReadResponse, _StrictBuffer(data)).Results))
        answer = struct_from_binary(ua.PublishResponse, _StrictBuffer(data))
        (change,) = answer.Parameters.NotificationMessage.NotificationData
        return [(item.ClientHandle, item.Value) for item in change.MonitoredItems]
    except Exception:  # noqa: BLE001 - asyncua raises anything at all; there is nothing to compare then
        return None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def compare(found: list[Items], wanted: list[tuple[int, Any]]) -> None:
    """Hold items to what asyncua reads. Raises FindingError."""
    rows = sorted(_rows(found), key=lambda row: row[0])
    # A body of length -1 asyncua decodes from what follows it, as old servers meant it; a body in XML it does not skip.
    rare = [json.dumps(row[4]) for row in rows if row[2] >= layouts.EXTENSION_OBJECT]
    if any('"body": ""' in text or '"xml": ' in text for text in rare):
        return
    # It takes diagnostics within diagnostics for a structure (against Part 6, 5.2.2.12), and is lost from there on.
    if any('"inner": ' in text for text in rare):
        return
    # asyncua expects both picoseconds fields after both timestamps, against Part 6, 5.2.2.17: from there on it is lost.
    if any(value.SourcePicoseconds is not None and value.ServerTimestamp is not None for _, value in wanted):
        return
    if len(rows) != len(wanted):
        raise FindingError(f"{len(rows)} items, asyncua reads {len(wanted)}")
    for (_, handle, type, array, value, status, source, server), (their_handle, theirs) in zip(
        rows, wanted, strict=True
    ):
        where = f"item {handle} of type {type}"
        _equal(handle, int(their_handle), f"{where}: handle")
        if status == BAD_DECODING_ERROR:
            continue
        _equal(status, 0 if theirs.StatusCode is None else int(theirs.StatusCode.value), f"{where}: status")
        _equal_time(source, theirs.SourceTimestamp, f"{where}: source time")
        _equal_time(server, theirs.ServerTimestamp, f"{where}: server time")
        variant = theirs.Value
        content = None if variant is None else variant.Value
        if type == layouts.NULL:
            if content is not None and not _empty(content):
                raise FindingError(f"{where}: no value, asyncua reads {content!r}")
            continue
        if type > layouts.DIAGNOSTIC_INFO:
            continue
        _equal(type, variant.VariantType.value, f"{where}: type")
        _equal(array, bool(variant.is_array), f"{where}: array")
        if not _same(value, _flat(content) if variant.Dimensions else content, bool(variant.Dimensions)):
            raise FindingError(f"{where}: {value!r}, asyncua reads {content!r}")


def _rows(found: list[Items]) -> Iterator[tuple[int, int, int, bool, Any, int, int, int]]:
    for items in found:
        values = [None] * len(items) if items.type == layouts.NULL else items.values.tolist()
        if not items.array and items.type == layouts.GUID:
            values = [format_guid(raw.tobytes()) for raw in items.values]
        if not items.array and items.type == layouts.DATETIME:
            values = [format_ticks(ticks) for ticks in values]
        columns = (items.order, items.handles, items.status, items.source, items.server)
        orders, handles, statuses, sources, servers = (column.tolist() for column in columns)
        for row, value in enumerate(values):
            yield (
                orders[row], handles[row], items.type, items.array, value, statuses[row], sources[row], servers[row],
            )  # fmt: skip


def _equal(ours: Any, theirs: Any, what: str) -> None:
    if ours != theirs:
        raise FindingError(f"{what}: {ours!r}, asyncua reads {theirs!r}")


def _equal_time(ticks: int, time: datetime.datetime | None, what: str) -> None:
    if time is None:
        _equal(ticks, 0, what)
    elif 0 < ticks < _TICKS_9999 and not _same_time(format_ticks(ticks), time):
        raise FindingError(f"{what}: {ticks}, asyncua reads {time}")


def _same_time(text: str, time: datetime.datetime) -> bool:
    # asyncua counts in floats: the last microsecond may differ
    ours = datetime.datetime.fromisoformat(text[:26])
    return abs((ours - time.replace(tzinfo=None)).total_seconds()) < 0.001


def _empty(content: Any) -> bool:
    if isinstance(content, ua.LocalizedText):
        return content.Text is None
    if isinstance(content, ua.QualifiedName):
        return content.Name is None
    if isinstance(content, ua.XmlElement):
        return content.Value is None
    return content == [] or isinstance(content, ua.ExtensionObject)


def _flat(value: Any) -> list[Any]:
    if not isinstance(value, list):
        return [value]
    return [element for part in value for element in _flat(part)]


def _text(value: str) -> str:
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _same(ours: Any, theirs: Any, flat: bool = False) -> bool:  # noqa: PLR0911, PLR0912 - one line per kind of value
    """Whether ours is the JSON form of theirs; what asyncua has no right reading of is taken as it is."""
    if isinstance(ours, dict) and "type" in ours and ("body" in ours or "xml" in ours):
        return True  # opaque
    if flat:
        ours = _flat(ours)
        # asyncua fills a matrix up with empty lists
        return len(ours) != len(theirs) or all(map(_same, ours, theirs))
    match theirs:
        case ua.Variant():
            return ours is None or _same(ours, _flat(theirs.Value) if theirs.Dimensions else theirs.Value,
                                         bool(theirs.Dimensions))  # fmt: skip
        case ua.LocalizedText():
            return _same(ours, theirs.Text)
        case ua.QualifiedName():
            return _same(ours, theirs.Name)
        case ua.ExpandedNodeId() if theirs.NamespaceUri is not None or theirs.ServerIndex:
            return True
        case ua.NodeId():
            return isinstance(theirs.Identifier, bytes) or _same(ours, theirs.to_string()) or "g=" in str(ours)
        case ua.StatusCode():
            return bool(ours == theirs.value)
        case ua.DataValue():
            return isinstance(ours, dict) and (theirs.Value is None or _same(ours["value"], theirs.Value))
        case ua.DiagnosticInfo() | ua.ExtensionObject():
            return True
        case enum.Enum():
            return bool(ours == theirs.value)
        case uuid.UUID():
            return bool(ours == str(theirs))
        case datetime.datetime():
            return len(ours) != 28 or not "1601-01-02" < ours < "9999" or _same_time(ours, theirs)
        case str():
            return bool(ours == _text(theirs))
        case bytes():
            return ours == theirs or isinstance(ours, str)
        case float():
            return isinstance(ours, float) and (ours == theirs or (math.isnan(ours) and math.isnan(theirs)))
        case bool() | None:
            return ours is theirs or (ours is None and theirs is None)
        case int():
            return bool(ours == theirs) and not isinstance(ours, bool)
        case list():
            return isinstance(ours, list) and len(ours) == len(theirs) and all(map(_same, ours, theirs))
    if dataclasses.is_dataclass(theirs) and isinstance(ours, dict):
        names = [field.name for field in dataclasses.fields(theirs)]
        return list(ours) != names or all(_same(ours[name], getattr(theirs, name)) for name in names)
    return dataclasses.is_dataclass(theirs)


T = ua.VariantType
_TIME: Final = datetime.datetime(2026, 5, 6, 7, 8, 9)
_VALUES: Final[dict[ua.VariantType, list[Any]]] = {
    T.Boolean: [True, False],
    T.SByte: [-128, 5],
    T.Byte: [0, 255],
    T.Int16: [-32768, 1],
    T.UInt16: [65535, 1],
    T.Int32: [-(2**31), 3],
    T.UInt32: [2**32 - 1, 4],
    T.Int64: [-(2**63), 7],
    T.UInt64: [2**64 - 1, 8],
    T.Float: [math.nan, -math.inf],
    T.Double: [math.inf, 20.1],
    T.String: ["3 号锅炉", "", None],
    T.DateTime: [_TIME, datetime.datetime(1999, 1, 1)],
    T.Guid: [uuid.UUID(int=5), uuid.UUID(int=2**128 - 1)],
    T.ByteString: [b"\x00\xff", b"", None],
    T.XmlElement: [ua.XmlElement("<a/>"), ua.XmlElement("")],
    T.NodeId: [ua.NodeId(2258), ua.NodeId("Temp", 2), ua.NodeId(uuid.UUID(int=9), 3), ua.NodeId(b"ab", 4)],
    T.ExpandedNodeId: [ua.ExpandedNodeId("x", 1), ua.ExpandedNodeId(5, 0, NamespaceUri="urn:x", ServerIndex=3)],
    T.StatusCode: [ua.StatusCode(0x80310000), ua.StatusCode(0)],
    T.QualifiedName: [ua.QualifiedName("q", 3), ua.QualifiedName(None, 0)],
    T.LocalizedText: [ua.LocalizedText("锅炉", "zh-CN"), ua.LocalizedText()],
    T.ExtensionObject: [
        ua.Range(1.0, 2.0),
        ua.EUInformation(DisplayName=ua.LocalizedText("℃")),
        ua.Argument(Name="a", ArrayDimensions=[2, 3]),
        ua.ServerStatusDataType(_TIME, _TIME, BuildInfo=ua.BuildInfo(BuildDate=_TIME)),
        ua.KeyValuePair(Key=ua.QualifiedName("k"), Value=ua.Variant([1, 2], T.Int16)),
        ua.EnumDefinition(Fields=[ua.EnumField(Name="on"), ua.EnumField(Name="off")]),
        ua.ExtensionObject(ua.NodeId(7, 4), b"\x01\x02"),
    ],
    T.DataValue: [
        ua.DataValue(ua.Variant(1.5, T.Double), ua.StatusCode(0x40000000), datetime.datetime(2026, 1, 1)),
        ua.DataValue(),
    ],
}


def _item(handle: int, variant: ua.Variant, full: bool = False) -> bytes:
    value = (
        ua.DataValue(variant, ua.StatusCode(0x480), _TIME, _TIME) if full else ua.DataValue(variant, None)  # type: ignore[arg-type]
    )
    return struct_to_binary(ua.MonitoredItemNotification(handle, value))


def items() -> dict[str, list[bytes]]:
    """Encoded items of each built-in type: scalars, arrays, matrices, none; with and without status and times."""
    found: dict[str, list[bytes]] = {}
    for type, values in _VALUES.items():
        filled = [value for value in values if value is not None]
        variants = [ua.Variant(value, type) for value in values]
        arrays = [
            ua.Variant(values, type, is_array=True),
            ua.Variant([], type, is_array=True),
            ua.Variant(None, type, is_array=True),
            ua.Variant([[value, value] for value in filled[:2]] * 2, type, Dimensions=[len(filled[:2]) * 2, 2]),
        ]
        found[type.name] = [_item(n, variant, n % 2 == 1) for n, variant in enumerate(variants + arrays)]
    nested = ua.Variant([ua.Variant([1.5], T.Double), ua.Variant("a", T.String)], T.Variant)
    deeper = ua.Variant([nested, ua.Variant(ua.Range(1.0, 2.0), T.ExtensionObject)], T.Variant)
    found["Variant"] = [_item(1, nested), _item(2, deeper, True)]
    info = struct.pack("<BiiB", 0x51, 1, 2, ord("a")) + b"b" + struct.pack("<Bi", 0x08, 2)
    found["DiagnosticInfo"] = [
        struct.pack("<IBB", 1, 1, 25) + info,
        struct.pack("<IBBi", 2, 1, 0x80 | 25, 2) + info + b"\x00",
    ]
    found["Null"] = [_item(1, ua.Variant(None, T.Null)), struct.pack("<IBI", 3, 2, 0x80310000)]
    found["Pico"] = [struct.pack("<IBBdIqHqH", 1, 0x3F, 11, 2.5, 0, 1 << 57, 7, 1 << 57, 8)]
    return found


def seeds() -> dict[str, bytes]:
    """Names and messages: one PublishResponse per type, and mixtures; the same values as ReadResponses."""
    groups = items()
    flat = [item for encoded in groups.values() for item in encoded]
    groups["everything"] = flat
    groups["run"] = [_item(n, ua.Variant(float(n), T.Double)) for n in range(80)] + flat[:3]
    groups["uniform"] = groups["run"][:80]
    groups["texts"] = [_item(n, ua.Variant("x" * (n * 7), T.String), True) for n in range(40)]
    found = {name: notification(encoded) for name, encoded in groups.items()}
    return found | {f"read {name}": read_response(without_handles(encoded)) for name, encoded in groups.items()}


def without_handles(encoded: list[bytes]) -> list[bytes]:
    """The DataValues of encoded items."""
    return [item[layouts.HANDLE :] for item in encoded]
