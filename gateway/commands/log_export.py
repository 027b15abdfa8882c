"""`edge-gateway log list` and `log export`: readings and events out of the log, beside a running gateway."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import orjson

from gateway.commands.equipment import OK, PARTLY, value_text, write_json
from gateway.commands.log_formats import Csv, JsonLines, Lines
from gateway.commands.log_parquet import write_parquet
from gateway.commands.log_place import Place, place_of
from gateway.commands.log_progress import Progress
from gateway.commands.log_query import Asked, Events, Readings, Rows
from gateway.contract import ConfigError, GatewayError
from gateway.log import LogView

FORMATS: Final = ("csv", "jsonl", "parquet")


class ExportError(GatewayError):
    """The output cannot be written."""


class Output(NamedTuple):
    """What is to be written, and where."""

    format: str = "csv"
    file: Path | None = None
    """None = standard output"""
    events: bool = False
    """events instead of readings"""
    excel: bool = False
    """CSV as spreadsheets want it"""


def main_list(path: Path, asked: Asked, limit: int, *, as_json: bool = False) -> int:
    """Show the first `limit` readings; returns 0, or 3 when something was damaged. Raises ConfigError, LogError."""
    place = place_of(path)
    query = asked.query(place)
    found: list[dict[str, Any]] = []
    lines = JsonLines()
    with LogView(place.folder) as view:
        readings = Readings(view, query)
        for rows in readings:
            found += map(orjson.loads, lines.rows(rows).splitlines())
            if len(found) >= limit:
                break
    found = found[:limit]
    if as_json:
        write_json({"readings": found, "damaged_segments": readings.damaged})
    else:
        sys.stdout.writelines(map(_in_words, found))
        if len(found) >= limit:
            sys.stdout.write(f"the first {limit}; --limit shows more, `log export` writes all\n")
    return _verdict(readings)


def main_export(path: Path, asked: Asked, output: Output) -> int:
    """Write readings or events to a file or to standard output; returns as `main_list`.

    Raises ConfigError, LogError, ExportError; a file is there whole or not at all.
    """
    place = place_of(path)
    query = asked.query(place)
    write = _writer(place, output)
    with LogView(place.folder) as view:
        source = Events(view, query) if output.events else Readings(view, query)
        progress = Progress(view.files[0].first, view.end)
        try:
            with _opened(output.file) as file:
                count = write(source, file, progress)
        except BrokenPipeError:
            # Whoever reads has enough, as `head` does; what Python still holds must not complain at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return OK
        finally:
            progress.clear()
    sys.stderr.write(f"{count:,} {'events' if output.events else 'readings'}\n")
    return _verdict(source)


def _writer(place: Place, output: Output) -> Callable[[Any, IO[bytes], Progress], int]:
    if output.format not in FORMATS:
        raise ConfigError(f"--format: expected one of {', '.join(FORMATS)}, found {output.format!r}")
    if output.excel and output.format != "csv":
        raise ConfigError("--excel: is a kind of csv; leave --format out")
    if output.format == "parquet":
        if output.events:
            raise ConfigError("--events: expected --format csv or jsonl, found parquet")
        if output.file is None:
            raise ConfigError("--format parquet: needs a file: --output FILE")
        return lambda source, file, progress: write_parquet(_watched(source, progress), file)
    lines: Lines = JsonLines() if output.format == "jsonl" else Csv(place.zone if output.excel else None)
    return _write_events(lines) if output.events else _write_readings(lines)


def _write_readings(lines: Lines) -> Callable[[Readings, IO[bytes], Progress], int]:
    def write(source: Readings, file: IO[bytes], progress: Progress) -> int:
        file.write(lines.head)
        count = 0
        for rows in _watched(source, progress):
            file.write(lines.rows(rows))
            count += len(rows.batch)
        return count

    return write


def _write_events(lines: Lines) -> Callable[[Events, IO[bytes], Progress], int]:
    def write(source: Events, file: IO[bytes], progress: Progress) -> int:
        file.write(lines.event_head)
        count = 0
        for record in source:
            file.write(lines.event(record))
            count += 1
            progress.show(source.position, f"{count:,} events")
        return count

    return write


def _watched(source: Readings, progress: Progress) -> Iterator[Rows]:
    count = 0
    for rows in source:
        yield rows
        count += len(rows.batch)
        progress.show(source.position, f"{count:,} readings")


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[IO[bytes]]:
    """Standard output; or a file that gets its name once everything is in it. Raises ExportError."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if path.exists():
        raise ExportError(f"{path}: is there already; remove it, or give another name with --output")
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                part.rename(path)
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(_not_written(path, error)) from error


def _not_written(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{path}: the disk is full, nothing was kept; free space, or ask for less with --from and --to"
    return f"{path}: cannot be written: {error.strerror or error}; give another place with --output"


def _in_words(row: dict[str, Any]) -> str:
    unit = f" {row['unit']}" if row["unit"] else ""
    status = "" if row["status"] == 0 else f"  {row['quality']} 0x{row['status']:08X}"
    return f"{row['source_time']:30}  {row['device']}  {row['point']}  {value_text(row['value'])}{unit}{status}\n"


def _verdict(source: Readings | Events) -> int:
    if source.damaged:
        sys.stderr.write(f"{source.damaged} damaged segments left out; `edge-gateway log verify` says where\n")
        return PARTLY
    return OK
