"""The outcome of a crash campaign as text."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from gateway.log.records import Series
from tests.support.crash_campaign import HITS, Outcome, Round

_HEAD = (
    "killed in",
    "rounds",
    "broker up",
    "down",
    "accepted",
    "delivered",
    "twice",
    "missing",
    "conflicts",
    "first data",
)


def table(outcome: Outcome) -> str:
    """Rounds by where the kill hit. `first data`: seconds from the start of the process, median and most."""
    rows = [_row(outcome, hit, [x for x in outcome.rounds if x.hit == hit]) for hit in HITS]
    last = [x for x in outcome.rounds if x.hit not in HITS]
    rows += [_row(outcome, "ended in order", last), _row(outcome, "all", outcome.rounds)]
    cells = [_HEAD, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEAD))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    seen = ", ".join(f"{count} of {what}" for what, count in outcome.seen.items())
    notes = [f"seed {outcome.seed}; streams: {outcome.streams}; seen while killing: {seen}"]
    failures = [x.failure for x in outcome.rounds if x.failure]
    if failures:
        unsynced, lost = sum(x.unsynced for x in failures), sum(x.lost for x in failures)
        notes.append(f"power cuts: {len(failures)}; changes not synced: {unsynced}, of them lost or torn: {lost}")
    return "\n".join([*lines, *notes])


def _row(outcome: Outcome, name: str, rounds: Sequence[Round]) -> tuple[str, ...]:
    accepted = sum(end - start for x in rounds for start, end in x.accepted.values())
    missing = sum(_overlap(rounds, series, start, end) for series, start, end in outcome.missing)
    twice = sum(times for series, n, times in outcome.duplicates if _overlap(rounds, series, n, n + 1))
    conflicts = sum(_overlap(rounds, series, n, n + 1) for series, n in outcome.conflicts)
    first = [x.first_data_s for x in rounds if x.first_data_s is not None]
    seconds = f"{statistics.median(first):.1f} {max(first):.1f} s" if first else "-"
    up = sum(x.broker_up for x in rounds)
    numbers = (len(rounds), up, len(rounds) - up, accepted, accepted - missing, twice, missing, conflicts)
    return (name, *map(str, numbers), seconds)


def _overlap(rounds: Sequence[Round], series: Series, start: int, end: int) -> int:
    """How many of these offsets were given in these rounds."""
    spans = [x.accepted[series] for x in rounds if series in x.accepted]
    return sum(max(0, min(end, high) - max(start, low)) for low, high in spans)
