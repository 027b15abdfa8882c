"""What adapters left for the process after a crash: their notes, and where the log has got to in each subscription.

The origins are in the batches' payloads too; a start reads them from the segments' heads, so that it need not decode
what it only checks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.contract.adapter import Origin, Remembered
from gateway.log.columns import Reader
from gateway.log.errors import LogCorruptError
from gateway.log.records import BatchRecord, NoteRecord, Record, SeriesHead

MOST_ORIGINS: Final = 1000
"""of one device; an adapter that makes subscriptions without a note must not fill memory"""
_COUNT: Final = struct.Struct("<H")
_ROW: Final = struct.Struct("<IHQQ")


Newest = Mapping[tuple[str, str, int], int]
"""the last sequence number by device, server and subscription"""


@dataclass(slots=True)
class Left:
    """What the log would tell the process after this one, brought up to date segment by segment."""

    notes: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """by device"""
    origins: dict[str, dict[tuple[str, int], int]] = field(default_factory=dict)
    """newest sequence number by device, server and subscription; of devices with a note alone, and since that note"""

    def learn(self, records: Iterable[Record], newest: Newest) -> None:
        """Take over a segment's notes and what `newest_origins` says of it."""
        for record in records:
            if isinstance(record, NoteRecord):
                self.notes[record.device] = record.note
                self.origins[record.device] = {}
        for (device, server, subscription), sequence in newest.items():
            if (known := self.origins.get(device)) is not None:
                known[server, subscription] = sequence
                if len(known) > MOST_ORIGINS:
                    del known[next(iter(known))]

    def remembered(self) -> dict[str, Remembered]:
        """For each device with a note."""
        return {
            device: Remembered(note, tuple(Origin(*key, sequence) for key, sequence in self.origins[device].items()))
            for device, note in self.notes.items()
        }

    def copy(self) -> Left:
        """One that goes its own way."""
        return Left(dict(self.notes), {device: dict(known) for device, known in self.origins.items()})

    def to_json(self) -> dict[str, Any]:
        """The keys of a preamble."""
        rows = [[device, *key, n] for device, known in self.origins.items() for key, n in known.items()]
        return {"notes": self.notes, "origins": rows}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Left:
        """From a preamble; one that an earlier version wrote has neither key."""
        left = cls(dict(found.get("notes", {})))
        left.origins = {device: {} for device in left.notes}
        for device, server, subscription, sequence in found.get("origins", []):
            left.origins[device][server, subscription] = sequence
        return left


def newest_origins(records: Iterable[Record]) -> Newest:
    """The last origin of each subscription in a segment; what comes before a note of its device is not counted."""
    found: dict[tuple[str, str, int], int] = {}
    for record in records:
        if isinstance(record, BatchRecord):
            if record.origin is not None:
                server, subscription, sequence = record.origin
                found[record.batch.device, server, subscription] = sequence
        elif isinstance(record, NoteRecord):
            found = {key: sequence for key, sequence in found.items() if key[0] != record.device}
    return found


def pack_origins(newest: Newest, heads: Sequence[SeriesHead]) -> bytes:
    """The end of a segment's head, after its series; nothing where there are no origins."""
    if not newest:
        return b""
    series = {head.series.device: index for index, head in enumerate(heads)}
    servers: dict[str, int] = {}
    rows = [
        _ROW.pack(series[device], servers.setdefault(server, len(servers)), subscription, sequence)
        for (device, server, subscription), sequence in newest.items()
    ]
    parts = [_COUNT.pack(len(servers))]
    for text in map(str.encode, servers):
        parts += (_COUNT.pack(len(text)), text)
    return b"".join((*parts, *rows))


def read_origins(packed: bytes, heads: Sequence[SeriesHead]) -> Newest:
    """What `pack_origins` wrote; a head that ends before it has none. Raises LogCorruptError."""
    if not packed:
        return {}
    reader = Reader(packed)
    servers = [reader.take(reader.unpack(_COUNT)[0]).decode() for _ in range(reader.unpack(_COUNT)[0])]
    rows = packed[reader.offset :]
    if len(rows) % _ROW.size:
        raise LogCorruptError(f"origins of {_ROW.size} bytes each expected, found {len(rows)} bytes")
    return {
        (heads[series].series.device, servers[server], subscription): sequence
        for series, server, subscription, sequence in _ROW.iter_unpack(rows)
    }
