"""The centre's store and report, fed with hand-made messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from simulators.centre.confirm import confirmation
from simulators.centre.report import Difference, Missing, Report, Source
from simulators.centre.schemas import SchemaSet
from simulators.centre.store import Store
from tests.support.messages import (
    ENTERPRISE,
    GATEWAY,
    STREAM,
    TOPIC,
    account,
    catalogue,
    columns,
    entry,
    head,
    readings,
    stream_closed,
)

BOILER = Source(ENTERPRISE, GATEWAY, STREAM, "boiler-1")


class Box:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = Store(path, SchemaSet())

    def give(self, *messages: dict[str, Any]) -> None:
        self.store.begin()
        for message in messages:
            self.store.take(f"{TOPIC}/x", orjson.dumps(message), received_at=1)
        self.store.commit()

    def reopen(self) -> None:
        self.store.close()
        self.store = Store(self.path, SchemaSet())

    def ask(self) -> Report:
        return Report(self.path)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path / "centre.db")
    yield box
    box.store.close()


def kinds(differences: list[Difference]) -> list[str]:
    return sorted(difference.kind for difference in differences)


def test_missing_ranges(box: Box) -> None:
    box.give(readings(2, [1, 2]), readings(7, [1]), readings(5, [1], lane="backlog"))
    with box.ask() as report:
        assert report.missing() == [Missing(BOILER, 0, 1), Missing(BOILER, 4, 4), Missing(BOILER, 6, 6)]
        assert report.missing(from_zero=False) == [Missing(BOILER, 4, 4), Missing(BOILER, 6, 6)]
        assert report.total() == 4


def test_duplicates_however_batched_and_after_reopening(box: Box) -> None:
    box.give(catalogue(), readings(0, [1, 2, 3]))
    box.reopen()
    box.give(columns(1, [2, 3, 4]), readings(1, [2]))
    with box.ask() as report:
        assert report.duplicates() == {BOILER: {1: 2, 2: 1}}
        assert report.conflicts() == []
        assert report.total() == 4
        assert report.missing() == []
        (count,) = report.counts()
        assert (count.stored, count.duplicates, count.copies) == (4, 2, 3)


def test_an_original_time_is_kept_and_part_of_the_reading(box: Box) -> None:
    message = readings(0, [1, 2])
    message["readings"][0]["ot"] = "1601-01-01T00:00:00Z"
    box.give(catalogue(), message, columns(0, [1, 2], ot=["1601-01-01T00:00:00Z", None]))
    with box.ask() as report:
        assert [reading.original for reading in report.readings("boiler-1")] == ["1601-01-01T00:00:00Z", None]
        assert report.conflicts() == []
    box.give(readings(0, [1]))
    with box.ask() as report:
        assert [conflict[1] for conflict in report.conflicts()] == [0]


def test_same_offset_with_other_content_is_a_conflict(box: Box) -> None:
    box.give(readings(0, [1, 2]), readings(1, [2.5]))
    with box.ask() as report:
        ((source, n, stored, came),) = report.conflicts()
        assert (source, n) == (BOILER, 1)
        assert ('"2"' in stored, '"2.5"' in came) == (True, True)


def test_values_come_back_with_unit_and_identifier(box: Box) -> None:
    box.give(catalogue(), columns(0, [1.25, None, "NaN"], s=[0, 0x808B0000, 0]))
    with box.ask() as report:
        first, second, third = report.readings("boiler-1", "level")
    assert (first.value, first.unit, first.id, first.quality) == (1.25, "m", "88.118.8/boiler-1.level", "good")
    assert (second.value, second.quality, second.status) == (None, "bad", 0x808B0000)
    assert third.value == "NaN"


def test_columns_before_their_catalogue_are_an_error(box: Box) -> None:
    box.give(columns(0, [1]), catalogue(parts=2), columns(0, [1]), catalogue(parts=2, part=1), columns(0, [1]))
    box.give(columns(1, [1], points=[5]), columns(1, [1], catalogue=1))
    box.reopen()
    box.give(columns(1, [1]))
    with box.ask() as report:
        assert report.errors() == {"no-catalogue": 4}
        assert report.total() == 2


def test_invalid_messages_are_counted_with_a_reason(box: Box) -> None:
    box.give(readings(0, [1], lane="express"), readings(0, [1], schema="readings/9"))
    box.store.begin()
    box.store.take("t", b"\xff", 1)
    box.store.take("t", b"", 1)  # a cleared retained message
    box.store.commit()
    with box.ask() as report:
        assert report.errors() == {"schema": 1, "unknown-schema": 1, "json": 1}
        assert any("$.lane" in detail for _, _, detail in report.error_samples())
        assert report.total() == 0


@pytest.mark.parametrize("time", ["2026-11-20T09:00:00Z", "2026-11-20T07:00:00Z"], ids=["later", "clock put back"])
def test_account_agrees_to_the_reading(box: Box, time: str) -> None:
    """The newest has the greatest number, in whatever order they come."""
    newest, older = account(entry(accepted=3), number=9, time=time), account(entry(accepted=2), number=8)
    box.give(readings(0, [1, 2, 3]), newest, older)
    with box.ask() as report:
        assert report.reconcile().exact
        assert report.summary()["exact"]


def test_waiting_readings_may_be_here_already_or_not(box: Box) -> None:
    box.give(readings(0, [1, 2, 3]), account(entry(accepted=5, delivered=2, waiting=3, complete_n=2)))
    with box.ask() as report:
        outcome = report.reconcile()
    assert outcome.differences == []
    assert not outcome.exact


@pytest.mark.parametrize(
    ("claimed", "expected"),
    [
        (entry(accepted=4), ["incomplete", "lost"]),
        (entry(accepted=4, delivered=2, dropped={"budget": 1}), ["unbalanced"]),
        (entry(accepted=3, last_n=4, complete_n=3), ["range"]),
        (entry(accepted=2, last_n=2), ["range", "surplus"]),
        (entry(accepted=3, delivered=2, withheld=1), ["surplus"]),
        (entry(accepted=5, delivered=3, dropped={"budget": 1}, waiting=1, complete_n=5), ["incomplete"]),
        (entry("meter-1", accepted=0), ["unaccounted"]),
        (entry(accepted=5, delivered=3, dropped={"budget": 1}, parked=1), []),
    ],
)
def test_differences(box: Box, claimed: dict[str, Any], expected: list[str]) -> None:
    box.give(readings(0, [1, 2, 3]), account(claimed))
    with box.ask() as report:
        assert kinds(report.reconcile().differences) == expected


def test_events_have_offsets_and_close_streams(box: Box) -> None:
    event = stream_closed(0, {"boiler-1": 4})
    box.give(readings(0, [1, 2, 3]), event, event, stream_closed(2, {"boiler-1": 1}, closed="other"))
    events = Source(ENTERPRISE, GATEWAY, "01JNEXT", "_events")
    with box.ask() as report:
        assert Missing(events, 1, 1) in report.missing()
        assert Missing(BOILER, 3, 4) in report.missing()
        assert report.duplicates() == {events: {0: 1}}
        assert report.conflicts() == []
    box.give(readings(3, [1, 2, 3]))
    with box.ask() as report:
        assert "beyond-close" in kinds(report.reconcile().differences)


SECOND = 1_000_000_000


def gap_event(n: int, schema: str = "gap/1", **body: Any) -> dict[str, Any]:
    """A gap of boiler-1 over seconds 10 to 20 of the epoch, or its filling."""
    usual = {"id": "g", "of": "boiler-1", "points": None, "from": second(10), "to": second(20)}
    usual |= {"reason": "device-down"} if schema == "gap/1" else {"count": None}
    return head(schema, stream=STREAM, device="_events", n=n, time=second(30)) | usual | body


def second(number: int) -> str:
    return f"1970-01-01T00:00:{number:02}Z"


def filled_event(n: int, start: int, end: int, **body: Any) -> dict[str, Any]:
    return gap_event(n, "gap-filled/1", **{"from": second(start), "to": second(end)}, **body)


@pytest.mark.parametrize("count", [None, 0, 46])
def test_an_event_is_answered_as_one_offset_whatever_it_counts(box: Box, count: int | None) -> None:
    """Its own `count` is of readings: 46 would confirm events that never came, and null or 0 confirms nothing."""
    good, bad = filled_event(7, 10, 20, count=count), filled_event(8, 10, 20, count=count, id="")
    for event, key in ((good, "stored"), (good, "stored"), (bad, "refused")):
        box.store.begin()
        answer = confirmation(box.store.take(f"{TOPIC}/events", orjson.dumps(event), received_at=1))
        box.store.commit()
        assert answer is not None
        (one,) = orjson.loads(answer)[key]
        assert (one["stream"], one["device"], one["n"], one["count"]) == (STREAM, "_events", event["n"], 1)


@pytest.mark.parametrize(
    ("events", "missing"),
    [
        ([], {"level": [(10, 20)], "valve": [(10, 20)]}),
        ([filled_event(2, 10, 20)], {}),
        ([filled_event(2, 5, 25)], {}),
        ([filled_event(2, 12, 15)], {"level": [(10, 12), (15, 20)], "valve": [(10, 12), (15, 20)]}),
        ([filled_event(2, 10, 15), filled_event(3, 15, 20)], {}),
        ([filled_event(2, 10, 20, points=["valve"])], {"level": [(10, 20)]}),
        ([filled_event(2, 10, 20, id="another")], {"level": [(10, 20)], "valve": [(10, 20)]}),
        ([filled_event(2, 20, 25)], {"level": [(10, 20)], "valve": [(10, 20)]}),
    ],
)
def test_a_filled_gap_is_not_missing(box: Box, events: list[dict[str, Any]], missing: dict[str, Any]) -> None:
    told = [gap_event(0, to=None), gap_event(1), *events]
    box.give(catalogue(points=["level", "valve"]), *reversed(told))
    with box.ask() as report:
        assert report.errors() == {}
        (gap,) = report.gaps()
        seen = {p: [(low // SECOND, high // SECOND) for low, high in left] for p, left in gap.missing.items()}
        assert seen == missing
        assert (gap.device, gap.reason, gap.filled) == ("boiler-1", "device-down", sum(e["id"] == "g" for e in events))
        summary = report.summary()["gaps"]
        assert (summary["told"], summary["filled"], len(summary["not_filled"])) == (1, not missing, bool(missing))


def test_gaps_of_points_and_gaps_that_are_not_over(box: Box) -> None:
    box.give(gap_event(0, points=["valve"], to=None), gap_event(1, id="h"), filled_event(2, 10, 15))
    with box.ask() as report:
        one, other = report.gaps()
    assert one.missing == {"valve": [(15 * SECOND, None)]}
    assert other.missing == {"*": [(10 * SECOND, 20 * SECOND)]}, "no catalogue says which points there are"


def test_no_database_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="start the centre first"):
        Report(tmp_path / "none.db")
