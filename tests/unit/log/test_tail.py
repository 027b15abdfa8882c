"""The tail answers as the store would, from memory, and forgets from the old end."""

from __future__ import annotations

import asyncio

from gateway.log import Tail
from gateway.log.records import Segment
from tests.support.logs import reading


def committed(*positions: int, count: int = 10) -> list[Segment]:
    return [Segment(p, [reading(count * p, count)], nbytes=100) for p in positions]


def test_reads_from_memory_within_the_limit() -> None:
    tail = Tail(5)
    tail.add(committed(5, 6, 7))
    assert [s.position for s in tail.read(6, 10**9) or ()] == [6, 7]
    assert [s.position for s in tail.read(5, 1) or ()] == [5]
    assert [s.position for s in tail.read(5, 250) or ()] == [5, 6]
    assert tail.read(8, 100) == []
    assert tail.read(4, 100) is None
    assert tail.end == 8


def test_the_oldest_go_first() -> None:
    tail = Tail(1, memory_bytes=3_000)
    for position in range(1, 11):
        tail.add(committed(position))
    assert tail.start > 1
    assert tail.read(tail.start - 1, 100) is None
    assert [s.position for s in tail.read(tail.start, 10**9) or ()] == list(range(tail.start, 11))


def test_what_everybody_has_goes() -> None:
    tail = Tail(1)
    tail.add(committed(1, 2, 3))
    tail.forget(3)
    assert (tail.start, tail.end) == (3, 4)
    assert tail.read(2, 100) is None
    assert [s.position for s in tail.read(3, 100) or ()] == [3]
    tail.forget(4)
    assert tail.read(4, 100) == []
    tail.add(committed(4))
    assert [s.position for s in tail.read(4, 100) or ()] == [4]


def test_a_segment_larger_than_memory_is_not_held() -> None:
    tail = Tail(1, memory_bytes=1_000)
    tail.add(committed(1, count=1000))
    assert tail.read(1, 100) is None
    assert tail.read(2, 100) == []


async def test_waiting_ends_when_there_is_something_beyond() -> None:
    tail = Tail(1)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        waiters = [group.create_task(tail.wait(position)) for position in (1, 2)]
        await asyncio.sleep(0)
        tail.add(committed(1))
        await waiters[0]
        assert not waiters[1].done()
        tail.add(committed(2))
    await tail.wait(0)


async def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    tail = Tail(1)
    task = asyncio.create_task(tail.wait(1))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not tail._waiting
    tail.add(committed(1))
