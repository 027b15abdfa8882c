"""Which of a device's servers is tried, and when."""

from __future__ import annotations

import asyncio
import logging

import pytest

from adapters.opcua.session.endpoints import Memory, Unwell, none_of_them
from gateway.contract import LinkLost, Refused
from tests.support.virtual_time import run_virtually

A, B, C = "opc.tcp://a:1", "opc.tcp://b:1", "opc.tcp://c:1"
URLS = (A, B, C)


def test_servers_are_tried_as_configured() -> None:
    async def main() -> None:
        assert Memory().order(URLS) == [A, B, C]

    run_virtually(main())


def test_the_last_one_is_first_while_what_was_left_there_can_be_taken_up() -> None:
    async def main() -> None:
        memory = Memory()
        memory.connected(B, URLS, {A: LinkLost("gone")})
        assert memory.order(URLS) == [A, B, C], "nothing was left there yet"
        memory.of(B).kept_s = 100
        memory.left(B)
        assert memory.order(URLS) == [B, A, C]
        await asyncio.sleep(99)
        assert memory.order(URLS) == [B, A, C]
        await asyncio.sleep(2)
        assert memory.order(URLS) == [A, B, C]

    run_virtually(main())


def test_a_session_at_another_server_is_of_no_use_any_more() -> None:
    async def main() -> None:
        memory = Memory()
        memory.connected(A, URLS, {})
        memory.of(A).login = object()  # type: ignore[assignment]
        memory.left(A)
        memory.connected(B, URLS, {A: LinkLost("gone")})
        assert memory.of(A).login is None
        memory.left(B)
        assert memory.order(URLS) == [B, A, C]

    run_virtually(main())


def test_a_server_without_data_comes_last_for_five_minutes() -> None:
    async def main() -> None:
        memory = Memory()
        memory.connected(A, URLS, {})
        memory.left(A)
        memory.failed(A, Unwell("no data"))
        assert memory.order(URLS) == [B, C, A]
        await asyncio.sleep(301)
        assert memory.order(URLS) == [A, B, C]

    run_virtually(main())


def test_a_server_that_refuses_is_left_alone_for_a_moment_and_the_others_are_not() -> None:
    async def main() -> None:
        memory, loop = Memory(), asyncio.get_running_loop()
        memory.failed(A, LinkLost("halted"), refused=True)
        memory.failed(B, LinkLost("no answer"))
        began = loop.time()
        await memory.wait(URLS)
        assert loop.time() == began
        assert memory.order(URLS) == [B, C]
        await memory.wait([A])
        assert loop.time() - began == pytest.approx(2.0)
        assert memory.order(URLS) == [A, B, C]
        memory.failed(A, Refused("no session left"))
        assert memory.order(URLS) == [B, C]

    run_virtually(main())


def test_a_server_that_is_away_is_not_asked_and_where_all_are_the_first_to_return_is_waited_for() -> None:
    async def main() -> None:
        memory, loop = Memory(), asyncio.get_running_loop()
        assert memory.of(A).away(300)
        assert not memory.of(B).away(601), "who knows whether that is true"
        assert memory.order(URLS) == [B, C]
        assert memory.of(B).away(200)
        assert memory.of(C).away(250)
        began = loop.time()
        await memory.wait(URLS)
        assert loop.time() - began == pytest.approx(200)
        assert memory.order(URLS) == [B]

    run_virtually(main())


async def test_a_change_of_server_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    memory = Memory()
    memory.connected(A, URLS, {})
    memory.connected(A, URLS, {})
    assert not caplog.records
    memory.connected(B, URLS, {A: LinkLost(f"{A}: no answer in time")})
    memory.connected(B, URLS, {})
    memory.connected(A, URLS, {})
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert told == [
        ("WARNING", f"{B}: in use instead of {A} ({A}: no answer in time)"),
        ("INFO", f"{A}: in use again instead of {B}"),
    ]


async def test_the_first_connection_may_be_to_an_alternative(caplog: pytest.LogCaptureFixture) -> None:
    Memory().connected(B, URLS, {A: LinkLost(f"{A}: no answer in time")})
    assert [record.getMessage() for record in caplog.records] == [
        f"{B}: in use instead of {A} ({A}: no answer in time)"
    ]


def test_the_error_of_each_is_told() -> None:
    lost, refused = LinkLost(f"{A}: no answer"), Refused(f"{B}: no session left")
    assert none_of_them({A: lost}) is lost
    both = none_of_them({A: lost, B: refused})
    assert isinstance(both, Refused), "somebody has to do something"
    assert f"{A}: no answer; {B}: no session left" in str(both)
    assert isinstance(none_of_them({A: lost, B: lost}), LinkLost)
