"""What every data file begins with, so that it can be read on its own (docs/log-format.md, Preamble)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from gateway.log import codec
from gateway.log.origins import Left
from gateway.log.records import DeviceRecord, PointRecord, Series, StreamRecord

Definition = StreamRecord | DeviceRecord | PointRecord
DefinitionKey = tuple[str, ...] | tuple[str, str, int]
_DEFINITIONS: Final[dict[str, type[Definition]]] = {
    "stream": StreamRecord,
    "device": DeviceRecord,
    "point": PointRecord,
}
_NAMES: Final = {kind: name for name, kind in _DEFINITIONS.items()}


@dataclass(slots=True)
class Preamble:
    """What makes a data file readable on its own. The vectors speak of the moment before its first position."""

    log: str
    identity: str
    first: int
    created: int
    """ns since the epoch"""
    last_commit: int | None
    next_n: dict[Series, int] = field(default_factory=dict)
    last_time: dict[Series, int] = field(default_factory=dict)
    records: dict[DefinitionKey, Definition] = field(default_factory=dict)
    """latest form of every stream, device and point record"""
    open_gaps: dict[str, dict[str, Any]] = field(default_factory=dict)
    """bodies of the gap events that have no end yet, by gap id"""
    left: Left = field(default_factory=Left)
    """what adapters want to be told after a crash"""

    def encode(self) -> tuple[bytes, bytes]:
        """Head and body of the preamble's row."""
        document = {
            "format": codec.FORMAT,
            "log": self.log,
            "identity": self.identity,
            "first": self.first,
            "created": self.created,
            "last_commit": self.last_commit,
            "next_n": [[*series, n] for series, n in self.next_n.items()],
            "last_time": [[*series, time] for series, time in self.last_time.items()],
            "records": [[_NAMES[type(r)], codec.definition_json(r)] for r in self.records.values()],
            "open_gaps": list(self.open_gaps.values()),
            **self.left.to_json(),
        }
        return codec.encode_document(document, self.first, self.created)

    @classmethod
    def decode(cls, head: bytes, body: bytes, first: int) -> Preamble:
        """The preamble of the file that begins at `first`. Raises LogCorruptError or LogFormatError."""
        found = codec.decode_document(head, body, first)
        records = (codec.definition_from_json(_DEFINITIONS[kind], fields) for kind, fields in found["records"])
        return cls(
            log=found["log"],
            identity=found["identity"],
            first=found["first"],
            created=found["created"],
            last_commit=found["last_commit"],
            next_n=next_of(found),
            last_time={Series(stream, device): time for stream, device, time in found["last_time"]},
            records={definition_key(record): record for record in records},
            open_gaps={body["id"]: body for body in found.get("open_gaps", [])},
            left=Left.from_json(found),
        )


def definition_key(record: Definition) -> DefinitionKey:
    """What a later form of the record replaces."""
    match record:
        case StreamRecord():
            return ("stream", record.stream)
        case DeviceRecord():
            return ("device", record.device)
        case PointRecord():
            return ("point", record.device, record.index)


def next_of(document: dict[str, Any]) -> dict[Series, int]:
    """The vector of next offsets in a preamble's document."""
    return {Series(stream, device): n for stream, device, n in document["next_n"]}
