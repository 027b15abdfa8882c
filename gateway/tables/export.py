"""Points of a device as a sheet: a column for every key that a person fills in, and for what else is in use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from gateway.contract import PointConfig
from gateway.tables.changes import written
from gateway.tables.headings import CHINESE, ENGLISH
from gateway.tables.sheets import Cell, Sheet

_ALWAYS = (
    "point", "tag", "name", "address", "node", "type", "order", "bit", "length", "count", "scale", "offset", "unit",
    "range", "every", "sampling", "id", "description",
)  # fmt: skip


def as_sheet(name: str, points: Sequence[PointConfig], lang: str) -> Sheet:
    """The sheet; keys without a heading of their own stand under their name in the config, groups of keys as JSON."""
    fields = type(points[0]).model_fields
    used = {key for point in points for key in point.model_fields_set}
    columns = [key for key in _ALWAYS if key in fields]
    columns += sorted(used - set(columns))
    words = CHINESE if lang == "zh" else ENGLISH
    rows: list[list[Cell]] = [[words.get(key, words["every"] if key == "sampling" else key) for key in columns]]
    rows += [[_cell(key, written(point, key)) for key in columns] for point in points]
    return Sheet(name, rows)


def _cell(key: str, value: Any) -> Cell:
    if key == "range" and value is not None:
        return "~".join(str(int(end) if float(end).is_integer() else end) for end in value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return json.dumps(value, ensure_ascii=False)
