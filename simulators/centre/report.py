"""What the centre knows: counts, missing offsets, duplicates, conflicts, errors, and whether the account agrees."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from simulators.centre.gaps import PlantGap, plant_gaps
from simulators.centre.store import ISLANDS


class Source(NamedTuple):
    """A sequence of offsets."""

    enterprise: str
    gateway: str
    stream: str
    device: str


class Missing(NamedTuple):
    """Offsets first..last (both included) that never came."""

    source: Source
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Count:
    """What is stored of one source."""

    source: Source
    stored: int
    first_n: int
    last_n: int
    duplicates: int
    """offsets that came more than once"""
    copies: int
    """how often offsets came once too often, in all"""


@dataclass(frozen=True, slots=True)
class Reading:
    """One stored reading."""

    stream: str
    n: int
    point: str
    id: str | None
    unit: str | None
    t_ns: int
    value: Any
    quality: str
    status: int
    basis: int
    flags: int
    lane: str
    received_at: int
    original: str | None
    """the time that came with it and is not its own"""


@dataclass(frozen=True, slots=True)
class Line:
    """One (device, stream) of the latest account beside what is stored."""

    source: Source
    destination: str
    first_n: int
    last_n: int | None
    accepted: int
    delivered: int
    waiting: int
    parked: int
    withheld: int
    dropped: int
    complete_n: int
    stored: int
    """distinct offsets in first_n..last_n"""
    absent_below_complete: int
    """offsets in first_n..complete_n that are not stored"""


class Difference(NamedTuple):
    """Where account and store disagree.

    unbalanced: the account's own sum is wrong; range: accepted is not last_n - first_n + 1; lost: fewer stored than
    delivered; surplus: more stored than delivered and everything that may have come without an acknowledgement;
    incomplete: more absent below complete_n than the account owns up to; unaccounted: stored, but in no account;
    beyond-close: stored beyond the last offset of a closed stream.
    """

    source: Source
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The outcome; `exact` means to the reading, with nothing left to send."""

    lines: list[Line]
    differences: list[Difference]

    @property
    def exact(self) -> bool:
        """There is an account, it agrees, and everything accepted is delivered and stored."""
        return (
            bool(self.lines)
            and not self.differences
            and all(x.accepted == x.delivered == x.stored and not x.waiting for x in self.lines)
        )


