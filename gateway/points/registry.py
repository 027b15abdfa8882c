"""The registry gives every configured point its permanent index, and a new one when what the index means changes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.contract.adapter import Point
from gateway.contract.batch import ValueType
from gateway.contract.config import DerivedPointConfig, PointConfig
from gateway.log.records import DeviceRecord, Labels, PointRecord, Record
from gateway.points.streams import Streams
from gateway.points.table import PointTable

log = logging.getLogger(__name__)

MOST_TYPES = 8
"""a source that goes to and fro between types would fill catalogue, memory and every file's preamble"""

ENUMERATION_BYTES = 16_000
"""most that one enumeration may take in a catalogue: a larger one could make an entry that no broker takes"""


@dataclass(frozen=True, slots=True)
class PointDefinition:
    """A point as the config wants it: its own keys plus what it inherits."""

    config: PointConfig | DerivedPointConfig
    labels: Labels
    id: str | None
    """industrial-internet identifier, pattern already applied"""


@dataclass(frozen=True, slots=True)
class DeviceDefinition:
    """A device as the config wants it."""

    device: str
    name: str | None
    adapter: str
    points: Sequence[PointDefinition]


class Registry:
    """Index assignment against the point table. Every change is handed to `write` before anything can use it."""

    def __init__(
        self, table: PointTable, streams: Streams, *, now: Callable[[], int], write: Callable[[Sequence[Record]], None]
    ) -> None:
        self._table = table
        self._streams = streams
        self._now = now
        self._write = write

    def bind(self, definition: DeviceDefinition) -> list[Point]:
        """Give each point of a device its index: the old one where nothing that an index stands for has changed.

        Returns those that are read; derived ones are nothing to an adapter.

        Changes of identifier, unit, scale, offset or labels make a new entry and retire the old; display texts are
        brought up to date under the same index; points that left the config are retired. All changes of one call
        share one new catalogue version.
        """
        now = self._now()
        known = self._table.points(definition.device)
        live = {record.point: record for record in known.values() if record.retired_at is None}
        version = self._table.version(definition.device) + 1
        free = max(known, default=-1) + 1
        changes: list[Record] = []
        points: list[Point] = []
        for wanted in definition.points:
            old = live.pop(wanted.config.point, None)
            record = self._record(definition.device, wanted, old, version, now)
            if old is not None and _same_meaning(old, record):
                record = replace(record, index=old.index, valid_from=old.valid_from)
                if replace(record, catalogue=old.catalogue) == old:
                    points += _read(old.index, wanted)
                    continue
            else:
                record = replace(record, index=free)
                free += 1
                if old is not None:
                    changes.append(replace(old, catalogue=version, retired_at=now))
            changes.append(record)
            points += _read(record.index, wanted)
        changes += [replace(gone, catalogue=version, retired_at=now) for gone in live.values()]
        device = DeviceRecord(definition.device, definition.name, definition.adapter)
        if self._table.device(definition.device) != device:
            changes.insert(0, device)
        self._commit(changes)
        return points

    def retire(self, device: str) -> None:
        """The device left the config: its points mean nothing any more from here on."""
        version, now = self._table.version(device) + 1, self._now()
        live = [record for record in self._table.points(device).values() if record.retired_at is None]
        self._commit([replace(gone, catalogue=version, retired_at=now) for gone in live])

    def retype(self, device: str, index: int, type: ValueType) -> PointRecord:
        """A point's values are of another type from now on: makes a new entry and retires the old.

        A point that has had `MOST_TYPES` entries for nothing but its type has no type: its entry becomes JSON for good.
        """
        now = self._now()
        known = self._table.points(device)
        old = known[index]
        if sum(other.point == old.point and _same_meaning(other, old) for other in known.values()) >= MOST_TYPES:
            type = ValueType.JSON
        version = self._table.version(device) + 1
        record = replace(old, index=max(known) + 1, catalogue=version, valid_from=now, type=type)
        self._commit([replace(old, catalogue=version, retired_at=now), record])
        return record

    def type_points(self, device: str, types: Sequence[tuple[int, ValueType]]) -> None:
        """Fill the unknown types of many points at once, under one new catalogue version."""
        known = self._table.points(device)
        version = self._table.version(device) + 1
        self._commit([replace(known[index], catalogue=version, type=type) for index, type in types])

    def describe(self, device: str, enumerations: Mapping[int, Mapping[int, str]]) -> None:
        """What the numbers of points mean, by index; no texts = they mean nothing. One new catalogue version for all.

        The entry that the point has now is written again under its index, as other texts are; equal texts are shared.
        An enumeration of more than `ENUMERATION_BYTES` is left out, with a log line.
        """
        known = self._table.points(device)
        live = {record.point: record for record in known.values() if record.retired_at is None}
        version = self._table.version(device) + 1
        shared: dict[tuple[tuple[int, str], ...], Mapping[int, str] | None] = {}
        changes = []
        for index, texts in enumerations.items():
            record = live.get(known[index].point)
            key = tuple(sorted(texts.items()))
            if key not in shared:
                shared[key] = _enumeration(f"{device}: {known[index].point}", key)
            wanted = shared[key]
            if record is not None and record.enumeration != wanted:
                changes.append(replace(record, catalogue=version, enumeration=wanted))
        self._commit(changes)

    def _record(
        self, device: str, wanted: PointDefinition, old: PointRecord | None, version: int, now: int
    ) -> PointRecord:
        config = wanted.config
        return PointRecord(
            device=device,
            index=-1,
            point=config.point,
            stream=self._streams.for_labels(wanted.labels),
            catalogue=version,
            valid_from=now,
            type=old.type if old and (old.scale, old.offset) == (config.scale, config.offset) else None,
            id=wanted.id,
            name=config.name,
            tag=config.tag,
            unit=config.unit,
            description=config.description,
            scale=config.scale,
            offset=config.offset,
            enumeration=old.enumeration if old else None,
        )

    def _commit(self, changes: Sequence[Record]) -> None:
        if changes:
            self._table.apply(changes)
            self._write(changes)


def _read(index: int, wanted: PointDefinition) -> list[Point]:
    return [Point(index, wanted.config)] if isinstance(wanted.config, PointConfig) else []


def _enumeration(where: str, texts: Sequence[tuple[int, str]]) -> Mapping[int, str] | None:
    """Texts as a catalogue can hold them: UTF-8 has no lone surrogates, devices do."""
    found = {int(number): text.encode("utf-8", "replace").decode() for number, text in texts}
    size = sum(len(text.encode()) + len(str(number)) + 6 for number, text in found.items())
    if size > ENUMERATION_BYTES:
        log.warning(
            "%s: its enumeration of %d texts takes %d bytes, at most %d are kept: the catalogue goes without it",
            where, len(found), size, ENUMERATION_BYTES,
        )  # fmt: skip
        return None
    return found or None


def _same_meaning(old: PointRecord, new: PointRecord) -> bool:
    return (old.id, old.unit, old.scale, old.offset, old.stream) == (
        new.id,
        new.unit,
        new.scale,
        new.offset,
        new.stream,
    )
