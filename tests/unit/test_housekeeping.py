"""Housekeeping: the log stays within its budget, and what is dropped is counted before it is gone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gateway.contract import SystemClock
from gateway.log import DataFile
from gateway.log.records import Series, SeriesHead
from gateway.runtime.housekeeping import Housekeeping, Usage, aged_position, cut_position
from tests.support.logs import SetClock

DAY = 86_400 * 10**9
HEAD = SeriesHead(Series("s", "d"), 0, 10, 0, 1)


def files(*sizes: int, created: Sequence[int] = ()) -> list[DataFile]:
    times = created or [0] * len(sizes)
    return [
        DataFile(Path(f"data-{index}.db"), index * 100 + 1, index * 100 + 101, size, time)
        for index, (size, time) in enumerate(zip(sizes, times, strict=True))
    ]


def usage(listed: Sequence[DataFile], budget: int) -> Usage:
    return Usage(sum(file.bytes for file in listed), 10**12, budget)


def test_what_fits_stays() -> None:
    listed = files(10, 10, 10)
    assert cut_position(listed, usage(listed, 30)) is None


def test_the_oldest_whole_files_go_until_it_fits() -> None:
    listed = files(10, 10, 10)
    assert cut_position(listed, usage(listed, 15)) == 201


def test_the_newest_file_never_goes() -> None:
    listed = files(10, 10)
    assert cut_position(listed, usage(listed, 1)) == 101
    assert cut_position(files(50), usage(files(50), 1)) is None


def test_age_is_that_of_the_next_file() -> None:
    listed = files(10, 10, 10, created=[0, DAY, 2 * DAY])
    assert aged_position(listed, now=6 * DAY, keep_ns=5 * DAY) is None
    assert aged_position(listed, now=6 * DAY + 1, keep_ns=5 * DAY) == 101
    assert aged_position(listed[:1], now=1000 * DAY, keep_ns=5 * DAY) is None, "never the newest"


def test_what_somebody_waits_for_is_never_too_old() -> None:
    listed = files(10, 10, 10, created=[0, DAY, 2 * DAY])
    assert aged_position(listed, now=1000 * DAY, keep_ns=DAY, limit=100) is None
    assert aged_position(listed, now=1000 * DAY, keep_ns=DAY, limit=101) == 101


class Store:
    def __init__(self, listed: list[DataFile]) -> None:
        self.listed = listed
        self.calls: list[str] = []

    def files(self) -> list[DataFile]:
        return self.listed

    def heads(self, start: int, end: int) -> list[tuple[int, list[SeriesHead]]]:
        self.calls.append(f"heads {start} {end}")
        return [(start, [HEAD])]

    def trim(self, position: int) -> int:
        self.calls.append(f"trim {position}")
        self.listed = [file for file in self.listed if file.first >= position]
        return position


class Destination:
    undelivered = 10**9
    """has delivered everything"""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def loaded(self) -> None:
        """At once."""

    async def trimmed(self, position: int, heads: Sequence[SeriesHead], reason: str = "budget") -> None:
        self._store.calls.append(f"dropped below {position}: {sum(head.readings for head in heads)} {reason}")


async def test_every_destination_counts_before_the_file_is_unlinked(tmp_path: Path) -> None:
    store = Store(files(10, 10, 10))
    destinations = [Destination(store), Destination(store)]
    keeping = Housekeeping(store, tmp_path, destinations, budget_bytes=20, keep_s=1e10, clock=SystemClock())
    await keeping.tidy()
    assert store.calls == ["heads 1 101", *["dropped below 101: 10 budget"] * 2, "trim 101"]
    await keeping.tidy()
    assert store.calls[-1] == "trim 101", "it fits now: nothing more goes"


async def test_a_clock_that_jumps_takes_one_file_for_each_that_is_begun(tmp_path: Path) -> None:
    """A box whose clock began in 1970, or that stands in 2100 now: what it holds is not old because of that."""
    store = Store(files(10, 10, 10, 10))
    clock = SetClock(1000 * DAY)
    keeping = Housekeeping(store, tmp_path, [Destination(store)], budget_bytes=10**9, keep_s=86_400, clock=clock)
    for _ in range(5):
        await keeping.tidy()
    assert [file.first for file in store.listed] == [101, 201, 301]
    store.listed += files(0, 0, 0, 0, 10)[-1:]
    for _ in range(5):
        await keeping.tidy()
    assert [file.first for file in store.listed] == [201, 301, 401]


async def test_nothing_goes_for_its_age_that_a_destination_waits_for(tmp_path: Path) -> None:
    store = Store(files(10, 10, 10, 10))
    behind = Destination(store)
    behind.undelivered = 50
    destinations = [Destination(store), behind]
    clock = SetClock(1000 * DAY)
    keeping = Housekeeping(store, tmp_path, destinations, budget_bytes=10**9, keep_s=86_400, clock=clock)
    await keeping.tidy()
    assert store.calls == []
    behind.undelivered = 101
    await keeping.tidy()
    assert store.calls == ["heads 1 101", *["dropped below 101: 10 budget"] * 2, "trim 101"]