class Report:
    """Reads a centre's database, also while the centre writes it; context manager."""

    def __init__(self, path: Path) -> None:
        """Raises FileNotFoundError."""
        if not Path(path).exists():
            raise FileNotFoundError(f"no database {path}: start the centre first")
        self._db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def total(self) -> int:
        """Distinct readings stored."""
        return int(self._db.execute("SELECT count(*) FROM reading_rows").fetchone()[0])

    def counts(self) -> list[Count]:
        """One entry per source, events included (device `_events`)."""
        rows = self._db.execute(
            "SELECT source, stored, first_n, last_n, coalesce(d.offsets, 0), coalesce(d.copies, 0) FROM ("
            "  SELECT source, count(*) AS stored, min(n) AS first_n, max(n) AS last_n FROM"
            "  (SELECT source, n FROM reading_rows UNION ALL SELECT source, n FROM events) GROUP BY source)"
            "LEFT JOIN (SELECT source, count(*) AS offsets, sum(times) AS copies FROM duplicates GROUP BY source) d"
            "  USING (source) ORDER BY source"
        )
        names = self._sources()
        return [Count(names[row[0]], *row[1:]) for row in rows]

    def missing(self, *, from_zero: bool = True) -> list[Missing]:
        """Ranges of offsets that are not stored, up to the greatest seen (or announced when the stream was closed).

        A receiver that joined late asks with `from_zero` False: then each source begins with the first offset seen.
        Call them lost only after the backlog lane has passed them.
        """
        names, ends = self._sources(), self._closed()
        found: list[Missing] = []
        last_seen: dict[int, int] = {}
        for source, start, end in self._db.execute(ISLANDS).fetchall():
            expected = last_seen.get(source, 0 if from_zero else start)
            if start > expected:
                found.append(Missing(names[source], expected, start - 1))
            last_seen[source] = end
        by_name = {name: last_seen.get(source, 0) for source, name in names.items()}
        for closed, last in ends.items():
            if last >= by_name.get(closed, 0):
                found.append(Missing(closed, by_name.get(closed, 0), last))
        return found

    def duplicates(self) -> dict[Source, dict[int, int]]:
        """Source -> offset -> how often it came once too often."""
        names = self._sources()
        found: dict[Source, dict[int, int]] = {}
        for source, n, times in self._db.execute("SELECT source, n, times FROM duplicates"):
            found.setdefault(names[source], {})[n] = times
        return found

    def conflicts(self) -> list[tuple[Source, int, str, str]]:
        """(source, offset, stored content, content that came later) where one offset carried two readings."""
        names = self._sources()
        rows = self._db.execute("SELECT source, n, stored, came FROM conflicts")
        return [(names[row[0]], *row[1:]) for row in rows]

    def errors(self) -> dict[str, int]:
        """Kind -> messages that could not be taken."""
        return dict(self._db.execute("SELECT kind, count FROM errors"))

    def error_samples(self) -> list[tuple[str, str, str]]:
        """(kind, topic, detail) of the first errors of each kind."""
        return list(self._db.execute("SELECT kind, topic, detail FROM error_samples"))

    def readings(self, device: str, point: str | None = None) -> list[Reading]:
        """A device's readings in the order of stream and offset; times in ns, values as they were in the JSON."""
        rows = self._db.execute(
            "SELECT r.stream, r.n, r.point, r.id, (SELECT c.unit FROM catalogue_points c WHERE c.device = r.device "
            "  AND c.gateway = r.gateway AND c.enterprise = r.enterprise AND c.p = r.point AND c.id IS r.id "
            "  ORDER BY c.idx DESC LIMIT 1), "
            "r.t_ns, r.value, r.quality, r.status, r.basis, r.flags, r.lane, r.received_at, r.original FROM readings r "
            "WHERE r.device = ? AND (? IS NULL OR r.point = ?) ORDER BY r.stream, r.n",
            (device, point, point),
        )
        return [Reading(*(*row[:6], json.loads(row[6]), *row[7:])) for row in rows]

    def image(self, device: str) -> dict[str, tuple[int, Any, int, str]]:
        """Point -> (time in ns, value, status, when the image was taken) of its last image."""
        rows = self._db.execute("SELECT p, t_ns, value, status, taken FROM images WHERE device = ?", (device,))
        return {row[0]: (row[1], json.loads(row[2]), row[3], row[4]) for row in rows}

    def events(self, schema: str | None = None) -> list[dict[str, Any]]:
        """Event bodies in the order of source and offset."""
        rows = self._db.execute(
            "SELECT body FROM events WHERE ? IS NULL OR schema = ? ORDER BY source, n", (schema, schema)
        )
        return [json.loads(row[0]) for row in rows]

    def gaps(self) -> list[PlantGap]:
        """What the plant side lost, and what of it came after all; ask `missing` of each for what never did."""
        points: dict[tuple[str, str, str, str], set[str]] = {}
        for *place, p in self._db.execute("SELECT enterprise, gateway, device, stream, p FROM catalogue_points"):
            points.setdefault((place[0], place[1], place[2], place[3]), set()).add(p)
        return plant_gaps(self.events(), lambda *place: points.get(place, set()))

    def catalogue(self, device: str) -> dict[int, dict[str, Any]]:
        """Point index -> catalogue entry."""
        rows = self._db.execute("SELECT idx, body FROM catalogue_points WHERE device = ? ORDER BY idx", (device,))
        return {index: json.loads(body) for index, body in rows}

    def states(self) -> list[str]:
        """The states of status messages in the order of arrival."""
        return [status["state"] for status in self.statuses()]

    def statuses(self) -> list[dict[str, Any]]:
        """Status messages in the order of arrival."""
        return [json.loads(row[0]) for row in self._db.execute("SELECT body FROM status ORDER BY rowid")]

    def accounts(self) -> list[dict[str, Any]]:
        """Account messages in the order of arrival."""
        return [json.loads(row[0]) for row in self._db.execute("SELECT body FROM accounts ORDER BY account")]

    def reconcile(self) -> Reconciliation:
        """Compare what is stored with the latest account of each (destination, device, stream)."""
        names = self._sources()
        numbers = {name: number for number, name in names.items()}
        rows = self._db.execute(
            "SELECT enterprise, gateway, stream, device, destination, first_n, last_n, accepted, delivered, waiting, "
            "parked, withheld, dropped, complete_n FROM ("
            "  SELECT *, row_number() OVER (PARTITION BY enterprise, gateway, destination, device, stream"
            "    ORDER BY number DESC, account DESC) AS age FROM account_entries JOIN accounts USING (account)) "
            "WHERE age = 1 ORDER BY 1, 2, 4, 3"
        ).fetchall()
        lines = [self._line(row, numbers) for row in rows]
        differences = [difference for line in lines for difference in compare(line)]
        accounted = {line.source for line in lines}
        counts, closed = self.counts(), self._closed()
        differences += [
            Difference(count.source, "unaccounted", f"{count.stored} stored, in no account")
            for count in counts
            if count.source not in accounted
        ]
        differences += [
            Difference(count.source, "beyond-close", f"stored up to {count.last_n}, closed at {closed[count.source]}")
            for count in counts
            if count.last_n > closed.get(count.source, count.last_n)
        ]
        return Reconciliation(lines, differences)

    def _line(self, row: tuple[Any, ...], numbers: dict[Source, int]) -> Line:
        source = Source(*row[:4])
        _, first_n, last_n, *_, complete_n = row[4:]
        number = numbers.get(source)
        stored = 0 if last_n is None else self._stored(number, first_n, last_n + 1)
        absent = max(0, complete_n - first_n) - self._stored(number, first_n, complete_n)
        dropped = sum(json.loads(row[12]).values())
        return Line(*(source, *row[4:12], dropped, complete_n, stored, absent))

    def _stored(self, source: int | None, start: int, end: int) -> int:
        row = self._db.execute(
            "SELECT (SELECT count(*) FROM reading_rows WHERE source = ?1 AND n >= ?2 AND n < ?3)"
            " + (SELECT count(*) FROM events WHERE source = ?1 AND n >= ?2 AND n < ?3)",
            (source, start, end),
        ).fetchone()
        return int(row[0])

    def _closed(self) -> dict[Source, int]:
        """Last offset of every device in closed streams, as their events say."""
        return {
            Source(event["enterprise"], event["gateway"], event["closed"], device): last
            for event in self.events("stream/1")
            for device, last in event["last"].items()
        }

    def _sources(self) -> dict[int, Source]:
        return {row[0]: Source(*row[1:]) for row in self._db.execute("SELECT * FROM sources")}

    def summary(self) -> dict[str, Any]:
        """Everything above as plain data."""
        reconciliation = self.reconcile()
        gaps = self.gaps()
        return {
            "readings": self.total(),
            "sources": [_plain(count) for count in self.counts()],
            "missing": [_plain(entry) for entry in self.missing()],
            "duplicates": sum(count.copies for count in self.counts()),
            "conflicts": len(self.conflicts()),
            "errors": self.errors(),
            "gaps": {
                "told": len(gaps),
                "filled": sum(not gap.missing for gap in gaps),
                "not_filled": [asdict(gap) for gap in gaps if gap.missing],
            },
            "account": [_plain(line) for line in reconciliation.lines],
            "differences": [_plain(difference) for difference in reconciliation.differences],
            "exact": reconciliation.exact,
        }


