"""No stage of the path is per-reading; and the gate that says so sees it when one becomes so."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import orjson
import pytest

from adapters.opcua.decoding.decode import Items
from benchmarks.gate import cost_of
from benchmarks.stages import core, opcua
from benchmarks.stages.chain import CHAIN
from benchmarks.stages.counting import counted
from benchmarks.stages.plan import STAGES
from benchmarks.stages.stage import COLUMNS, Budget, Stage, Work
from gateway.contract import Batch, Origin
from gateway.log import LogStore
from gateway.log.records import BatchRecord, Segment
from gateway.normalise import Normaliser
from gateway.publishing.encode_json import Header, PointPrefixes
from gateway.publishing.runs import Run

BY_NAME = {stage.name: stage for stage in STAGES}


@pytest.mark.parametrize("stage", [*STAGES, CHAIN], ids=lambda stage: stage.name)
def test_a_stage_costs_what_it_may(stage: Stage) -> None:
    found = "; ".join(cost_of(stage).over(stage.budget))
    assert not found, f"{stage.name}: {found}: what was put into it for every single reading?"


def over(stage: Stage) -> str:
    """What is over the budget of a stage that somebody has spoilt: asked once, since it is expected to be."""
    return "; ".join(cost_of(stage, counts=1, rounds=10).over(stage.budget))


# What a stage becomes when something is done per reading beside it


class Reading(NamedTuple):
    value: float


def comprehension(column: Any) -> object:
    return [value > 0 for value in column]


def loop(column: Any) -> None:
    for _ in column:
        pass


def generator(column: Any) -> float:
    return float(sum(value for value in column))


def callback(column: Any) -> object:
    return np.frompyfunc(lambda value: value, 1, 1)(column)


def objects(column: Any) -> object:
    return [*map(Reading, column)]


def tuples(column: Any) -> object:
    return max(struct.iter_unpack("<d", column.tobytes()))


def to_list(column: Any) -> object:
    return len(column.tolist())


def passing(column: Any) -> float:
    return sum(map(abs, map(float, column)))


def tasks(column: Any) -> None:
    async def one(value: float) -> float:
        return value

    async def every() -> None:
        for begin in range(0, len(column), 100):
            await asyncio.gather(*(asyncio.create_task(one(value)) for value in column[begin : begin + 100]))

    asyncio.run(every())


def nothing(column: Any) -> None:
    column.sum()


def beside(stage: Stage, spoil: Callable[[Any], object]) -> Stage:
    """The stage, and `spoil` of as many doubles as it has values."""

    def make(readings: int, closing: ExitStack) -> Work:
        work = stage.make(readings, closing)
        column = np.arange(work.values, dtype=np.float64)
        return work._replace(run=lambda: (work.run(), spoil(column)))

    return stage._replace(make=make)


def only(measure: str, budget: Budget) -> Budget:
    """The budget, but for one measure without a limit."""
    return Budget(*(allowed if name == measure else math.inf for name, allowed in budget._asdict().items()))


@pytest.mark.parametrize(
    ("spoil", "measure"),
    [
        (comprehension, "opcodes"),
        (loop, "opcodes"),
        (generator, "opcodes"),
        (callback, "opcodes"),
        (objects, "objects"),
        (to_list, "objects"),
        (tuples, "loops"),
        (passing, "loops"),
    ],
)
def test_what_is_done_per_reading_is_seen(spoil: Callable[[Any], object], measure: str) -> None:
    stage = beside(BY_NAME["opcua double: sink"], spoil)._replace(budget=only(measure, COLUMNS))
    assert over(stage)


def test_what_is_done_per_column_is_not() -> None:
    stage = beside(BY_NAME["opcua double: sink"], nothing)
    assert not cost_of(stage).over(COLUMNS)


def test_a_task_per_reading_is_seen() -> None:
    few, many = (counted(partial(tasks, np.zeros(count))) for count in (20, 120))
    assert (many.opcodes - few.opcodes) / 100 > 10 * COLUMNS.opcodes


def test_the_same_work_counts_the_same() -> None:
    with ExitStack() as closing:
        work = BY_NAME["opcua mix: decode"].make(1_000, closing)
        work.run()
        assert counted(work.run).opcodes == counted(work.run).opcodes


# The product's own parts, written as they would be without columns


def test_a_decoder_that_goes_item_by_item_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    item = struct.Struct("<IBBdq")

    def one_by_one(data: bytes, start: int, end: int, other: object) -> list[Items]:
        count = int.from_bytes(data[start : start + 4], "little")
        rows = [item.unpack_from(data, start + 4 + k * item.size) for k in range(count)]
        handles, _, types, values, times = zip(*rows, strict=True)
        nothing = np.zeros(count, np.uint32)
        order = np.arange(count)
        columns = np.array(handles, np.uint32), np.array(values), nothing, np.array(times), np.zeros(count, np.int64)
        return [Items(types[0], False, order, *columns)]

    stage = BY_NAME["opcua double: decode"]
    with ExitStack() as closing:
        expected = stage.make(1_000, closing).run()
        monkeypatch.setattr(opcua, "decode_items", one_by_one)
        found = stage.make(1_000, closing).run()
    assert same(expected, found)
    assert "opcodes" in over(stage)


def test_a_normaliser_that_goes_reading_by_reading_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    columnar = Normaliser.records

    def scaled(self: Normaliser, batches: Sequence[Batch], origin: Origin | None = None) -> list[BatchRecord]:
        plain = [replace(batch, values=np.array([value * 1.0 + 0.0 for value in batch.values])) for batch in batches]
        return columnar(self, plain, origin)

    monkeypatch.setattr(Normaliser, "records", scaled)
    stage = BY_NAME["opcua double: normalise"]
    assert "opcodes" in over(stage)


def test_json_from_an_object_per_reading_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(header: Header, run: Run, prefixes: PointPrefixes) -> bytes:
        batches = [part.record.batch for part in run.slices]
        rows = [
            {"p": point, "t": time, "v": value}
            for batch in batches
            for point, time, value in zip(
                batch.points.tolist(), batch.source_time.tolist(), batch.values.tolist(), strict=True
            )
        ]
        return orjson.dumps({"readings": rows})

    monkeypatch.setattr(core, "encode_readings", encode)
    stage = BY_NAME["opcua double: json"]
    found = over(stage)
    assert "opcodes" in found
    assert "objects" in found


def test_a_loop_in_the_thread_of_the_log_is_seen_in_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    append = LogStore.append

    def looking(self: LogStore, segments: Sequence[Segment], expected: int, until: int | None = None) -> int:
        for segment in segments:
            for record in segment.records:
                loop(record.batch.values if isinstance(record, BatchRecord) else ())
        return append(self, segments, expected, until)

    monkeypatch.setattr(LogStore, "append", looking)
    assert "opcodes" in over(CHAIN)


def same(left: Any, right: Any) -> bool:
    """Equal items."""
    return len(left) == len(right) and all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for a, b in zip(left, right, strict=True)
        for name in ("type", "order", "handles", "values", "status", "source", "server")
    )
