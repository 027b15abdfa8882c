"""`edge-gateway log export` into files: whole or not at all, in every format, while the log goes on living."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arro3.io import read_parquet

from gateway.commands import log_parquet
from gateway.commands.main import main
from gateway.contract.batch import Batch, ValueType
from gateway.log import LogStore, LogView
from gateway.log.records import BatchRecord, PointRecord
from tests.support.logs import STREAM, T0, SetClock, crash, definitions, event, open_log, segment, small_disk
from tests.support.rig import config_folder

SEGMENTS = 20
SIZE = 500
FLOATS = np.array([20.1, float("nan"), -0.0, 1e-9, 3.4e38], np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def store(folder: Path) -> Iterator[LogStore]:
    """10,000 readings of float32 with a unit and an identifier, a bad one in each segment, one event in each."""
    store, _ = open_log(folder)
    point = PointRecord(
        "meter-2", 3, "flow", STREAM, 1, T0, type=ValueType.FLOAT32, unit="m³/h", id="88.118.8/meter-2.flow"
    )
    store.append([segment(*definitions(), point)], 1)
    for k in range(SEGMENTS):
        status, valid = np.zeros(SIZE), np.ones(SIZE)
        status[7], valid[7] = 0x808B0000, 0
        batch = Batch.of(
            "meter-2", ValueType.FLOAT32, np.full(SIZE, 3), np.resize(FLOATS, SIZE), valid=valid, status=status,
            received_time=T0 + k * 10**9, monotonic=0, source_time=T0 + (k * SIZE + np.arange(SIZE)) * 1_000_001,
        )  # fmt: skip
        gap = event(k, T0 + k * 10**9, of="meter-2" if k % 2 else "boiler-1", reason="device-down")
        store.append([segment(BatchRecord(STREAM, batch, None, k * SIZE), gap)], store.bounds().end)
    yield store
    store.close()


def export(folder: Path, *arguments: str, code: int = 0) -> None:
    assert main(["log", "export", str(folder), *arguments]) == code


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_all_formats_say_the_same(store: LogStore, folder: Path, tmp_path: Path) -> None:
    for name in ("csv", "jsonl", "parquet"):
        export(folder, "--format", name, "-o", str(tmp_path / f"out.{name}"))
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(lines) == SEGMENTS * SIZE
    assert lines[0] == {
        "source_time": "2026-02-02T02:40:00Z", "received_time": "2026-02-02T02:40:00Z", "device": "meter-2",
        "point": "flow", "id": "88.118.8/meter-2.flow", "value": 20.1, "unit": "m³/h", "status": 0, "quality": "good",
        "stream": STREAM, "n": 0,
    }  # fmt: skip
    assert (lines[7]["value"], lines[7]["status"], lines[7]["quality"]) == (None, 0x808B0000, "bad")
    assert lines[1]["source_time"] == "2026-02-02T02:40:00.001000001Z"
    as_text = rows_of((tmp_path / "out.csv").read_bytes().decode())
    for line, row in zip(lines, as_text, strict=True):
        assert {name: "" if value is None else str(value) for name, value in line.items()} == row | {
            "value": str(float(row["value"])) if row["value"] not in ("", "NaN") else row["value"]
        }
    table = read_parquet(tmp_path / "out.parquet").read_all()
    columns = {name: table.column(name).to_pylist() for name in table.schema.names}
    assert columns["n"] == [line["n"] for line in lines]
    for name in ("device", "point", "id", "unit", "status", "quality", "stream"):
        assert columns[name] == [line[name] for line in lines], name
    assert [None if v is None else repr(float(v)) for v in columns["value"]] == [
        None if line["value"] is None else repr(float(line["value"])) for line in lines
    ]
    assert set(columns["value_text"]) == {None}
    assert str(table.schema.field("source_time").type) == str(table.schema.field("received_time").type)
    ns = table.column("source_time").cast(table.schema.field("n").type).to_pylist()
    assert ns == [T0 + n * 1_000_001 for n in range(SEGMENTS * SIZE)]


def test_parquet_keeps_every_value_exactly(folder: Path, tmp_path: Path) -> None:
    values: dict[ValueType, list[tuple[Any, float | None, str | None]]] = {
        ValueType.BOOL: [(True, 1.0, None), (False, 0.0, None)],
        ValueType.INT64: [
            (-(2**53), -(2.0**53), None),
            (2**53 + 1, None, str(2**53 + 1)),
            (-(2**63), None, str(-(2**63))),
        ],
        ValueType.UINT64: [(2**64 - 1, None, str(2**64 - 1))],
        ValueType.FLOAT64: [(0.1, 0.1, None), (float("-inf"), float("-inf"), None)],
        ValueType.FLOAT32: [(20.1, 20.1, None)],
        ValueType.STRING: [("釜", None, "釜"), ("", None, ""), ('"\ud800', None, '"?')],
        ValueType.BYTES: [(b"\0\xff", None, "AP8=")],
        ValueType.JSON: [([1, {"a": None}], None, '[1,{"a":null}]'), ("a", None, '"a"')],
    }
    store, _ = open_log(folder)
    n = 0
    for type, cases in values.items():
        column = np.empty(len(cases) + 1, type.dtype)
        column[:-1] = [value for value, _, _ in cases] if type.dtype != object else 0
        for k, (value, _, _) in enumerate(cases):
            column[k] = value
        column[-1] = cases[0][0]
        valid = [True] * len(cases) + [False]
        batch = Batch.of("d", type, np.zeros(len(valid)), column, valid=valid, received_time=T0, monotonic=0)
        store.append([segment(BatchRecord(STREAM, batch, None, n))], store.bounds().end)
        n += len(valid)
    export(folder, "--format", "parquet", "-o", str(tmp_path / "out.parquet"))
    store.close()
    table = read_parquet(tmp_path / "out.parquet").read_all()
    found = list(zip(table.column("value").to_pylist(), table.column("value_text").to_pylist(), strict=True))
    assert found == [pair for cases in values.values() for pair in [*((v, t) for _, v, t in cases), (None, None)]]


def test_parquet_without_its_extra(
    store: LogStore, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "arro3.io", None)
    export(folder, "--format", "parquet", "-o", str(tmp_path / "out.parquet"), code=2)
    assert "pip install 'edge-gateway[parquet]'" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_events(store: LogStore, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(folder, "--events", "--format", "jsonl")
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["n"] for one in found] == list(range(SEGMENTS))
    assert found[1] == {
        "time": "2026-02-02T02:40:01Z", "stream": STREAM, "n": 1, "schema": "gap/1", "of": "meter-2",
        "reason": "device-down",
    }  # fmt: skip
    export(folder, "--events", "--device", "meter-*", "--from", "2026-02-02T02:40:03Z", "--to", "2026-02-02T02:40:07Z")
    rows = rows_of(capsys.readouterr().out)
    assert [(row["n"], row["of"], row["reason"], row["from"]) for row in rows] == [
        ("3", "meter-2", "device-down", ""), ("5", "meter-2", "device-down", "")
    ]  # fmt: skip
    assert json.loads(rows[0]["body"])["schema"] == "gap/1"
    export(folder, "--events", "--point", "flow", code=2)
    export(folder, "--events", "--format", "parquet", code=2)


def test_for_spreadsheets(store: LogStore, folder: Path, tmp_path: Path) -> None:
    config = config_folder(tmp_path / "config", folder)
    export(config, "--excel", "-o", str(tmp_path / "out.csv"), "--to", "2026-02-02T10:40:00.002")
    content = (tmp_path / "out.csv").read_bytes()
    assert content[:3] == b"\xef\xbb\xbf"
    rows = rows_of(content.decode("utf-8-sig"))
    assert [row["source_time (Asia/Shanghai)"] for row in rows] == ["2026-02-02 10:40:00", "2026-02-02 10:40:00.001"]
    export(config, "--excel", "--format", "jsonl", code=2)


def test_times_without_a_zone_are_the_gateways(
    store: LogStore, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And UTC where only the log's folder is known."""
    config = config_folder(tmp_path / "config", folder, timezone="America/New_York")
    counts = []
    for place, since in ((config, "2026-02-01T21:40:05"), (folder, "2026-02-02T02:40:05"), (config, "2026-02-02")):
        export(place, "--from", since)
        counts.append(len(rows_of(capsys.readouterr().out)))
    assert counts == [5000, 5000, 0]