def compare(line: Line) -> list[Difference]:
    """The disagreements in one line of the account."""
    found = []
    given_up = line.withheld + line.parked + line.dropped
    parts = line.delivered + line.waiting + given_up
    if line.accepted != parts:
        found.append(("unbalanced", f"accepted {line.accepted}, but its parts make {parts}"))
    span = 0 if line.last_n is None else line.last_n - line.first_n + 1
    if line.accepted != span:
        found.append(("range", f"accepted {line.accepted}, but offsets {line.first_n} to {line.last_n} are {span}"))
    if line.stored < line.delivered:
        found.append(("lost", f"delivered {line.delivered}, stored {line.stored}"))
    if line.stored > line.accepted - line.withheld:
        found.append(("surplus", f"stored {line.stored}, accepted {line.accepted}, withheld {line.withheld}"))
    if line.absent_below_complete > given_up:
        absent = line.absent_below_complete
        found.append(("incomplete", f"{absent} absent below {line.complete_n}, the account owns up to {given_up}"))
    return [Difference(line.source, kind, detail) for kind, detail in found]


def _plain(entry: Count | Line | Missing | Difference) -> dict[str, Any]:
    data: dict[str, Any] = asdict(entry) if isinstance(entry, Count | Line) else entry._asdict()
    del data["source"]
    return {**entry.source._asdict(), **data}
