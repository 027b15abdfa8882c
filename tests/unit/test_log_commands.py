"""`edge-gateway log status|verify|list|export`: beside a gateway that writes, without a byte of difference to it."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.commands.main import main
from gateway.contract.batch import Batch, ValueType
from gateway.log import LogStore, StateStore, datafile
from gateway.log.records import BatchRecord, PointRecord
from tests.support.logs import STREAM, T0, SetClock, definitions, event, open_log, reading, segment

DAY = 86_400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def store(folder: Path) -> Any:
    """Three files, the second in blocks, the last being written: 600 readings of each of two devices."""
    clock = SetClock()
    store, _ = open_log(folder, clock)
    meter = PointRecord("meter-2", 0, "flow", STREAM, 1, T0, type=ValueType.FLOAT64, tag="FI-201", unit="m³/h")
    store.append([segment(*definitions(), meter, event(0))], 1)
    for day in range(3):
        for k in range(20):
            n = 200 * day + 10 * k
            batches = [record(device, n, day * DAY + 20 * k) for device in ("boiler-1", "meter-2")]
            store.append([segment(one) for one in batches], store.bounds().end)
        if day < 2:
            clock.advance(DAY)
    assert store.compact(lambda _: True)
    assert [file.in_blocks for file in store.files()] == [False, True, False]
    yield store
    with contextlib.suppress(OSError):  # a test may have closed it
        store.close()


def record(device: str, n: int, at_s: int) -> BatchRecord:
    times = T0 + (at_s + np.arange(10)) * 10**9
    values = np.array([0.5 * k for k in range(10)])
    batch = Batch.of(
        device, ValueType.FLOAT64, np.zeros(10), values, received_time=int(times[-1]) + 3600 * 10**9, monotonic=0,
        source_time=times,
    )  # fmt: skip
    return BatchRecord(STREAM, batch, None, n)


def state_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.endswith("-shm")}


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(["log", *arguments]) == code
    return capsys.readouterr().out


def exported(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(run(capsys, "export", *arguments))))


def test_status(store: LogStore, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = state_of(folder)
    text = run(capsys, "status", str(folder))
    assert "positions 1 to 121" in text
    assert "in 3 files, 1 of them in blocks" in text
    assert "boiler-1: 600 readings" in text
    found = json.loads(run(capsys, "status", str(folder), "--json"))
    assert found["positions"] == {"first": 1, "end": 122}
    assert found["readings"] == {"_events": 1, "boiler-1": 600, "meter-2": 600}
    assert (found["from"], found["to"]) == ("2026-02-02T02:40:00Z", "2026-02-04T02:40:00Z")
    assert found["bytes"] == sum(file.bytes for file in store.files())
    assert state_of(folder) == before
    assert store.append([segment(record("boiler-1", 600, 0))], 122) == 123
    store.trim(store.files()[1].first)
    found = json.loads(run(capsys, "status", str(folder), "--json"))
    assert found["readings"] == {"boiler-1": 410, "meter-2": 400}


def test_status_of_destinations(store: LogStore, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    accounts = [
        [STREAM, "boiler-1", 0, 100, T0, T0, 60, 10, 3, {"budget": 7}],
        [STREAM, "meter-2", 50, 600, T0, T0, 550, 0, 0, {}],
    ]
    state = StateStore(folder / "state.db")
    state.put("destination/centre", {"ranges": [[20, None]], "accounts": accounts}, 0)
    before = state_of(folder)
    (found,) = json.loads(run(capsys, "status", str(folder), "--json"))["destinations"]
    assert (found["name"], found["waiting"], found["parked"]) == ("centre", 600 - 60 - 10 - 3 - 7, 3)
    counts = "610 delivered, 520 waiting, 3 parked, 10 withheld, 7 dropped"
    assert f"destination centre: of 1,150 accepted {counts} (as last saved)" in run(capsys, "status", str(folder))
    assert state_of(folder) == before
    state.close()
    assert json.loads(run(capsys, "status", str(folder), "--json"))["destinations"] == [found]


@pytest.mark.parametrize("closed", [False, True])
def test_export_gives_every_reading_once(
    store: LogStore, folder: Path, capsys: pytest.CaptureFixture[str], closed: bool
) -> None:
    if closed:
        store.close()
    before = state_of(folder)
    rows = exported(capsys, str(folder))
    assert state_of(folder) == before
    assert [row["n"] for row in rows if row["device"] == "meter-2"] == [str(n) for n in range(600)]
    assert len(rows) == 1200
    assert rows[0] == {
        "source_time": "2026-02-02T02:40:00Z",
        "received_time": "2026-02-02T03:40:09Z",
        "device": "boiler-1",
        "point": "steam_pressure",
        "id": "",
        "value": "0.0",
        "unit": "MPa",
        "status": "0",
        "quality": "good",
        "stream": STREAM,
        "n": "0",
    }


def test_export_of_a_device_a_point_and_a_time(
    store: LogStore, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(folder)
    assert len(exported(capsys, place, "--device", "meter-*")) == 600
    assert {row["device"] for row in exported(capsys, place, "--point", "flow")} == {"meter-2"}
    assert {row["device"] for row in exported(capsys, place, "--point", "FI-*")} == {"meter-2"}
    span = ["--from", "2026-02-03T02:40:05Z", "--to", "2026-02-03T02:40:25"]
    times = [row["source_time"] for row in exported(capsys, place, "--device", "boiler-1", *span)]
    assert times == [f"2026-02-03T02:40:{second:02}Z" for second in (*range(5, 10), *range(20, 25))]
    assert exported(capsys, place, "--by", "received", *span) == []
    span = ["--from", "2026-02-03T03:40:09Z", "--to", "2026-02-03T03:40:10Z", "--by", "received"]
    assert [row["n"] for row in exported(capsys, place, "--device", "boiler-1", *span)] == list(
        map(str, range(200, 210))
    )


def test_export_as_json_lines_into_a_file(
    store: LogStore, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.jsonl"
    run(capsys, "export", str(folder), "--format", "jsonl", "-o", str(output))
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(rows) == 1200
    assert [row["value"] for row in rows[:2]] == [0.0, 0.5]
    assert main(["log", "export", str(folder), "-o", str(output)]) == 1  # never over a file that is there
    assert len(output.read_text().splitlines()) == 1200


def test_export_of_every_type_of_value(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values: dict[ValueType, tuple[Any, Any, str]] = {
        ValueType.BOOL: (True, True, "true"),
        ValueType.UINT64: (2**64 - 1, 2**64 - 1, str(2**64 - 1)),
        ValueType.FLOAT64: (float("nan"), "NaN", "NaN"),
        ValueType.FLOAT32: (20.1, 20.1, "20.1"),
        ValueType.STRING: ('釜"\ud800', '釜"?', '釜"?'),
        ValueType.BYTES: (b"\0\xff", "AP8=", "AP8="),
        ValueType.JSON: ([1, {"a": None}], [1, {"a": None}], '[1,{"a":null}]'),
    }
    store, _ = open_log(folder)
    for k, (type, (value, _, _)) in enumerate(values.items()):
        column = np.empty(1, type.dtype)
        column[0] = value
        batch = Batch.of("d", type, [k], column, received_time=T0, monotonic=0)
        store.append([segment(BatchRecord(STREAM, batch, None, k))], k + 1)
    assert [row["value"] for row in exported(capsys, str(folder))] == [text for _, _, text in values.values()]
    lines = run(capsys, "export", str(folder), "--format", "jsonl").splitlines()
    assert [json.loads(line)["value"] for line in lines] == [expected for _, expected, _ in values.values()]
    assert len(run(capsys, "list", str(folder)).splitlines()) == len(values)
    store.close()


def test_list(store: LogStore, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "list", str(folder), "--device", "meter-2", "--limit", "2").splitlines()
    assert text[0].split() == ["2026-02-02T02:40:00Z", "meter-2", "flow", "0", "m³/h"]
    assert text[2] == "the first 2; --limit shows more, `log export` writes all"
    found = json.loads(run(capsys, "list", str(folder), "--json"))
    assert len(found["readings"]) == 100


def test_verify(store: LogStore, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = state_of(folder)
    assert run(capsys, "verify", str(folder)) == "3 files, 121 positions: whole\n"
    assert state_of(folder) == before
    with sqlite3.connect(store.files()[0].path) as connection:
        connection.execute("UPDATE segment SET body = zeroblob(length(body)) WHERE position = 4")
    connection.close()
    with sqlite3.connect(store.files()[1].path) as connection:
        connection.execute("UPDATE block SET body = zeroblob(length(body))")
    connection.close()
    text = run(capsys, "verify", str(folder), code=1)
    assert "data-00000000000000000001.db, position 4: position 4: the body's checksum does not match" in text
    assert "positions 42 to 81: the checksum of the block does not match" in text
    assert "2 damaged" in text
    found = json.loads(run(capsys, "verify", str(folder), "--json", code=1))
    assert [(one["file"][-6:], one["position"]) for one in found["damage"]] == [("001.db", 4), ("042.db", 42)]
    assert len(exported_with_damage(capsys, folder)) == 1200 - 10 - 400


def exported_with_damage(capsys: pytest.CaptureFixture[str], folder: Path) -> list[str]:
    """Exit code 3: some of what was asked for is missing."""
    assert main(["log", "export", str(folder)]) == 3
    captured = capsys.readouterr()
    assert "damaged segments left out" in captured.err
    return captured.out.splitlines()[1:]


def test_verify_finds_what_is_missing(store: LogStore, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(store.files()[2].path) as connection:
        connection.execute("DELETE FROM segment WHERE position = 95")
    connection.close()
    store.files()[1].path.unlink()
    text = run(capsys, "verify", str(folder), code=1)
    assert "positions 42 to 81 are missing before it" in text
    assert "positions 95 to 95 are missing" in text


def test_a_file_set_aside_is_shown(store: LogStore, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / f"data-{1:020d}.db{datafile.DAMAGED}").write_bytes(b"")
    assert "set aside by a start" in run(capsys, "verify", str(folder), code=1)
    assert "set aside by a start" in run(capsys, "status", str(folder))


def test_what_is_wrong_with_the_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "status", str(tmp_path / "none")]) == 2
    assert "expected the log's folder or a config's folder" in capsys.readouterr().err
    assert main(["log", "status", str(tmp_path)]) == 1
    assert "no log here" in capsys.readouterr().err
    assert main(["log", "list", str(tmp_path), "--from", "yesterday"]) == 2
    assert "--from: expected a time like" in capsys.readouterr().err
    assert main(["log", "list", str(tmp_path), "--by", "commit"]) == 2
    assert main(["log", "export", str(tmp_path), "--format", "xml"]) == 2


def test_a_crashed_log_is_read_with_its_write_ahead_log(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, _ = open_log(folder)
    for k in range(5):
        store.append([segment(reading(10 * k))], k + 1)
    for path in folder.iterdir():
        if not path.name.endswith("-shm"):
            (tmp_path / "copy").mkdir(exist_ok=True)
            (tmp_path / "copy" / path.name).write_bytes(path.read_bytes())
    store.close()
    assert len(exported(capsys, str(tmp_path / "copy"))) == 50
