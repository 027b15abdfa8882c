"""Housekeeping: the log stays within its budget, and what is dropped is counted before it is gone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gateway.contract import SystemClock
from gateway.log import DataFile
from gateway.log.records import Series, SeriesHead
from gateway.runtime.housekeeping import Housekeeping, Usage, cut_position

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
    assert cut_position(listed, usage(listed, 30), now=DAY, keep_ns=10 * DAY) is None


def test_the_oldest_whole_files_go_until_it_fits() -> None:
    listed = files(10, 10, 10)
    assert cut_position(listed, usage(listed, 15), now=DAY, keep_ns=10 * DAY) == 201


def test_the_newest_file_never_goes() -> None:
    listed = files(10, 10)
    assert cut_position(listed, usage(listed, 1), now=DAY, keep_ns=10 * DAY) == 101
    assert cut_position(files(50), usage(files(50), 1), now=DAY, keep_ns=DAY) is None


def test_age_is_that_of_the_next_file_and_a_clock_that_jumps_empties_nothing_at_once() -> None:
    listed = files(10, 10, 10, created=[0, DAY, 2 * DAY])
    assert cut_position(listed, usage(listed, 99), now=3 * DAY, keep_ns=5 * DAY) is None
    assert cut_position(listed, usage(listed, 99), now=1000 * DAY, keep_ns=5 * DAY) == 101


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
    def __init__(self, store: Store) -> None:
        self._store = store

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
