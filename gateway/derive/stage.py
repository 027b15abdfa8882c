"""What happens to one device's canonical records on their way to the log: range check, derived points, filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.contract.adapter import Origin
from gateway.contract.batch import Batch
from gateway.contract.config import DeviceConfig
from gateway.derive.derived import Deriver, value_types
from gateway.derive.filters import Ranges, ReportByException
from gateway.log.records import BatchRecord
from gateway.normalise import Normaliser
from gateway.points.registry import Registry
from gateway.points.table import PointTable


class Stage:
    """Range check, then derived points (over everything that was read), then report-by-exception (over both).

    A device that uses none of this has no stage.
    """

    def __init__(self, config: DeviceConfig, table: PointTable) -> None:
        self._device = config.device
        self._table = table
        self._version = -1
        self._ranges = Ranges(config.points) if any(point.range for point in config.points) else None
        self._deriver = Deriver(config.device, config.derived) if config.derived else None
        filtered = any(point.smallest_change is not None for point in config.every_point)
        self._filter = ReportByException(config.every_point) if filtered else None

    @property
    def filtered(self) -> int:
        """Readings that were left out since the start, because they said nothing new."""
        return self._filter.filtered if self._filter else 0

    def records(self, records: Sequence[BatchRecord]) -> Sequence[BatchRecord]:
        """What goes to the log of what an adapter offered together."""
        if self._version != self._table.version(self._device):
            self._learn()
        if self._ranges:
            records = self._ranges.checked(records)
        if self._deriver:
            records = [*records, *self._deriver.records(records)]
        return self._filter.passed(records) if self._filter else records

    def _learn(self) -> None:
        """Indexes change when a source changes a type."""
        self._version = self._table.version(self._device)
        table = self._table.points(self._device)
        entries = {each.point: (index, each.stream) for index, each in table.items() if each.retired_at is None}
        for part in (self._ranges, self._deriver, self._filter):
            if part:
                part.learn(entries, max(table, default=-1) + 1)


class StagedNormaliser(Normaliser):
    """A normaliser whose records go through a stage."""

    def __init__(self, config: DeviceConfig, table: PointTable, registry: Registry, stage: Stage) -> None:
        super().__init__(config.device, table, registry)
        self._stage = stage

    def records(self, batches: Sequence[Batch], origin: Origin | None = None) -> list[BatchRecord]:
        """See `Normaliser.records`."""
        return list(self._stage.records(super().records(batches, origin)))


def stage_of(config: Any, table: PointTable, registry: Registry) -> Stage | None:
    """The stage of a device whose points are bound; None where its config (a `DeviceConfig`) asks for nothing.

    Gives derived points their types, which no reading has to show.
    """
    if not config.is_staged:
        return None
    if config.derived:
        _type_derived(config, table, registry)
    return Stage(config, table)


def _type_derived(config: DeviceConfig, table: PointTable, registry: Registry) -> None:
    wanted = value_types(config.derived)
    live = [
        record
        for record in table.points(config.device).values()
        if record.retired_at is None and record.type is not wanted.get(record.point, record.type)
    ]
    if untyped := [(record.index, wanted[record.point]) for record in live if record.type is None]:
        registry.type_points(config.device, untyped)
    for record in live:
        if record.type is not None:
            registry.retype(config.device, record.index, wanted[record.point])
