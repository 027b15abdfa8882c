"""Turns samples into Prometheus' text format; whatever is not declared cannot be exported.

Text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats). The client library would do it too, and take
2 MB of a small box for the metrics of its own that it keeps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

from gateway.metrics.declarations import DECLARATIONS

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPED: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_ESCAPED_HELP: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})


class Sample(NamedTuple):
    """One value of one declared metric."""

    name: str
    value: float
    labels: tuple[str, ...] = ()
    """values in the order of the declaration's labels"""


def exposition(samples: Iterable[Sample]) -> bytes:
    """The page of a scrape: families in the order of their declarations, those without a sample left out.

    Raises KeyError for a sample whose name is not declared, ValueError for one with too few labels or too many.
    """
    families: dict[str, list[Sample]] = {one.name: [] for one in DECLARATIONS}
    for sample in samples:
        families[sample.name].append(sample)
    lines: list[str] = []
    for one in DECLARATIONS:
        if found := families[one.name]:
            lines += (f"# HELP {one.name} {one.help.translate(_ESCAPED_HELP)}", f"# TYPE {one.name} {one.kind}")
            lines += (f"{one.name}{_labels(one.labels, each.labels)} {_number(each.value)}" for each in found)
    return "".join(f"{line}\n" for line in lines).encode()


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    pairs = sorted(zip(names, values, strict=True))
    return "{" + ",".join(f'{name}="{value.translate(_ESCAPED)}"' for name, value in pairs) + "}" if pairs else ""


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
