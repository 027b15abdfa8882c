"""Who is served next: by due time, never twice, and never lost to a cancellation."""

from __future__ import annotations

import asyncio

from adapters.lines import Turns


async def test_waiters_are_served_by_due_time() -> None:
    turns, served = Turns(), list[int]()

    async def use(due_ns: int) -> None:
        async with turns.turn(due_ns):
            served.append(due_ns)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group, turns.turn(0):
        for due_ns in (30, 10, 20, 10):
            group.create_task(use(due_ns))
        await asyncio.sleep(0)
    assert served == [10, 10, 20, 30]


async def test_never_more_at_once_than_allowed() -> None:
    turns, now, most = Turns(3), 0, 0

    async def use(due_ns: int) -> None:
        nonlocal now, most
        async with turns.turn(due_ns):
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1

    async with asyncio.TaskGroup() as group:
        for due_ns in range(20):
            group.create_task(use(due_ns))
    assert most == 3


async def test_a_cancelled_waiter_passes_its_turn_on() -> None:
    turns, served = Turns(), list[str]()

    async def use(name: str, due_ns: int) -> None:
        async with turns.turn(due_ns):
            served.append(name)

    async with turns.turn(0):
        first = asyncio.create_task(use("first", 1))
        second = asyncio.create_task(use("second", 2))
        await asyncio.sleep(0)
    await asyncio.sleep(0)  # its turn is granted now, and it has not run since
    first.cancel()
    await asyncio.wait([first, second], timeout=5)
    assert served == ["second"]
    async with asyncio.timeout(1), turns.turn(3):
        served.append("third")
    assert served == ["second", "third"]


async def test_whoever_goes_on_at_once_competes_with_those_who_wait() -> None:
    """A cycle of three requests is not torn apart by one that is due later, and lets in one that is due before."""
    turns, served = Turns(), list[str]()

    async def use(name: str, *due_ns: int) -> None:
        for due in due_ns:
            async with turns.turn(due):
                served.append(name)
                await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for name, due_ns in (("cycle", (1, 5, 6)), ("late", (9,)), ("before", (3,))):
            group.create_task(use(name, *due_ns))
    assert served == ["cycle", "before", "cycle", "cycle", "late"]
