"""`edge-gateway log list` and `log export`: readings out of the log, beside a running gateway."""

from __future__ import annotations

import base64
import csv
import fnmatch
import json
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO

from gateway.commands.equipment import OK, finite, value_text
from gateway.commands.log_status import folder_of
from gateway.contract import ConfigError
from gateway.log import LogView, Outline
from gateway.log.records import BatchRecord, PointRecord, Segment
from gateway.rfc3339 import rfc3339

PARTLY = 3
COLUMNS: Final = (
    "source_time", "received_time", "device", "point", "value", "unit", "status", "stream", "n"
)  # fmt: skip
FORMATS: Final = ("csv", "jsonl")
_PROGRESS_S: Final = 1.0


class Query(NamedTuple):
    """Which readings; times in ns since the Unix epoch, `until` itself left out."""

    device: str | None = None
    """a name, `*` and `?` stand for others"""
    point: str | None = None
    since: int | None = None
    until: int | None = None
    by_received: bool = False
    """times are those of arrival, not of the source"""

    def outlined(self, outline: Outline) -> bool:
        """Can there be something in this segment?"""
        if self.device is not None and not any(self._of_device(one.series.device) for one in outline.series):
            return False
        if self.by_received:
            return self._within(outline.min_received, outline.max_received)
        return self._within(outline.min_source, outline.max_source)

    def of_device(self, device: str) -> bool:
        """Is this device meant?"""
        return self.device is None or self._of_device(device)

    def _of_device(self, device: str) -> bool:
        return fnmatch.fnmatchcase(device, self.device or "*")

    def _within(self, low: int, high: int) -> bool:
        return (self.since is None or high >= self.since) and (self.until is None or low < self.until)


def query_of(device: str | None, point: str | None, since: str | None, until: str | None, by: str) -> Query:
    """What the options ask for. Raises ConfigError."""
    if by not in ("source", "received"):
        raise ConfigError(f"--by: expected source or received, found {by!r}")
    return Query(device, point, time_of(since, "--from"), time_of(until, "--to"), by == "received")


def time_of(text: str | None, option: str) -> int | None:
    """RFC 3339, or a date, UTC where no zone is given; as ns. Raises ConfigError."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{option}: expected a time like 2026-11-20T08:00:00Z, found {text!r}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    whole = moment.replace(microsecond=0)
    return int(whole.timestamp()) * 1_000_000_000 + moment.microsecond * 1000


def main_list(place: Path, query: Query, limit: int, *, as_json: bool = False) -> int:
    """Show the first `limit` readings; returns 0, or 3 when something was damaged. Raises ConfigError, LogError."""
    rows: list[dict[str, Any]] = []
    with LogView(folder_of(place)) as view:
        readings = _Readings(view, query)
        for row in readings:
            rows.append(row)
            if len(rows) >= limit:
                break
    if as_json:
        sys.stdout.write(_json({"readings": rows, "damaged_segments": readings.damaged}) + "\n")
    else:
        for row in rows:
            value = value_text(row["value"])
            unit = f" {row['unit']}" if row["unit"] else ""
            status = "" if row["status"] == 0 else f"  0x{row['status']:08X}"
            sys.stdout.write(f"{row['source_time']:30}  {row['device']}  {row['point']}  {value}{unit}{status}\n")
        if len(rows) >= limit:
            sys.stdout.write(f"the first {limit}; --limit shows more, `log export` writes all\n")
    return _verdict(readings)


def main_export(place: Path, query: Query, format: str, output: Path | None) -> int:
    """Write readings to a file or to standard output; returns as `main_list`. Raises ConfigError, LogError, OSError."""
    if format not in FORMATS:
        raise ConfigError(f"--format: expected one of {', '.join(FORMATS)}, found {format!r}")
    with LogView(folder_of(place)) as view:
        readings = _Readings(view, query)
        if output is None:
            count = _write(sys.stdout, _with_progress(readings, view), format)
        else:
            with output.open("x", encoding="utf-8", newline="") as file:
                count = _write(file, _with_progress(readings, view), format)
    sys.stderr.write(f"{count:,} readings\n")
    return _verdict(readings)


class _Readings:
    """The readings that a query asks for, as dicts of `COLUMNS`, in the log's order."""

    def __init__(self, view: LogView, query: Query) -> None:
        self._view = view
        self._query = query
        self._points = {(r.device, r.index): r for r in view.records if isinstance(r, PointRecord)}
        self.position = view.files[0].first
        self.damaged = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for segment in self._view.segments(self._query.outlined):
            self.position = segment.position
            self.damaged += segment.damage is not None
            yield from self._of_segment(segment)

    def _of_segment(self, segment: Segment) -> Iterator[dict[str, Any]]:
        for record in segment.records:
            if isinstance(record, BatchRecord) and self._query.of_device(record.batch.device):
                yield from self._of_batch(record)

    def _of_batch(self, record: BatchRecord) -> Iterator[dict[str, Any]]:
        batch, query = record.batch, self._query
        received = rfc3339(batch.received_time)
        rows = zip(
            batch.points.tolist(), map(_plain, batch.values.tolist()), batch.valid.tolist(), batch.status.tolist(),
            batch.source_time.tolist(), strict=True,
        )  # fmt: skip
        for k, (index, value, valid, status, source_time) in enumerate(rows):
            at = batch.received_time if query.by_received else source_time
            if (query.since is not None and at < query.since) or (query.until is not None and at >= query.until):
                continue
            entry = self._points.get((batch.device, index))
            name = entry.point if entry else str(index)
            if query.point is not None and not fnmatch.fnmatchcase(name, query.point):
                continue
            found = (
                rfc3339(source_time), received, batch.device, name, value if valid else None,
                entry.unit if entry else None, status, record.stream, record.n + k,
            )  # fmt: skip
            yield dict(zip(COLUMNS, found, strict=True))


def _write(file: TextIO, rows: Iterable[dict[str, Any]], format: str) -> int:
    count = 0
    writer = csv.writer(file)
    if format == "csv":
        writer.writerow(COLUMNS)
    for row in rows:
        if format == "csv":
            writer.writerow([_cell(value) for value in row.values()])
        else:
            file.write(_json(row) + "\n")
        count += 1
    return count


def _plain(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _json(value: Any) -> str:
    # ASCII alone: a device's text may hold what UTF-8 cannot.
    return json.dumps(finite(value))


def _cell(value: Any) -> Any:
    match value:
        case bool():
            return "true" if value else "false"
        case list() | dict():
            return _json(value)
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case _:
            return value


def _with_progress(readings: _Readings, view: LogView) -> Iterator[dict[str, Any]]:
    first = view.files[0].first
    span = max(1, view.end - first)
    due = time.monotonic() + _PROGRESS_S
    shown = sys.stderr.isatty()
    for count, row in enumerate(readings):
        if shown and count % 1000 == 0 and time.monotonic() >= due:
            due = time.monotonic() + _PROGRESS_S
            sys.stderr.write(f"\r{100 * (readings.position - first) // span} %  {count:,} readings ")
            sys.stderr.flush()
        yield row
    if shown:
        sys.stderr.write("\r")


def _verdict(readings: _Readings) -> int:
    if readings.damaged:
        sys.stderr.write(f"{readings.damaged} damaged segments left out; `edge-gateway log verify` says where\n")
        return PARTLY
    return OK
