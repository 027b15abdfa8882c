"""Durations and sizes as an engineer writes them: a number with its unit."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, WithJsonSchema

_DURATIONS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)\s*")


def parse_duration(text: Any) -> float:
    """Seconds in `text`, e.g. "500ms", "1s", "180d". Raises ValueError naming the units."""
    return _parse(text, _DURATIONS, "a duration such as 500ms, 1s, 5m, 2h or 180d")


def parse_size(text: Any) -> int:
    """Bytes in `text`, e.g. "256KB", "20GB" (powers of ten; KiB, MiB, GiB are powers of two). Raises ValueError."""
    return int(_parse(text, _SIZES, "a size such as 256KB, 10MB or 20GB"))


def _parse(text: Any, units: dict[str, Any], expected: str) -> float:
    if isinstance(text, str) and (match := _QUANTITY.fullmatch(text)) and match[2] in units:
        return float(match[1]) * float(units[match[2]])
    raise ValueError(f"expected {expected}, found {text!r}")


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("must be more than zero")
    return seconds


Duration = Annotated[
    float,
    BeforeValidator(lambda text: _positive(parse_duration(text))),
    WithJsonSchema(
        {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*(ms|s|m|min|h|d)$", "examples": ["500ms", "1s"]}
    ),
]
"""A duration in seconds, written with its unit."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*([KMGT]B|[KMG]iB|B)$", "examples": ["256KB"]}),
]
"""A size in bytes, written with its unit."""


class Deadband(NamedTuple):
    """How far a value must move to be worth a reading (OPC UA Part 4, 7.22.2; percent of a range: Part 8, 6.2)."""

    value: float
    percent: bool


def _parse_deadband(value: Any) -> Any:
    """`0.5` in the point's own unit, `1%` of its EURange."""
    if isinstance(value, Deadband):
        return value
    text = str(value).strip()
    percent = text.endswith("%")
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = -1.0
    if isinstance(value, bool) or not 0 < number < math.inf or (percent and number > 100):
        raise ValueError(
            f'expected a number above 0 in the unit of the point, or percent of its range such as "1%", found {value!r}'
        )
    return Deadband(number, percent)


DeadbandRule = Annotated[
    Deadband,
    BeforeValidator(_parse_deadband),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": r"^[0-9.]+\s*%?$"}]}
    ),
]
