"""Gathering for the live lane: no reading waits longer than the batch's time, whatever is sent meanwhile."""

from __future__ import annotations

import asyncio

from gateway.publishing.config import BatchConfig
from gateway.publishing.gathering import Gatherer
from gateway.publishing.sources import Source
from tests.support.fakelog import NOW, FakeLog, FakeTail, define, readings
from tests.support.virtual_time import run_virtually

MAX_WAIT_S = 1.0


class LoopClock:
    """The event loop's time is the wall clock's."""

    def __init__(self) -> None:
        self.began = asyncio.get_running_loop().time()
        self.step_s = 0.0

    def time_ns(self) -> int:
        return NOW + round((asyncio.get_running_loop().time() - self.began + self.step_s) * 1e9)

    def monotonic_ns(self) -> int:
        return round(asyncio.get_running_loop().time() * 1e9)


class Rig:
    def __init__(self, hurry: bool = False, **batch: object) -> None:
        self.log = FakeLog()
        self.stopping = asyncio.Event()
        source = Source(self.log, FakeTail(self.log))
        config = BatchConfig.model_validate({"max_wait": f"{MAX_WAIT_S}s", **batch})
        self.clock = LoopClock()
        self.gatherer = Gatherer("centre", source, config, self.stopping, self.clock, hurry=hurry)

    async def gathered(self, position: int) -> tuple[float, int]:
        """How long it took, and how many segments came."""
        began = asyncio.get_running_loop().time()
        segments = await self.gatherer.gather(position)
        return round(asyncio.get_running_loop().time() - began, 6), len(segments)

    def append_later(self, seconds: float, start: int, *, commit_s: float = 0.0) -> None:
        """A reading arrives in so many seconds, and is in the log `commit_s` later."""
        received = self.clock.time_ns() + round(seconds * 1e9)
        record = readings(1, start=start, received=received)
        asyncio.get_running_loop().call_later(seconds + commit_s, self.log.append, record)


def test_the_time_begins_with_the_first_reading() -> None:
    async def main() -> None:
        rig = Rig()
        rig.append_later(5.0, 0)
        rig.append_later(5.9, 1)
        rig.append_later(6.1, 2)
        assert await rig.gathered(0) == (5.0 + MAX_WAIT_S, 2)

    run_virtually(main())


def test_the_first_readings_of_a_connection_go_at_once_whatever_entries_went_before() -> None:
    async def main() -> None:
        rig = Rig(hurry=True)
        rig.log.append(*define())
        assert await rig.gathered(0) == (0.0, 1), "the entries of a start"
        rig.append_later(5.0, 0)
        rig.append_later(5.25, 1)
        assert await rig.gathered(1) == (5.0, 1)
        assert await rig.gathered(2) == (0.25 + MAX_WAIT_S, 1), "from then on the batch's time counts"

    run_virtually(main())


def test_the_commit_is_part_of_the_time() -> None:
    async def main() -> None:
        rig = Rig()
        rig.append_later(5.0, 0, commit_s=0.25)
        assert await rig.gathered(0) == (5.0 + MAX_WAIT_S, 1)
        rig.append_later(1.0, 1, commit_s=3.0)
        assert await rig.gathered(1) == (4.0, 1), "a commit that takes longer than the batch's time: it goes at once"

    run_virtually(main())


def test_a_clock_that_is_set_changes_the_wait_by_no_more_than_the_time_of_a_batch() -> None:
    async def main() -> None:
        rig = Rig()
        rig.append_later(0.0, 0, commit_s=0.25)
        rig.clock.step_s = -3600
        assert await rig.gathered(0) == (0.25 + MAX_WAIT_S, 1)
        rig.append_later(0.0, 1, commit_s=0.25)
        rig.clock.step_s = 3600
        assert await rig.gathered(1) == (0.25, 1)

    run_virtually(main())


def test_what_came_while_messages_were_sent_has_waited_already() -> None:
    async def main() -> None:
        rig = Rig()
        rig.log.append(readings(1))
        await rig.gathered(0)
        rig.append_later(0.0, 1)
        await asyncio.sleep(0.75)  # the messages are sent
        assert await rig.gathered(1) == (MAX_WAIT_S - 0.75, 1)
        rig.append_later(0.0, 2)
        await asyncio.sleep(3.0)
        assert await rig.gathered(2) == (0.0, 1), "it goes at once"
        rig.append_later(0.5, 3)
        assert await rig.gathered(3) == (0.5 + MAX_WAIT_S, 1), "and what comes later has its time"

    run_virtually(main())


def test_enough_bytes_or_a_stop_end_the_wait() -> None:
    async def main() -> None:
        rig = Rig(max_bytes="1000B")
        rig.log.append(readings(1000))
        assert await rig.gathered(0) == (0.0, 1)
        rig.append_later(0.0, 1000)
        asyncio.get_running_loop().call_later(0.25, rig.stopping.set)
        assert await rig.gathered(1) == (0.25, 1)
        assert await rig.gathered(2) == (0.0, 0)

    run_virtually(main())
