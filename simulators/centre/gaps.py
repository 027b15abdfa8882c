"""What the plant side lost, as the gap events tell it: a gap that was filled afterwards is missing no longer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from simulators.centre.wire import parse_time

Span = tuple[int | None, int | None]
"""(from, to) in ns since the epoch; None = unknown, or not over"""


@dataclass(frozen=True, slots=True)
class PlantGap:
    """One gap in one stream, by its newest telling."""

    id: str
    enterprise: str
    gateway: str
    stream: str
    device: str
    reason: str
    span: Span
    filled: int
    """gap-filled events about it"""
    missing: Mapping[str, list[Span]]
    """what still is missing, by point; empty = everything came after all; "*" = all points, where no catalogue is known
    """


def plant_gaps(events: Iterable[dict[str, Any]], points_of: Callable[[str, str, str, str], set[str]]) -> list[PlantGap]:
    """All gaps in `events`, which may come in any order.

    `points_of(enterprise, gateway, device, stream)`: names of the points that the catalogue shows.
    """
    told: dict[tuple[str, str], dict[str, Any]] = {}
    fills: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for event in events:
        key = (event["stream"], event.get("id", ""))
        if event["schema"] == "gap-filled/1":
            fills.setdefault(key, []).append(event)
        elif event["schema"] == "gap/1" and (key not in told or told[key]["to"] is None):
            told[key] = event
    return [_gap(gap, fills.get(key, []), points_of) for key, gap in told.items()]


def _gap(
    event: dict[str, Any], fills: list[dict[str, Any]], points_of: Callable[[str, str, str, str], set[str]]
) -> PlantGap:
    place = (event["enterprise"], event["gateway"], event["of"], event["stream"])
    points = set(event["points"] or points_of(*place)) or {"*"}
    span = (_time(event["from"]), _time(event["to"]))
    missing = {}
    for point in sorted(points):
        left = [span]
        for fill in fills:
            if fill.get("points") is None or point in fill["points"]:
                left = [rest for part in left for rest in subtract(part, (_time(fill["from"]), _time(fill["to"])))]
        if left:
            missing[point] = left
    return PlantGap(
        event["id"], event["enterprise"], event["gateway"], event["stream"], event["of"], event["reason"], span,
        len(fills), missing,
    )  # fmt: skip


def subtract(span: Span, filled: Span) -> list[Span]:
    """What of `span` lies outside of `filled`."""
    start, end = _bounds(span)
    low, high = _bounds(filled)
    if high <= start or end <= low:
        return [span]
    left: list[Span] = []
    if start < low:
        left.append((span[0], filled[0]))
    if high < end:
        left.append((filled[1], span[1]))
    return left


def _bounds(span: Span) -> tuple[float, float]:
    return (float("-inf") if span[0] is None else span[0], float("inf") if span[1] is None else span[1])


def _time(text: str | None) -> int | None:
    return None if text is None else parse_time(text)