def test_a_file_is_there_whole_or_not_at_all(
    store: LogStore, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "out.csv"
    there.write_text("mine")
    export(folder, "-o", str(there), code=1)
    assert "is there already; remove it" in capsys.readouterr().err
    assert there.read_text() == "mine"
    seen = []

    def interrupted(self: LogView, wanted: Any) -> Iterator[Any]:
        seen.extend(path.name for path in tmp_path.iterdir())
        raise KeyboardInterrupt
        yield

    with monkeypatch.context() as patch:
        patch.setattr(LogView, "segments", interrupted)
        for name in ("csv", "parquet"):
            export(folder, "--format", name, "-o", str(tmp_path / "new"), code=130)
    assert seen.count("new.part") == 2
    assert not list(tmp_path.glob("new*"))
    export(folder, "-o", str(tmp_path / "none" / "out.csv"), code=1)
    assert "cannot be written: No such file or directory" in capsys.readouterr().err
    export(folder, "-o", str(there / "out.csv"), code=1)
    assert "cannot be written: Not a directory" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet"])
def test_a_full_disk_is_said_and_leaves_nothing(
    store: LogStore, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    with small_disk(tmp_path) as disk:
        if disk.mounted:
            free = os.statvfs(disk.folder).f_bavail * os.statvfs(disk.folder).f_frsize
            (disk.folder / "ballast").write_bytes(bytes(free - 20_000))
            output = disk.folder / "out"
        else:
            output = Path("/dev/full/out")
        export(folder, "--format", name, "-o", str(output), code=1)
        error = capfd.readouterr().err
        if disk.mounted:
            assert f"{output}: the disk is full, nothing was kept" in error
            assert [path.name for path in disk.folder.iterdir()] == ["ballast"]
        assert "panicked" not in error


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet"])
def test_what_was_read_is_on_disk_before_the_rest_is_read(
    store: LogStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """So memory does not grow with what is asked for."""
    monkeypatch.setattr(log_parquet, "ROWS", 1000)
    monkeypatch.setattr(log_parquet, "BATCH", 500)
    sizes: list[int] = []
    segments = LogView.segments

    def watched(self: LogView, wanted: Any) -> Iterator[Any]:
        for one in segments(self, wanted):
            sizes.append((tmp_path / "out.part").stat().st_size)
            yield one

    monkeypatch.setattr(LogView, "segments", watched)
    export(folder, "--format", name, "-o", str(tmp_path / "out"))
    final = (tmp_path / "out").stat().st_size
    assert len(sizes) >= SEGMENTS
    assert sizes[SEGMENTS // 2] > 0.2 * final
    assert sizes[-1] > 0.6 * final


def test_whoever_has_read_enough_may_leave(store: LogStore, folder: Path) -> None:
    command = f"{sys.executable} -m gateway.commands.main log export {folder} | head -n 2"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert len(done.stdout.splitlines()) == 2
    assert "Broken pipe" not in done.stderr
    assert "Traceback" not in done.stderr


def on_screen(controller: int, until: str) -> str:
    """What was written to a terminal, which hands it over in pieces."""
    text = ""
    while until not in text:
        assert select.select([controller], [], [], 20)[0], f"{until} does not come after {text}"
        text += os.read(controller, 100_000).decode()
    return text


def test_progress_is_shown_at_a_terminal_alone(
    store: LogStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export(folder, "-o", str(tmp_path / "quiet.csv"))
    assert capsys.readouterr().err == "10,000 readings\n"
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    monkeypatch.setattr("gateway.commands.log_progress._EVERY_S", 0.0)
    with os.fdopen(terminal, "w", encoding="utf-8") as screen:
        monkeypatch.setattr(sys, "stderr", screen)
        export(folder, "-o", str(tmp_path / "shown.csv"))
        assert main(["log", "verify", str(folder)]) == 0
        screen.flush()
        text = on_screen(controller, until="data-00000000000000000001.db")
    os.close(controller)
    assert re.search(r"\[#{14,16} {14,16}\]  [45]\d %  5,000 readings", text)
    assert (tmp_path / "shown.csv").read_bytes() == (tmp_path / "quiet.csv").read_bytes()


def test_a_log_is_verified_while_it_is_trimmed_and_compacted(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SetClock()
    store, _ = open_log(folder, clock)
    store.append([segment(*definitions(), event(0))], 1)
    for k in range(1, 4):
        clock.advance(86_400)
        store.append([segment(event(k))], store.bounds().end)
    begun = LogView.verify

    def meanwhile(self: LogView, *arguments: Any) -> Any:
        assert store.compact(lambda _: True) or store.compact(lambda _: True) or True
        store.trim(store.files()[1].first)
        return begun(self, *arguments)

    monkeypatch.setattr(LogView, "verify", meanwhile)
    assert main(["log", "verify", str(folder)]) == 0, capsys.readouterr().out
    crash(store)


def test_an_export_beside_a_log_that_goes_on(store: LogStore, folder: Path, tmp_path: Path) -> None:
    """It is what the log was when the export began."""
    with LogView(folder) as view:
        assert view.end == SEGMENTS + 2
    moment = datetime(2026, 2, 2, 2, 40, tzinfo=UTC) + timedelta(days=1)
    export(folder, "-o", str(tmp_path / "before.csv"), "--to", moment.isoformat())
    store.append([segment(event(SEGMENTS))], store.bounds().end)
    export(folder, "-o", str(tmp_path / "after.csv"), "--to", moment.isoformat())
    assert (tmp_path / "before.csv").read_bytes() == (tmp_path / "after.csv").read_bytes()
