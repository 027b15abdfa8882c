"""The centre's store: one SQLite file, written by one thread, batches of messages in one transaction each."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from simulators.centre.ranges import Ranges
from simulators.centre.schemas import SchemaSet
from simulators.centre.wire import Readings, WireError, decode, decompress, parse, parse_time

SAMPLES = 100
"""kept examples of each kind of error"""

ISLANDS = """
    SELECT source, min(n), max(n) + 1
    FROM (SELECT source, n, n - row_number() OVER (PARTITION BY source ORDER BY n) AS island
          FROM (SELECT source, n FROM reading_rows UNION ALL SELECT source, n FROM events))
    GROUP BY source, island ORDER BY 1, 2"""
"""Unbroken ranges of stored offsets: (source, first, beyond last)"""

Device = tuple[str, str, str]
"""(enterprise, gateway, device)"""


class Taken(NamedTuple):
    """What became of a message."""

    offsets: dict[str, Any] | None = None
    """enterprise, gateway, stream, device, n and count; None where it brings none, or they cannot be read"""
    stored: int = 0
    """readings and events that are stored now, or were before"""
    refused: str | None = None
    """kind of error for which they will never be taken"""
    later: bool = False
    """they will be taken once something else has come"""

    @classmethod
    def of(cls, message: dict[str, Any], stored: int) -> Taken:
        """For a message with offsets, as far as it can be read."""
        offsets = {key: message.get(key) for key in ("enterprise", "gateway", "stream", "device", "n")}
        # An event is one offset; what some kinds of event call `count` is how many readings they are about.
        offsets["count"] = 1 if message.get("device") == "_events" else message.get("count", 1)
        texts, numbers = list(offsets.values())[:4], list(offsets.values())[4:]
        whole = all(type(text) is str for text in texts) and all(type(number) is int for number in numbers)
        return cls(offsets if whole else None, stored)


class Store:
    """Takes messages as they came from the broker; `commit` makes them durable. Not thread-safe."""

    def __init__(self, path: Path, schemas: SchemaSet) -> None:
        """Open or create the database; what it holds already counts as received."""
        self._schemas = schemas
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA cache_size = -32000")
        self._db.executescript((Path(__file__).parent / "schema.sql").read_text(encoding="utf-8"))
        self._sources: dict[tuple[str, str, str, str], int] = {
            (row[1], row[2], row[3], row[4]): row[0] for row in self._db.execute("SELECT * FROM sources")
        }
        self._refs: dict[tuple[Device, str, str | None], int] = {
            ((row[1], row[2], row[3]), row[4], row[5]): row[0] for row in self._db.execute("SELECT * FROM points")
        }
        self._seen: dict[int, Ranges] = {}
        for source, start, end in self._db.execute(ISLANDS):
            self._seen.setdefault(source, Ranges()).add(start, end)
        self._catalogue: dict[Device, dict[int, int]] = {}
        for *device, index, p, id in self._db.execute(
            "SELECT enterprise, gateway, device, idx, p, id FROM catalogue_points"
        ):
            key: Device = (device[0], device[1], device[2])
            self._catalogue.setdefault(key, {})[index] = self._ref(key, p, id)
        self._versions: dict[Device, int] = {
            (row[0], row[1], row[2]): row[3] for row in self._db.execute("SELECT * FROM catalogue_versions")
        }
        self._parts: dict[tuple[Device, int], set[int]] = {}

    def close(self) -> None:
        """Close the database; what was not committed is gone."""
        self._db.close()

    def begin(self) -> None:
        """Start a transaction."""
        self._db.execute("BEGIN")

    def commit(self) -> None:
        """Make everything since `begin` durable against the end of this process."""
        self._db.execute("COMMIT")

    def take(
        self, topic: str, payload: bytes, received_at: int, *, encoding: str | None = None, retained: bool = False
    ) -> Taken:
        """Store one message (inside a transaction) and say what of it is stored.

        What is wrong with it is counted, not raised: it shows in the report.
        """
        if not payload:
            return Taken()  # a retained message was cleared
        message: dict[str, Any] = {}
        try:
            message = parse(decompress(payload, encoding))
            name = self._schemas.validate(message)
            if name in ("readings/1", "columns/1"):
                return Taken.of(message, self._take_readings(topic, decode(message), received_at, name, len(payload)))
            if message.get("device") == "_events":
                return Taken.of(message, self._take_event(topic, message, received_at, len(payload)))
            if name in ("image/1", "image-columns/1"):
                self._take_image(decode(message), message["time"])
            else:
                self._take_other(name, message, received_at, retained)
        except WireError as error:
            self._count_error(error, topic, payload, received_at)
            return Taken.of(message, 0)._replace(refused=error.kind, later=error.kind == "no-catalogue")
        return Taken()

    def _take_readings(self, topic: str, readings: Readings, received_at: int, name: str, size: int) -> int:
        assert readings.n is not None, "the schema says so"
        refs = self._refs_of(readings)
        source = self._source(readings.enterprise, readings.gateway, readings.stream, readings.device)
        message = self._db.execute(
            "INSERT INTO messages (topic, received_at, schema, lane, catalogue, bytes) VALUES (?, ?, ?, ?, ?, ?)",
            (topic, received_at, name, readings.lane, readings.catalogue, size),
        ).lastrowid
        end = readings.n + len(refs)
        rows: Iterable[tuple[Any, ...]] = zip(
            repeat(source),
            range(readings.n, end),
            refs,
            readings.times,
            readings.values,
            readings.status,
            readings.basis,
            readings.flags,
            repeat(message),
            readings.originals,
        )
        seen = self._seen.setdefault(source, Ranges())
        if seen.overlaps(readings.n, end):
            rows = self._new_rows(source, readings.n, end, list(rows))
        self._db.executemany("INSERT INTO reading_rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        seen.add(readings.n, end)
        return len(refs)

    def _take_image(self, readings: Readings, taken: str) -> None:
        """What the plant is like; no readings to be stored as such, because they have no offsets."""
        names = {ref: (key[1], key[2]) for key, ref in self._refs.items()}
        refs = self._refs_of(readings)
        columns = (readings.times, readings.values, readings.status, readings.basis, readings.flags, readings.originals)
        self._db.executemany(
            "INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (readings.enterprise, readings.gateway, readings.device, *names[ref], readings.stream, *row, taken)
                for ref, *row in zip(refs, *columns, strict=True)
            ],
        )

    def _refs_of(self, readings: Readings) -> list[int]:
        device = (readings.enterprise, readings.gateway, readings.device)
        if readings.indexes:
            return self._refs_of_indexes(device, readings)
        return [self._ref(device, p, id) for p, id in readings.points]

    def _refs_of_indexes(self, device: Device, readings: Readings) -> list[int]:
        known = self._versions.get(device, -1)
        if known < readings.catalogue:
            raise WireError("no-catalogue", f"{device[2]}: needs version {readings.catalogue}, known is {known}")
        catalogue = self._catalogue.get(device, {})
        try:
            return list(map(catalogue.__getitem__, readings.indexes))
        except KeyError as error:
            raise WireError("no-catalogue", f"{device[2]}: point index {error} is not in the catalogue") from None

    def _new_rows(self, source: int, start: int, end: int, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """The rows whose offsets are new; the others are counted as duplicates and compared with what is stored."""
        stored = {
            row[0]: row[1:]
            for row in self._db.execute(
                "SELECT n, p.p, t_ns, value, status, basis, flags, original "
                "FROM reading_rows JOIN points p ON p.ref = point WHERE source = ? AND n >= ? AND n < ?",
                (source, start, end),
            )
        }
        names = {ref: key[1] for key, ref in self._refs.items()}
        for row in rows:
            if row[1] in stored:
                came = (names[row[2]], *row[3:8], row[9])
                self._count_duplicate(source, row[1], stored[row[1]], came, row[8])
        return [row for row in rows if row[1] not in stored]

    def _count_duplicate(self, source: int, n: int, stored: Any, came: Any, message: int | None) -> None:
        self._db.execute(
            "INSERT INTO duplicates VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET times = times + 1", (source, n)
        )
        if stored != came:
            texts = (orjson.dumps(stored).decode(), orjson.dumps(came).decode())
            self._db.execute("INSERT INTO conflicts VALUES (?, ?, ?, ?, ?)", (source, n, *texts, message))

    def _take_event(self, topic: str, event: dict[str, Any], received_at: int, size: int) -> int:
        source = self._source(event["enterprise"], event["gateway"], event["stream"], "_events")
        n, lane = event["n"], event.pop("lane", None)
        body = orjson.dumps(event, option=orjson.OPT_SORT_KEYS).decode()
        message = self._db.execute(
            "INSERT INTO messages (topic, received_at, schema, lane, bytes) VALUES (?, ?, ?, ?, ?)",
            (topic, received_at, event["schema"], lane, size),
        ).lastrowid
        stored = self._db.execute("SELECT body FROM events WHERE source = ? AND n = ?", (source, n)).fetchone()
        if stored is not None:
            self._count_duplicate(source, n, stored[0], body, message)
        else:
            self._db.execute(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)",
                (source, n, event["schema"], event["time"], body, message),
            )
            self._seen.setdefault(source, Ranges()).add(n, n + 1)
        return 1

    def _take_other(self, name: str, message: dict[str, Any], received_at: int, retained: bool) -> None:
        gateway = (message["enterprise"], message["gateway"])
        body = orjson.dumps(message).decode()
        if name == "catalogue/1":
            self._take_catalogue(message, body, received_at)
        elif name == "account/1":
            self._take_account(message, body, received_at)
        elif name == "status/1":
            self._db.execute(
                "INSERT INTO status VALUES (?, ?, ?, ?, ?, ?)",
                (*gateway, received_at, message["state"], retained, body),
            )
        elif name == "confirm/1":
            return  # our own answer: the subscription to everything brings it back
        elif name == "health/1":
            self._db.execute("INSERT OR REPLACE INTO health VALUES (?, ?, ?, ?)", (*gateway, received_at, body))
        else:
            raise WireError("unexpected", f"{name} outside its place")

    def _take_catalogue(self, message: dict[str, Any], body: str, received_at: int) -> None:
        device: Device = (message["enterprise"], message["gateway"], message["device"])
        version, part, parts = message["version"], message["part"], message["parts"]
        self._db.execute(
            "INSERT OR REPLACE INTO catalogues VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*device, part, version, parts, received_at, body),
        )
        columns = ("index", "p", "id", "tag", "name", "unit", "type", "stream")
        self._db.executemany(
            "INSERT OR REPLACE INTO catalogue_points VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (*device, *(point.get(column) for column in columns), orjson.dumps(point).decode())
                for point in message["points"]
            ],
        )
        known = self._catalogue.setdefault(device, {})
        for point in message["points"]:
            known[point["index"]] = self._ref(device, point["p"], point["id"])
        came = self._parts.setdefault((device, version), set())
        came.add(part)
        if len(came) >= parts:
            del self._parts[(device, version)]
            if version > self._versions.get(device, -1):
                self._versions[device] = version
                self._db.execute("INSERT OR REPLACE INTO catalogue_versions VALUES (?, ?, ?, ?)", (*device, version))

    def _take_account(self, message: dict[str, Any], body: str, received_at: int) -> None:
        doubled = [key for key, c in Counter((e["device"], e["stream"]) for e in message["entries"]).items() if c > 1]
        if doubled:
            raise WireError("account", f"entries that come twice: {doubled}")
        account = self._db.execute(
            "INSERT INTO accounts (enterprise, gateway, destination, number, time, time_ns, period, complete_until, "
            "received_at, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(message[key] for key in ("enterprise", "gateway", "destination", "number", "time")),
                parse_time(message["time"]),
                message["period"],
                message["complete_until"],
                received_at,
                body,
            ),
        ).lastrowid
        keys = ("device", "stream", "first_n", "last_n", "accepted", "delivered", "withheld", "parked", "waiting")
        self._db.executemany(
            "INSERT INTO account_entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (account, *(entry[key] for key in keys), orjson.dumps(entry["dropped"]).decode(), entry["complete_n"])
                for entry in message["entries"]
            ],
        )

    def _source(self, enterprise: str, gateway: str, stream: str, device: str) -> int:
        key = (enterprise, gateway, stream, device)
        if key not in self._sources:
            row = self._db.execute(
                "INSERT INTO sources (enterprise, gateway, stream, device) VALUES (?, ?, ?, ?) RETURNING source", key
            ).fetchone()
            self._sources[key] = row[0]
        return self._sources[key]

    def _ref(self, device: Device, p: str, id: str | None) -> int:
        key = (device, p, id)
        ref = self._refs.get(key)
        if ref is None:
            row = self._db.execute(
                "INSERT INTO points (enterprise, gateway, device, p, id) VALUES (?, ?, ?, ?, ?) RETURNING ref",
                (*device, p, id),
            ).fetchone()
            ref = self._refs[key] = int(row[0])
        return ref

    def _count_error(self, error: WireError, topic: str, payload: bytes, received_at: int) -> None:
        count = self._db.execute(
            "INSERT INTO errors VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count",
            (error.kind,),
        ).fetchone()[0]
        if count <= SAMPLES:
            self._db.execute(
                "INSERT INTO error_samples VALUES (?, ?, ?, ?, ?)",
                (error.kind, received_at, topic, error.detail, payload[:2000].decode(errors="backslashreplace")),
            )
