"""What a gap's readings are when they come from history: the scripted archive behind, the gateway's sink in front."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence

import pytest
from asyncua import ua

from adapters.opcua.config import ClockShift
from adapters.opcua.decoding import layouts
from adapters.opcua.history import backfill
from gateway.contract import Basis, Filled, Flag, Gap, LinkLost, OpenGap, ValueType
from tests.support.opcua_archive import Archive, value
from tests.support.opcua_backfill import BASE, Device, S, counted
from tests.support.wait import eventually


async def test_what_is_missing_comes_in_order_marked_and_once() -> None:
    device = Device(Archive(a=counted(100), b=counted(100)))
    await device.outage(10, 50)
    async with device.connected():
        assert await device.filled() == [Filled("down", BASE + 10 * S, BASE + 3600 * S, 78)]
    assert device.backfilled(0) == device.backfilled(1) == [(n, float(n)) for n in range(11, 50)]
    assert {int(basis) for batch in device.behind.batches for basis in batch.basis} == {Basis.SOURCE}


@pytest.mark.parametrize("manner", ["repeats", "past_the_end", "pointless", "unordered", "twice"])
async def test_bad_manners_of_a_server_make_no_duplicates_and_no_disorder(manner: str) -> None:
    values = counted(100)
    if manner == "unordered":
        values[20], values[22] = values[22], values[20]
    if manner == "twice":
        values = sorted([*values, *values], key=lambda each: each.SourceTimestamp)  # type: ignore[arg-type,return-value]
    archive = Archive(a=values)
    archive.page = 30
    if hasattr(archive, manner):
        setattr(archive, manner, True)
    device = Device(archive)
    await device.outage(10, 50)
    async with device.connected():
        await device.filled()
    expected = [(n, float(n)) for n in range(11, 50)]
    assert device.backfilled() == (expected[:29] if manner == "repeats" else expected)
    assert archive.held == {}


async def test_two_values_with_one_time_both_come() -> None:
    values = [value(1.0, 1), value(2.0, 20), value(3.0, 20), value(3.0, 20), value(4.0, 30)]
    device = Device(Archive(a=values))
    await device.outage(10, 50)
    async with device.connected():
        await device.filled()
    assert device.backfilled() == [(20, 2.0), (20, 3.0), (30, 4.0)]


@pytest.mark.parametrize("pointless", [False, True])
@pytest.mark.parametrize("page", [2, 3, 5, 7])
async def test_values_of_one_second_all_come_wherever_a_page_ends(page: int, pointless: bool) -> None:
    """An archive that keeps whole seconds, of a point that moves four times a second."""
    values = [value(math.nan if n % 4 == 3 else float(n), n // 4) for n in range(240)]
    archive = Archive(a=values)
    archive.page = page if not pointless else 10 * page
    archive.pointless = pointless
    device = Device(archive)
    await device.outage(10, 50)
    async with device.connected():
        (filled,) = await device.filled()
    expected = [(n // 4, "nan" if n % 4 == 3 else str(float(n))) for n in range(44, 200)]
    assert [(second, str(number)) for second, number in device.backfilled()] == expected
    assert filled.readings == len(expected)


async def test_statuses_and_types_are_as_live() -> None:
    kinds = [value(7, 20, type=ua.VariantType.Int16), value(9, 30, 0x80000000, type=ua.VariantType.Int16)]
    historian = value(8, 25, 0x00000002, type=ua.VariantType.Int16)
    device = Device(Archive(a=[kinds[0], historian, kinds[1]]), types={0: layouts.FLOAT})
    await device.outage(10, 50)
    async with device.connected():
        await device.filled()
    past = [batch for batch in device.behind.batches if (batch.flags & Flag.BACKFILLED).any()]
    assert [batch.type for batch in past] == [ValueType.FLOAT32]
    assert past[0].values.tolist() == [7.0, 8.0, 9.0]
    assert past[0].status.tolist() == [0, 2, 0x80000000]


@pytest.mark.parametrize("shift", [8 * 3600.0, -3600.0])
async def test_a_clock_that_is_shifted_is_asked_in_its_own_time(shift: float) -> None:
    device = Device(Archive(a=[value(float(n), n + shift) for n in range(100)]), ClockShift(shift=f"{shift:g}s"))
    await device.outage(10, 50)
    async with device.connected():
        await device.filled()
    assert device.backfilled() == [(n, float(n)) for n in range(11, 50)]


async def test_a_link_lost_in_the_middle_costs_nothing_and_repeats_nothing() -> None:
    archive = Archive(a=counted(500), b=counted(500))
    archive.page = 50
    device = Device(archive)
    await device.outage(10, 450)
    device.behind.commit.clear()
    async with device.connected():
        await eventually(device.backfilled)
    first = len(archive.asked)
    archive.held.clear()
    device.behind.commit.set()
    async with device.connected():
        assert [filled.readings for filled in await device.filled()] == [2 * 439]
    assert device.backfilled(0) == device.backfilled(1) == [(n, float(n)) for n in range(11, 450)]
    assert archive.asked[first].continuations == (b"", b"")


async def test_a_session_that_ends_ends_the_backfill() -> None:
    archive = Archive(a=counted(100))
    archive.faults = [0x80250000]
    device = Device(archive)
    await device.outage(10, 50)
    async with device.connected() as task:
        await eventually(task.done)
        with pytest.raises(LinkLost):
            task.result()


async def test_one_answer_at_most_waits_for_its_commit() -> None:
    archive = Archive(a=counted(100))
    archive.page = 10
    device = Device(archive)
    await device.outage(0, 90)
    device.behind.commit.clear()
    async with device.connected():
        await eventually(device.backfilled)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(archive.asked) == 1
        device.behind.commit.set()
        await device.filled()


async def test_nothing_in_the_history_leaves_the_gap_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    device = Device(Archive(a=[value(1.0, 1), value(2.0, 60)], b=[value(1.0, 1)]))
    await device.outage(10, 50)
    with caplog.at_level(logging.INFO, "adapters.opcua.history.backfill"):
        async with device.connected():
            await eventually(lambda: caplog.records)
    assert [record.message for record in caplog.records] == [
        "reactor: the server's history has nothing of the 2 points that it was asked for, for the gap from "
        "2026-03-01T00:00:10Z to 2026-03-01T01:00:00Z (device-down); the gap stays"
    ]
    assert device.behind.fills == []


@pytest.mark.parametrize("how", ["access level", "status", "service"])
async def test_a_server_without_history_says_so_once_and_is_not_asked_again(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    archive = Archive(a=counted(100), b=counted(100))
    if how == "access level":
        archive.level = 0x03
    elif how == "status":
        archive.statuses = {"a": [0x80720000], "b": [0x80720000]}
    else:
        archive.faults = [0x800B0000]
    device = Device(archive)
    await device.outage(10, 50)
    with caplog.at_level(logging.INFO, "adapters.opcua.history.backfill"):
        async with device.connected():
            await eventually(lambda: caplog.records)
            await device.outage(60, 80)
            await eventually(lambda: not device.ledger.expecting)
    assert [record.message.split(" for example")[0] for record in caplog.records] == [
        "reactor: 2 points have no history that the gateway may read,"
    ]
    assert len(archive.asked) == (0 if how == "access level" else 1)
    assert device.behind.fills == []


async def test_points_without_history_do_not_keep_others_from_theirs(caplog: pytest.LogCaptureFixture) -> None:
    archive = Archive(a=counted(100), b=counted(100))
    archive.statuses = {"a": [0x803A0000]}
    device = Device(archive)
    await device.outage(10, 50)
    async with device.connected():
        assert await device.filled() == [Filled("down", BASE + 10 * S, BASE + 3600 * S, 39, (1,))]
    assert "1 points have no history that the gateway may read, for example a: BadNotReadable" in caplog.text


async def test_a_busy_server_is_asked_again_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "_FIRST_PAUSE_S", 0.01)
    archive = Archive(a=counted(100))
    archive.faults = [0x80EE0000, 0x800A0000]
    device = Device(archive)
    await device.outage(10, 50)
    with caplog.at_level(logging.INFO, "adapters.opcua.history.backfill"):
        async with device.connected():
            await device.filled()
    assert len([record for record in caplog.records if "later and slower" in record.message]) == 1
    assert device.backfilled() == [(n, float(n)) for n in range(11, 50)]


async def test_a_server_that_stays_busy_is_given_up_in_the_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(backfill, "_LONGEST_PAUSE_S", 0.002)
    archive = Archive(a=counted(100))
    archive.faults = [0x80EE0000] * 100
    device = Device(archive)
    await device.outage(10, 50)
    async with device.connected():
        await eventually(lambda: "giving up" in caplog.text)
    assert len(archive.asked) == 20


async def test_history_of_more_than_a_month_ago_is_not_asked_for() -> None:
    days = 86_400
    device = Device(Archive(a=[value(float(n), -n * days) for n in range(40, 0, -1)]))
    await device.live(-39 * days)
    device.behind.open = OpenGap("down", None, "device-down")
    await device.live(0)
    async with device.connected():
        await device.filled()
    assert [value for _, value in device.backfilled()] == [float(n) for n in range(29, 0, -1)]


async def test_times_that_are_not_credible_are_left_out() -> None:
    device = Device(Archive(a=[*counted(20), ua.DataValue(ua.Variant(1.0)), *counted(60)[20:]]))
    await device.outage(10, 50)
    async with device.connected():
        await device.filled()
    assert device.backfilled() == [(n, float(n)) for n in range(11, 50)]


async def test_points_that_stood_still_for_long_do_not_make_others_read_what_is_there() -> None:
    archive = Archive(slow=[value(0.0, 1000)], fast=counted(3000))
    device = Device(archive)
    await device.live(0, 0)
    await device.live(2000, 1)
    device.behind.open = OpenGap("down", None, "device-down")
    await device.live(2100)
    async with device.connected():
        await device.filled()
    assert {asked.nodes for asked in archive.asked} == {("slow",), ("fast",)}
    assert device.backfilled(0) == [(1000, 0.0)]
    assert device.backfilled(1) == [(n, float(n)) for n in range(2001, 2100)]


async def test_nothing_is_offered_while_an_outage_is_open() -> None:
    device = Device(Archive(a=counted(100)))
    await device.outage(10, 50)
    device.behind.open = OpenGap("next", None, "device-down")
    async with device.connected():
        await asyncio.wait_for(_idle(device), 5)
        assert device.archive.asked == []
        await device.live(60)
        await device.filled()
    assert device.behind.open is None


async def _idle(device: Device) -> None:
    """Until the backfill has taken up its first hole."""
    await eventually(lambda: not device.ledger.changed.is_set())


async def test_overflows_of_many_points_are_read_together() -> None:
    names = {f"n{i}": counted(100) for i in range(10)}
    device = Device(Archive(**names))
    await device.live(50)
    gaps: Sequence[Gap] = [Gap((i,), BASE + 20 * S, BASE + 30 * S, "overflow") for i in range(10)]
    for gap in gaps:
        device.sink.gap(gap)
    async with device.connected():
        filled = await device.filled(10)
    assert {each.gap: each.readings for each in filled} == {f"gap-{i}": 9 for i in range(10)}
    assert len(device.archive.asked) == 1
