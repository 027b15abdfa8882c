"""The request budget: never more than it allows, whoever asks; everybody has a turn."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from adapters.opcua.session.pace import Pace, Priority
from tests.support.virtual_time import run_virtually


def now() -> float:
    return asyncio.get_running_loop().time()


def most_in_a_second(times: Sequence[float]) -> int:
    """The most of `times`, sorted, in any window of a second."""
    first, most = 0, 0
    for last, at in enumerate(times):
        while times[first] <= at - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


class Client:
    """Sends requests at the pace and writes down when, and for whom."""

    def __init__(self, rate: float | None) -> None:
        self.pace = Pace(rate)
        self.sent: list[tuple[float, Priority]] = []

    async def send(self, priority: Priority) -> None:
        await self.pace.wait(priority)
        self.sent.append((now(), priority))

    async def keep_sending(self, priority: Priority) -> None:
        while True:
            await self.send(priority)

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.sent]


async def for_seconds(client: Client, seconds: float, *priorities: Priority) -> Counter[Priority]:
    """What each priority sends when all of them always have something to send."""
    tasks = [asyncio.create_task(client.keep_sending(each)) for each in priorities for _ in range(3)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return Counter(priority for _, priority in client.sent)


@pytest.mark.parametrize("rate", [0.5, 1, 3, 7.5, 100, 1000])
def test_no_second_sees_more_than_the_budget_and_the_whole_of_it_can_be_used(rate: float) -> None:
    async def main() -> None:
        client = Client(rate)
        sent = await for_seconds(client, 20, *Priority)
        assert most_in_a_second(client.times) <= rate + 1
        assert sent.total() >= rate * 20 * 0.99

    run_virtually(main())


@pytest.mark.parametrize("seed", range(20))
def test_a_budget_holds_whatever_comes(seed: int) -> None:
    """Bursts, pauses, requests that are given up while they wait, and some that ask whether they may."""

    async def main() -> None:
        draw = random.Random(seed)
        client = Client(rate := draw.choice([2.0, 5.0, 20.0]))
        tasks: list[asyncio.Task[None]] = []
        for _ in range(400):
            priority = draw.choice(list(Priority))
            if draw.random() < 0.2:
                if client.pace.take(priority):
                    client.sent.append((now(), priority))
            else:
                tasks.append(asyncio.create_task(client.send(priority)))
            if draw.random() < 0.3:
                draw.choice(tasks or [asyncio.create_task(client.send(priority))]).cancel()
            await asyncio.sleep(draw.choice([0.0, 0.0, 0.01, 0.1, 1.5]))
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(each is None or isinstance(each, asyncio.CancelledError) for each in done)
        assert client.times == sorted(client.times)
        assert most_in_a_second(client.times) <= rate + 1
        async with asyncio.timeout(2):
            await client.send(Priority.SESSION)  # nobody is stuck

    run_virtually(main())


def test_a_late_wake_up_is_not_made_up_for() -> None:
    async def main() -> None:
        client = Client(10)
        tasks = [asyncio.create_task(client.send(Priority.PUBLISH)) for _ in range(30)]
        for _ in range(10):
            await asyncio.sleep(0.2)
            asyncio.get_running_loop().now += 0.35  # type: ignore[attr-defined]  # something else kept the loop busy
        await asyncio.gather(*tasks)
        apart = [later - earlier for earlier, later in zip(client.times, client.times[1:], strict=False)]
        assert min(apart) >= 0.1 - 1e-6

    run_virtually(main())


def test_the_first_of_those_who_wait_is_the_most_important() -> None:
    async def main() -> None:
        client = Client(10)
        await client.send(Priority.ITEMS)
        tasks = [asyncio.create_task(client.send(each)) for each in reversed(Priority)]
        await asyncio.gather(*tasks)
        assert [priority for _, priority in client.sent[1:]] == list(Priority)

    run_virtually(main())


def test_live_data_goes_first_and_yet_everything_gets_done() -> None:
    async def main() -> None:
        sent = await for_seconds(Client(8), 100, Priority.PUBLISH, Priority.ITEMS)
        assert sent[Priority.PUBLISH] == pytest.approx(600, abs=5)
        assert sent[Priority.ITEMS] == pytest.approx(200, abs=5)

    run_virtually(main())


def test_background_work_has_half_of_the_budget_at_most() -> None:
    async def main() -> None:
        alone = await for_seconds(Client(8), 100, Priority.BACKGROUND)
        assert alone[Priority.BACKGROUND] == pytest.approx(400, abs=2)
        beside = await for_seconds(Client(8), 100, Priority.PUBLISH, Priority.BACKGROUND)
        assert beside[Priority.BACKGROUND] >= 100
        assert beside[Priority.PUBLISH] >= 500

    run_virtually(main())


def test_background_work_that_must_wait_holds_up_nobody() -> None:
    async def main() -> None:
        client = Client(2)
        await client.send(Priority.BACKGROUND)
        waiting = asyncio.create_task(client.send(Priority.BACKGROUND))
        await asyncio.sleep(0.5)
        before = now()
        await client.send(Priority.PUBLISH)
        assert now() == pytest.approx(before, abs=1e-3)
        await waiting
        assert now() == pytest.approx(client.sent[0][0] + 1, abs=0.01)

    run_virtually(main())


def test_a_request_that_is_given_up_costs_nothing() -> None:
    async def main() -> None:
        client = Client(10)
        tasks = [asyncio.create_task(client.send(Priority.ITEMS)) for _ in range(5)]
        await asyncio.sleep(0)
        for task in tasks[1:4]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(client.sent) == 2
        assert client.sent[1][0] - client.sent[0][0] == pytest.approx(0.1)

    run_virtually(main())


def test_without_a_bound_nobody_waits() -> None:
    async def main() -> None:
        client = Client(None)
        for _ in range(1000):
            await client.send(Priority.BACKGROUND)
            assert client.pace.take(Priority.BACKGROUND)
        assert client.times[0] == client.times[-1]

    run_virtually(main())
