"""What a point table would change in a device: new points, changed keys, points that are not in it any more."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ValidationError, create_model
from pydantic.fields import FieldInfo

from gateway.config.quantities import duration_text
from gateway.contract import PointConfig
from gateway.contract.config import StrictModel
from gateway.contract.quantities import Deadband
from gateway.tables.convert import LONG, Row, Table, TableProblem
from gateway.tables.naming import Names

_PLACE = ("address", "node", "bit")
_DURATION = "(ms|s|m|min|h|d)"
"""the end of the pattern that durations have in the schema"""


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One key of one point; None = the key is not there."""

    key: str
    old: Any
    new: Any


@dataclass(slots=True)
class PointChange:
    """A point that the table changes. No `keys` = a new one with `values`."""

    point: str
    tag: str | None
    row: int
    keys: list[KeyChange] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Changes:
    """What a table would do to a device."""

    device: str
    new: list[PointChange] = field(default_factory=list)
    changed: list[PointChange] = field(default_factory=list)
    gone: list[PointChange] = field(default_factory=list)
    unchanged: int = 0
    problems: list[TableProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def any(self) -> bool:
        """Whether the config would be another one, points that are gone not counted."""
        return bool(self.new or self.changed)


def compare(
    table: Table, device: str, model: type[PointConfig], points: Sequence[PointConfig], taken: Sequence[str] = ()
) -> Changes:
    """The changes that bring `points` to what the table says; no new point gets a name that is `taken`.

    A row is the point that it names in the column of local names, else the one at its address, else the one with its
    tag, else a new one: so a point keeps its local name when its tag changes, and when its address does.
    """
    return _Comparison(table, device, model, points, taken).changes()


class _Comparison:
    """One table against one device."""

    def __init__(
        self, table: Table, device: str, model: type[PointConfig], points: Sequence[PointConfig], taken: Sequence[str]
    ) -> None:
        self._table = table
        self._model = model
        self._cells = _cells_model(model)
        self._points = points
        self._names = {point.point: point for point in points}
        self._places: dict[Any, list[PointConfig]] = {}
        self._tags: dict[str, list[PointConfig]] = {}
        for point in points:
            if (place := place_of(point)) is not None:
                self._places.setdefault(place, []).append(point)
            if point.tag:
                self._tags.setdefault(point.tag, []).append(point)
        self._matched: dict[str, int] = {}
        self._changes = Changes(device, problems=list(table.problems), notes=list(table.notes))
        self._new_names = Names(
            [*self._names, *taken, *(row.keys["point"] for row in table.rows if "point" in row.keys)]
        )

    def changes(self) -> Changes:
        fresh: list[Row] = []
        cells = [(row, self._validated(row)) for row in self._table.rows]
        tags = [row.keys.get("tag") for row in self._table.rows]
        for row, values in cells:
            if values is None:
                continue
            old = self._find(row, values, tags)
            if old is None:
                fresh.append(row)
                continue
            first = self._matched.setdefault(old.point, row.number)
            if first != row.number:
                self._problem(row, "", f"rows {first} and {row.number} are both point {old.point}", _ONE_ROW)
                continue
            self._change(row, values, old)
        for row in fresh:
            self._add(row)
        if "order" in self._model.model_fields:
            self._note_order()
        # A row that could not be read may have been any of the points that seem to be gone.
        broken = self._table.problems or len(cells) > len(self._matched) + len(fresh)
        for point in self._points:
            if point.point not in self._matched and place_of(point) is not None and not broken:
                self._changes.gone.append(PointChange(point.point, point.tag, 0))
        return self._changes

    def _validated(self, row: Row) -> Mapping[str, Any] | None:
        """Each key of the row by itself, as the config understands it; None when one is wrong."""
        try:
            return self._cells.model_validate(row.keys).__dict__
        except ValidationError as error:
            self._report(row, error)
            return None

    def _find(self, row: Row, values: Mapping[str, Any], tags: Sequence[str | None]) -> PointConfig | None:
        if named := self._names.get(row.keys.get("point", "")):
            return named
        tag = row.keys.get("tag")
        here = self._places.get(_place(values), [])
        same_tag = [point for point in here if point.tag == tag]
        if len(here) == 1 or len(same_tag) == 1:
            found = (same_tag or here)[0]
            if "point" in row.keys:
                self._changes.notes.append(
                    f"{self._table.sheet}: row {row.number}: the point at this address is called {found.point} and "
                    f"keeps that name; `edge-gateway points rename` gives it another"
                )
            return found
        tagged = self._tags.get(tag or "", [])
        # Two rows with one tag are a problem already; they must not both become the same point.
        return tagged[0] if len(tagged) == 1 and tags.count(tag) == 1 and "point" not in row.keys else None

    def _change(self, row: Row, values: Mapping[str, Any], old: PointConfig) -> None:
        keys = [
            KeyChange(key, written(old, key), value)
            for key, value in row.keys.items()
            if key != "point" and values[key] != getattr(old, key)
        ]
        keys += [
            KeyChange(key, written(old, key), None)
            for key in sorted(row.cleared & old.model_fields_set)
            if key not in ("point", "address", "node")
        ]
        if not keys:
            self._changes.unchanged += 1
            return
        wanted = raw(old) | {change.key: change.new for change in keys}
        if self._fits(row, {key: value for key, value in wanted.items() if value is not None}):
            self._changes.changed.append(PointChange(old.point, old.tag, row.number, keys))

    def _add(self, row: Row) -> None:
        said = next((str(row.keys[key]) for key in ("tag", "name", "node", "address") if key in row.keys), "point")
        name = row.keys.get("point") or self._new_names.new(said)
        values = {"point": name} | {key: value for key, value in row.keys.items() if key != "point"}
        if self._fits(row, values):
            self._changes.new.append(PointChange(name, row.keys.get("tag"), row.number, values=values))

    def _note_order(self) -> None:
        """The commonest mistake with a new device: nobody said in which order its words come."""
        silent = [new for new in self._changes.new if new.values.get("type") in LONG and "order" not in new.values]
        if silent:
            self._changes.notes.append(
                f"{self._table.sheet}: {len(silent):,} new values of 32 or 64 bits have no byte order, first in row "
                f"{silent[0].row}: ABCD is taken; --order CDAB for another (`edge-gateway read` shows a value in all)"
            )

    def _fits(self, row: Row, keys: Mapping[str, Any]) -> bool:
        """Whether the keys together make a point."""
        try:
            self._model.model_validate(keys)
        except ValidationError as error:
            self._report(row, error)
            return False
        return True

    def _report(self, row: Row, error: ValidationError) -> None:
        for detail in error.errors(include_url=False):
            key = str(detail["loc"][0]) if detail["loc"] else ""
            message = detail["msg"].removeprefix("Value error, ")
            if detail["type"] == "missing":
                self._problem(row, "", f"the row has no {key}", _MISSING.get(key, f"fill in the column for {key}"))
            else:
                column = row.columns.get(key, "")
                prefix = "" if not key or column else f"{key}: "
                self._problem(row, column, f"{prefix}{message}", "correct the cell" if column else "correct the row")

    def _problem(self, row: Row, column: str, message: str, hint: str) -> None:
        self._changes.problems.append(TableProblem(self._table.sheet, row.number, column, message, hint))


_ONE_ROW = "a point has one row: delete one of them, or correct its address or tag"
_MISSING = {
    "address": "fill in its Modbus address (地址), or delete the row",
    "node": "fill in its node id (NodeId), or delete the row",
}


def place_of(point: PointConfig) -> Any:
    """Where a point is in its device: address and bit, or node; None for one that is computed."""
    return _place({key: getattr(point, key, None) for key in _PLACE})


def _place(values: Mapping[str, Any]) -> Any:
    where = values.get("address") or values.get("node")
    return None if where is None else (where, values.get("bit"))


@lru_cache(maxsize=8)
def _cells_model(model: type[PointConfig]) -> type[BaseModel]:
    """The keys of a point, each by itself: all may be missing, and none is compared with another."""
    fields: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        alone = FieldInfo(annotation=info.annotation, alias=info.alias, default=None)
        alone.metadata = info.metadata
        fields[name] = (info.annotation, alone)
    made: type[BaseModel] = create_model(f"{model.__name__}Cells", __base__=StrictModel, **fields)
    return made


@lru_cache(maxsize=8)
def _durations(model: type[PointConfig]) -> frozenset[str]:
    properties = model.model_json_schema()["properties"]
    return frozenset(key for key, schema in properties.items() if _DURATION in json.dumps(schema))


def written(point: PointConfig, key: str) -> Any:
    """The value of a key as a device file has it; None when the point does not have the key."""
    if key not in point.model_fields_set:
        return None
    value = getattr(point, key)
    if isinstance(value, float) and key in _durations(type(point)):
        return duration_text(value)
    if isinstance(value, Deadband):
        return f"{value.value:g}%" if value.percent else value.value
    if isinstance(value, bool | int | float | str):
        return value
    return point.model_dump(mode="json", by_alias=True, exclude_unset=True, include={key}).get(key)


def raw(point: PointConfig) -> dict[str, Any]:
    """The keys that a point has, in a way that its model takes again."""
    durations = _durations(type(point))
    found: dict[str, Any] = {}
    for key in point.model_fields_set:
        value = getattr(point, key)
        found[key] = duration_text(value) if isinstance(value, float) and key in durations else value
    return found
