"""HistoryRead against a scripted archive: pages, limits, bad manners, and what stays behind at the server."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from typing import Any

import pytest
from asyncua import ua

from adapters.opcua.decoding.fallback import decode_other
from adapters.opcua.decoding.structures import Structures
from adapters.opcua.history import history
from adapters.opcua.history.history import STUCK, Ask, Busy, HistoryReader, Page
from gateway.contract import LinkLost
from tests.support.opcua_archive import Archive, at, node, value
from tests.support.wait import eventually

OTHER = functools.partial(decode_other, structures=Structures())


def ticks(second: float) -> int:
    return ua.uatypes.datetime_to_win_epoch(at(second))


def ask(point: int, name: str, start: float, end: float) -> Ask:
    return Ask(point, node(name), ticks(start), ticks(end))


class Taken:
    """What the reader handed over."""

    def __init__(self) -> None:
        self.values: dict[int, list[Any]] = {}
        self.pages = 0
        self.blocked = asyncio.Event()
        self.blocked.set()

    async def take(self, pages: list[Page]) -> None:
        self.pages += 1
        for page in pages:
            for items in page.items:
                self.values.setdefault(page.point, []).extend(items.values.tolist())
        await self.blocked.wait()


async def read(archive: Archive, asks: Sequence[Ask], **limits: Any) -> tuple[dict[int, list[Any]], dict[int, int]]:
    taken = Taken()
    failed = await HistoryReader(archive.session(**limits), OTHER).read(asks, taken.take)
    return taken.values, failed


def counted(count: int) -> list[ua.DataValue]:
    return [value(float(n), n) for n in range(count)]


async def test_pages_are_followed_to_the_end_of_the_window() -> None:
    archive = Archive(a=counted(2500), b=counted(2500)[::50])
    archive.page = 100
    found, failed = await read(archive, [ask(0, "a", 0, 2400), ask(1, "b", 0, 2400)])
    assert found == {0: [float(n) for n in range(2401)], 1: [float(n) for n in range(0, 2401, 50)]}
    assert failed == {}
    assert archive.held == {}
    assert archive.asked[0].nodes == ("a", "b")
    assert {asked.nodes for asked in archive.asked[1:]} == {("a",)}


@pytest.mark.parametrize("limit", [10_000, 300], ids=["our limit", "its own limit"])
async def test_answers_that_are_cut_off_without_a_continuation_point_are_continued(limit: int) -> None:
    archive = Archive(a=counted(2500))
    archive.pointless, archive.page = True, limit
    found, failed = await read(archive, [ask(0, "a", 0, 3000)])
    assert sorted(set(found[0])) == [float(n) for n in range(2500)]
    assert failed == {}


async def test_an_answer_that_comes_again_and_again_is_given_up_and_released() -> None:
    archive = Archive(a=counted(50), b=counted(50))
    archive.page, archive.repeats = 10, True
    found, failed = await read(archive, [ask(0, "a", 0, 100), ask(1, "b", 0, 100)])
    assert failed == {0: STUCK, 1: STUCK}
    assert set(found[0]) == {float(n) for n in range(10)}
    assert len([asked for asked in archive.asked if not asked.release]) <= 5
    assert archive.held == {}


async def test_answers_that_are_cut_off_for_ever_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each one progresses a little, and none has a continuation point: a window of a month has room for thousands of
    millions of them."""
    monkeypatch.setattr(history, "_MOST_PAGES", 5)
    archive = Archive(a=counted(1000))
    archive.page, archive.pointless = 10, True
    values, failed = await read(archive, [ask(1, "a", 0, 1000)])
    assert failed == {1: STUCK}
    assert len(archive.asked) == 5
    assert len(values[1]) == 50


