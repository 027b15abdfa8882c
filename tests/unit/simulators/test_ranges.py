"""Sets of offsets against a plain set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from simulators.centre.ranges import Ranges

SPANS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 8)), max_size=20)


@given(SPANS, st.tuples(st.integers(0, 50), st.integers(1, 8)))
def test_like_a_set(spans: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    ranges, plain = Ranges(), set[int]()
    for start, length in spans:
        ranges.add(start, start + length)
        plain |= set(range(start, start + length))
    assert {n for start, end in ranges for n in range(start, end)} == plain
    ends = [bound for pair in ranges for bound in pair]
    assert ends == sorted(set(ends))  # disjoint and never touching
    start, length = asked
    assert ranges.overlaps(start, start + length) == bool(plain & set(range(start, start + length)))
