"""Ranges against a plain set of positions."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract import GatewayError
from gateway.publishing.ranges import MOST_RANGES, Range, Ranges

HORIZON = 60
spans = st.tuples(st.integers(0, HORIZON), st.integers(1, 20)).map(lambda pair: (pair[0], pair[0] + pair[1]))
steps = st.lists(st.tuples(st.sampled_from(["complete", "add", "split"]), spans), max_size=30)


def positions(ranges: Ranges) -> set[int]:
    return {p for p in range(HORIZON + 40) if p in ranges}


@given(steps)
def test_like_a_set(actions: list[tuple[str, tuple[int, int]]]) -> None:
    ranges, model = Ranges(), set(range(HORIZON + 40))
    for action, (start, end) in actions:
        before = positions(ranges)
        match action:
            case "complete":
                assert ranges.complete(start, end)
                model -= set(range(start, end))
            case "add":
                assert ranges.add(start, end)
                model |= set(range(start, end))
            case _:
                assert ranges.split(start)
                assert positions(ranges) == before
        assert positions(ranges) == model
        parts = list(ranges)
        assert parts == sorted(parts, key=lambda part: part.start)
        assert [part.end is None for part in parts] == [False] * (len(parts) - 1) + [True]
        assert all(a.end is not None and a.start < a.end <= b.start for a, b in pairwise(parts))
        assert ranges.first == min(model)
        assert positions(Ranges.from_state(ranges.to_state())) == model


def test_never_more_than_the_limit_and_nothing_changes_then() -> None:
    ranges = Ranges()
    for k in range(MOST_RANGES - 1):
        assert ranges.complete(2 * k + 1, 2 * k + 2)
    assert len(ranges) == MOST_RANGES
    before = list(ranges)
    assert not ranges.complete(1001, 1002)
    assert not ranges.split(1000)
    assert list(ranges) == before


def test_splitting_again_joins_what_touches() -> None:
    ranges = Ranges()
    ranges.split(10)
    ranges.split(20)
    assert list(ranges) == [Range(0, 20), Range(20, None)]


@pytest.mark.parametrize("state", [[], [[0, 5]], [[None, 3], [4, None]], [[0, None], [7, None]]])
def test_unreadable_state(state: list[list[int | None]]) -> None:
    with pytest.raises(GatewayError, match="not readable"):
        Ranges.from_state(state)