async def test_a_server_that_runs_past_the_end_is_stopped_and_released() -> None:
    archive = Archive(a=counted(10_000))
    archive.page, archive.past_the_end = 100, True
    found, failed = await read(archive, [ask(0, "a", 0, 150)])
    assert found[0][:151] == [float(n) for n in range(151)]
    assert len(found[0]) <= 300
    assert failed == {}
    assert archive.held == {}
    assert archive.asked[-1].release


async def test_a_continuation_point_that_the_server_forgot_costs_nothing_but_a_request() -> None:
    archive = Archive(a=counted(300))
    archive.page = 100
    taken = Taken()

    async def take(pages: list[Page]) -> None:
        await taken.take(pages)
        if taken.pages == 2:
            archive.held.clear()
            archive.statuses["a"] = [0x804A0000]

    failed = await HistoryReader(archive.session(), OTHER).read([ask(0, "a", 0, 1000)], take)
    assert sorted(set(taken.values[0])) == [float(n) for n in range(300)]
    assert failed == {}


@pytest.mark.parametrize("limit", [1, 3, 7])
async def test_a_server_that_bears_fewer_nodes_than_it_says_is_asked_for_fewer(limit: int) -> None:
    names = [f"n{i}" for i in range(20)]
    archive = Archive(**{name: counted(3) for name in names})
    archive.most_nodes = limit
    found, failed = await read(archive, [ask(i, name, 0, 10) for i, name in enumerate(names)])
    assert found == {i: [0.0, 1.0, 2.0] for i in range(20)}
    assert failed == {}
    assert all(len(asked.nodes) <= limit for asked in archive.asked[3:])


async def test_the_servers_limit_of_nodes_is_kept() -> None:
    names = [f"n{i}" for i in range(9)]
    archive = Archive(**{name: counted(3) for name in names})
    await read(archive, [ask(i, name, 0, 10) for i, name in enumerate(names)], nodes_per_history=4)
    assert [len(asked.nodes) for asked in archive.asked] == [4, 4, 1]


async def test_an_answer_that_is_too_large_is_asked_for_in_smaller_ones() -> None:
    archive = Archive(a=counted(600))
    archive.faults = [0x80B90000, 0x80B90000]
    found, failed = await read(archive, [ask(0, "a", 0, 1000)])
    assert sorted(set(found[0])) == [float(n) for n in range(600)]
    assert failed == {}
    assert archive.asked[2].limit == 250


async def test_nothing_there_is_not_a_failure() -> None:
    archive = Archive(a=counted(5), b=counted(5))
    archive.statuses["b"] = [0x809B0000]
    found, failed = await read(archive, [ask(0, "a", 10, 20), ask(1, "b", 10, 20)])
    assert (found, failed) == ({}, {})


@pytest.mark.parametrize("status", [0x80720000, 0x801F0000, 0x803A0000, 0x80340000, 0x809E0000])
async def test_a_node_that_cannot_be_read_costs_no_other(status: int) -> None:
    archive = Archive(a=counted(5), b=counted(5))
    archive.statuses["a"] = [status]
    found, failed = await read(archive, [ask(0, "a", 0, 20), ask(1, "b", 0, 20)])
    assert failed == {0: status}
    assert found == {1: [float(n) for n in range(5)]}
    assert len(archive.asked) == 1


async def test_a_server_without_the_service_is_asked_once() -> None:
    names = [f"n{i}" for i in range(50)]
    archive = Archive(**{name: counted(3) for name in names})
    archive.faults = [0x800B0000]
    asks = [ask(i, name, 0, 10) for i, name in enumerate(names)]
    reader = HistoryReader(archive.session(), OTHER)
    assert await reader.read(asks, Taken().take) == dict.fromkeys(range(50), 0x800B0000)
    assert await reader.read(asks[:1], Taken().take) == {0: 0x800B0000}
    assert len(archive.asked) == 1


@pytest.mark.parametrize("status", [0x800A0000, 0x80EE0000, 0x80020000])
async def test_a_busy_server_is_left_alone(status: int) -> None:
    archive = Archive(a=counted(5))
    archive.faults = [status]
    with pytest.raises(Busy):
        await read(archive, [ask(0, "a", 0, 20)])


