"""The planner's promises as properties, its figures, and the bisection of refused blocks."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from adapters.modbus.address import CellRange, Table
from adapters.modbus.planner import Block, Isolation, Limits, Span, isolate, plan

SIZES = st.sampled_from([1, 1, 2, 4, 10])
SPANS = st.lists(st.tuples(st.integers(0, 1500), SIZES), min_size=1, max_size=120)
LIMITS = st.builds(Limits, st.integers(10, 125), st.integers(10, 2000), st.integers(0, 20))


def spans_of(drawn: list[tuple[int, int]]) -> list[Span]:
    return [Span(start, cells, key) for key, (start, cells) in enumerate(drawn)]


@given(SPANS, LIMITS, st.sampled_from(Table))
def test_every_span_is_whole_in_exactly_one_block_within_the_limits(
    drawn: list[tuple[int, int]], limits: Limits, table: Table
) -> None:
    spans = spans_of(drawn)
    blocks = plan(table, spans, limits)
    assert sorted(span for block in blocks for span in block.spans) == sorted(spans)
    most, gap = limits.of(table)
    for block in blocks:
        assert block.table is table
        assert 1 <= block.cells <= most
        asked = set()
        for span in block.spans:
            assert block.start <= span.start
            assert span.end <= block.start + block.cells
            asked.update(range(span.start, span.end))
        assert {block.start, block.start + block.cells - 1} <= asked
        unasked = 0
        for cell in range(block.start, block.start + block.cells):
            unasked = 0 if cell in asked else unasked + 1
            assert unasked <= gap


@given(SPANS, LIMITS, st.sets(st.integers(0, 1600), max_size=40))
def test_what_is_unreadable_is_never_read(drawn: list[tuple[int, int]], limits: Limits, forbidden: set[int]) -> None:
    spans = [span for span in spans_of(drawn) if forbidden.isdisjoint(range(span.start, span.end))]
    holes = [CellRange(Table.HOLDING, cell, cell) for cell in forbidden]
    elsewhere = [CellRange(Table.INPUT, 0, 2000)]
    blocks = plan(Table.HOLDING, spans, limits, holes + elsewhere)
    assert sorted(span for block in blocks for span in block.spans) == sorted(spans)
    for block in blocks:
        assert forbidden.isdisjoint(range(block.start, block.start + block.cells))
    assert plan(Table.HOLDING, spans, limits, elsewhere) == plan(Table.HOLDING, spans, limits)


def test_a_wide_hole_between_two_points() -> None:
    spans = [Span(0, 1, 0), Span(5, 1, 1)]
    assert len(plan(Table.HOLDING, spans, Limits())) == 1
    assert len(plan(Table.HOLDING, spans, Limits(), [CellRange(Table.HOLDING, 2, 3)])) == 2


@given(SPANS, LIMITS, st.randoms())
def test_the_order_of_points_does_not_matter(drawn: list[tuple[int, int]], limits: Limits, rng: random.Random) -> None:
    spans = spans_of(drawn)
    blocks = plan(Table.HOLDING, spans, limits)
    rng.shuffle(spans)
    assert plan(Table.HOLDING, spans, limits) == blocks


def test_200_scattered_points_need_at_most_10_requests() -> None:
    for seed in range(20):
        rng = random.Random(seed)
        address, spans = 0, []
        for key in range(200):
            cells = rng.choice([1, 2])
            spans.append(Span(address, cells, key))
            address += cells + rng.randint(1, 4)
        assert len(plan(Table.HOLDING, spans, Limits())) <= 10


def test_10000_contiguous_registers_are_80_requests() -> None:
    assert len(plan(Table.HOLDING, [Span(n, 1, n) for n in range(10_000)], Limits())) == 80


def test_gaps_are_16_times_wider_in_bits() -> None:
    spans = [Span(0, 1, 0), Span(129, 1, 1), Span(259, 1, 2)]
    assert [block.cells for block in plan(Table.COIL, spans, Limits())] == [130, 1]


def drive(block: Block, holes: set[int], most: int = 125, budget: int = 40) -> tuple[Isolation, int]:
    trial = isolate(block, budget)
    tries = 0
    try:
        piece = next(trial)
        while True:
            tries += 1
            cells = range(piece.start, piece.start + piece.cells)
            piece = trial.send(piece.cells <= most and holes.isdisjoint(cells))
    except StopIteration as end:
        result: Isolation = end.value
        return result, tries


def test_one_illegal_address_leaves_two_blocks() -> None:
    (block,) = plan(Table.HOLDING, [Span(n, 1, n) for n in range(125)], Limits())
    isolation, tries = drive(block, {37})
    assert [(good.start, good.cells) for good in isolation.good] == [(0, 37), (38, 87)]
    assert [(bad.start, bad.cells) for bad in isolation.refused] == [(37, 1)]
    assert tries <= 16


def test_a_hole_between_points_refuses_nothing() -> None:
    (block,) = plan(Table.HOLDING, [Span(0, 2, 0), Span(6, 2, 1)], Limits())
    isolation, _ = drive(block, {4})
    assert [(good.start, good.cells) for good in isolation.good] == [(0, 2), (6, 2)]
    assert not isolation.refused


def test_bits_of_one_register_are_not_told_apart() -> None:
    (block,) = plan(Table.HOLDING, [Span(0, 1, 0), *(Span(1, 1, key) for key in range(1, 17))], Limits())
    isolation, _ = drive(block, {1})
    assert [len(bad.spans) for bad in isolation.refused] == [16]
    assert [good.start for good in isolation.good] == [0]


@given(SPANS, st.sets(st.integers(0, 1500), max_size=40), st.integers(4, 125), st.integers(1, 60))
def test_isolation_keeps_every_span_and_never_calls_good_what_is_refused(
    drawn: list[tuple[int, int]], holes: set[int], most: int, budget: int
) -> None:
    for block in plan(Table.HOLDING, spans_of(drawn), Limits()):
        isolation, tries = drive(block, holes, most, budget)
        assert tries <= budget
        pieces = [*isolation.good, *isolation.refused]
        assert sorted(span for piece in pieces for span in piece.spans) == sorted(block.spans)
        for good in isolation.good:
            assert good.cells <= most
            assert holes.isdisjoint(range(good.start, good.start + good.cells))
