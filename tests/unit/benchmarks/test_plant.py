"""The receiver's check of a plant: what is right passes, and nothing that is wrong does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.load import kinds
from benchmarks.load.kinds import KINDS, PLANT, Kind
from benchmarks.receive.plant import ROUND, ROUNDS, rounds_of, wrong_readings
from benchmarks.receive.values import ValueCheck

NOW = 1_795_000_000_123 * 1_000_000
ITEMS = np.arange(10_000)


def as_json(kind: Kind, tick: int, item: int) -> Any:
    """What a message says."""
    if kind.element:
        return [as_json(KINDS[kind.element], tick, item + place) for place in range(kind.length)]
    if kind.name == "structure":
        return {name: as_json(KINDS[of], tick, item) for name, of in kinds.FIELDS}
    value = kinds.numbers(kind.name, tick, np.array([item]))[0]
    if kind.name == "float":
        return float(str(value))  # the shortest text
    return f"{value:014}" if kind.name == "string" else value.item()


def message(tick: int, items: Any) -> tuple[Any, Any, list[Any], Any]:
    """Items, times, values and statuses as they must come."""
    states = kinds.states(tick, items)
    values = [
        None if state == kinds.WITHOUT_VALUE else as_json(kinds.kind_of(item, "plant"), tick, item)
        for item, state in zip(items.tolist(), states.tolist(), strict=True)
    ]
    return items, np.full(len(items), NOW + tick * 100), values, kinds.STATUSES[states]


@pytest.fixture(scope="module")
def right() -> tuple[Any, Any, list[Any], Any]:
    return message(8, ITEMS)


def test_what_is_right_passes(right: tuple[Any, Any, list[Any], Any]) -> None:
    items, times, values, statuses = right
    assert not wrong_readings(items, times, values, statuses).any()
    assert set(np.unique(statuses)) == set(kinds.STATUSES)
    check = ValueCheck("plant")
    check.check(items, values, follow=True, marks=lambda: (times, statuses))
    assert (check.checked, check.wrong, check.skipped, check.repeated) == (10_000, 0, 0, 0)
    assert check.marked == np.count_nonzero(statuses) == 300


SPOILT: dict[str, Callable[[Any], Any]] = {
    "null": lambda value: None,
    "text": str,
    "one more": lambda value: value + 1,
    "true for one": lambda value: bool(value) if value in (0, 1) else not value,
    "a float": float,
    "cut": lambda value: value[:-1],
    "swapped": lambda value: [value[1], value[0], *value[2:]],
    "a field less": lambda value: dict(list(value.items())[:-1]),
    "fields in another order": lambda value: dict(reversed(value.items())),
    "a field more": lambda value: {**value, "More": 1},
    "a field of another item": lambda value: {**value, "Step": value["Step"] ^ 1},
}
NUMBERS = ("null", "text", "one more")
OF: dict[str, tuple[str, ...]] = {
    "bool": ("null", "text", "one more", "a float"),
    "string": ("null", "cut"),
    "structure": ("null", "text", "a field less", "fields in another order", "a field more", "a field of another item"),
    **dict.fromkeys(("float[8]", "int16[4]"), ("null", "text", "cut", "swapped")),
    **dict.fromkeys(("float", "double"), NUMBERS),
}


@pytest.mark.parametrize("name", sorted(set(PLANT)))
def test_nothing_that_is_wrong_passes(name: str, right: tuple[Any, Any, list[Any], Any]) -> None:
    items, times, values, statuses = right
    of_kind = [item for item in ITEMS.tolist() if kinds.kind_of(item, "plant").name == name]
    rows = [row for row in of_kind if values[row] is not None][:5]
    for spoil in OF.get(name, (*NUMBERS, "true for one", "a float")):
        spoilt = list(values)
        for row in rows:
            spoilt[row] = SPOILT[spoil](values[row])
        wrong = wrong_readings(items, times, spoilt, statuses)
        assert np.flatnonzero(wrong).tolist() == rows, spoil


def test_a_wrong_status_time_or_item_is_wrong(right: tuple[Any, Any, list[Any], Any]) -> None:
    items, times, values, statuses = right
    assert wrong_readings(items, times, values, statuses ^ np.uint32(1 << 31)).all()
    another_tick = wrong_readings(items, times + 100, values, statuses)
    assert np.count_nonzero(another_tick) > 0.95 * len(items)  # an enumeration of four may be the same
    neighbours = wrong_readings(np.roll(items, 100), times, values, statuses)  # of the same kinds
    assert np.count_nonzero(neighbours) > 0.8 * len(items)
    bad = np.flatnonzero(statuses == kinds.STATUSES[kinds.WITHOUT_VALUE])
    spoilt = list(values)
    for row in bad.tolist():
        spoilt[row] = 0.0
    assert np.flatnonzero(wrong_readings(items, times, spoilt, statuses)).tolist() == bad.tolist()


def test_rounds_are_followed_beyond_their_end() -> None:
    check, items = ValueCheck("plant"), np.arange(50)

    def take(tick: int, part: Any) -> None:
        part, times, values, statuses = message(tick % kinds.TICKS, part)
        check.check(part, values, follow=True, marks=lambda: (times, statuses))

    first = kinds.TICKS - 20
    take(first, items)
    for tick in range(first + 1, first + 41):
        take(tick, items[tick * 3 % ROUND :: ROUND])
    assert (check.wrong, check.skipped, check.repeated) == (0, 0, 0)
    take(first + 46, items[:7])  # without their round from 41 to 45
    assert (check.wrong, check.skipped, check.repeated) == (0, 7, 0)
    take(first + 46, items[:7])
    take(first + 1, items[:7])
    assert (check.wrong, check.skipped, check.repeated) == (0, 7, 14)
    carried = np.array([NOW + 100 * tick for tick in (1, 5, 6, kinds.TICKS - 1, 0)])
    assert rounds_of(carried).tolist() == [0, 0, 1, ROUNDS - 1, ROUNDS - 1]