async def test_a_node_that_is_busy_is_asked_later_after_the_others_were_taken() -> None:
    archive = Archive(a=counted(50), b=counted(5))
    archive.page, archive.statuses["b"] = 10, [0x80EE0000]
    taken = Taken()
    with pytest.raises(Busy):
        await HistoryReader(archive.session(), OTHER).read([ask(0, "a", 0, 100), ask(1, "b", 0, 100)], taken.take)
    assert taken.values == {0: [float(n) for n in range(10)]}
    await eventually(lambda: archive.held == {})


async def test_no_answer_is_not_a_lost_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_TIMEOUT_S", 0.05)
    archive = Archive(a=counted(5))
    archive.silent = True
    session = archive.session()
    session.timeout = 0.05
    with pytest.raises(Busy, match="no answer within"):
        await HistoryReader(session, OTHER).read([ask(0, "a", 0, 20)], Taken().take)


async def test_a_session_that_has_ended_is_a_lost_link() -> None:
    archive = Archive(a=counted(5))
    archive.faults = [0x80250000]
    with pytest.raises(LinkLost, match="BadSessionIdInvalid"):
        await read(archive, [ask(0, "a", 0, 20)])


async def test_who_is_cancelled_leaves_no_continuation_point_behind() -> None:
    archive = Archive(a=counted(500), b=counted(500))
    archive.page = 10
    taken = Taken()
    taken.blocked.clear()
    reading = asyncio.create_task(
        HistoryReader(archive.session(), OTHER).read([ask(0, "a", 0, 1000), ask(1, "b", 0, 1000)], taken.take)
    )
    await eventually(lambda: taken.pages == 1)
    assert len(archive.held) == 2
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert archive.held == {}
    assert archive.asked[-1].release


async def test_a_value_that_cannot_be_decoded_costs_no_other_node(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Archive(a=counted(5), b=counted(5))
    decode = history.decode_history

    def spoil(data: bytes, values: tuple[int, int], point: int, other: Any) -> Any:
        return decode(data, (values[0], values[1] - (3 if point == 0 else 0)), point, other)

    monkeypatch.setattr(history, "decode_history", spoil)
    found, failed = await read(archive, [ask(0, "a", 0, 20), ask(1, "b", 0, 20)])
    assert failed == {0: 0x80070000}
    assert found == {1: [float(n) for n in range(5)]}


async def test_every_kind_of_value_comes_through() -> None:
    kinds = [
        value(True, 1),
        value(-5, 2, type=ua.VariantType.Int16),
        value("温度", 3),
        value([1.0, 2.5], 4, type=ua.VariantType.Double),
        value(20.1, 5, status=0x40900000),
    ]
    archive = Archive(a=kinds)
    found, failed = await read(archive, [ask(0, "a", 0, 10)])
    assert failed == {}
    assert sorted(map(str, found[0])) == sorted(map(str, [True, -5, "温度", [1.0, 2.5], 20.1]))


async def test_requests_keep_to_half_of_the_budget() -> None:
    archive = Archive(a=counted(120))
    archive.page = 10
    loop = asyncio.get_running_loop()
    began = loop.time()
    await read(archive, [ask(0, "a", 0, 120)], requests_per_s=100)
    # Twelve requests of background work at half of a hundred a second.
    assert loop.time() - began >= (len(archive.asked) - 1) / 50 - 0.01
    assert len(archive.asked) == 12


async def test_which_points_have_a_history_is_asked_in_batches() -> None:
    archive = Archive()
    reader = HistoryReader(archive.session(), OTHER)
    nodes = {i: node(f"n{i}") for i in range(1200)}
    assert await reader.readable(nodes) == set(nodes)
    archive.level = 0x03
    assert await reader.readable(nodes) == set()
