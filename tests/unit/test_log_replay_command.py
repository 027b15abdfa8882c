"""`edge-gateway log replay`: what is asked for is counted exactly, and what cannot be is refused with the next step."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from gateway.commands.main import main
from gateway.contract.batch import Batch, ValueType
from gateway.log import LogStore, StateStore
from gateway.log.records import BatchRecord, Labels, StreamRecord
from gateway.publishing.clearance import Clearance, Rule
from gateway.publishing.replays import Replay, all_replays, put_request
from tests.support.logs import STREAM, T0, SetClock, definitions, event, open_log, segment
from tests.support.rig import config_folder

SECRET = "01KBBBBBBBBBBBBBBBBBBBBBBB"
CENTRE = {"name": "centre", "url": "mqtt://127.0.0.1", "max_grade": 1}
RANGE = ["--from", "2026-02-02T10:40:00", "--to", "2026-02-02T10:41:00"]
"""a minute from T0 on, in the config's zone, Asia/Shanghai"""


class Box:
    """Readings every 100 ms for 100 s of two devices, 100 to a segment; every tenth second a gap event. Two files."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self.config = config_folder(folder / "config", self.log, destinations=[CENTRE, CENTRE | {"name": "cloud"}])
        clock = SetClock()
        self.store, _ = open_log(self.log, clock)
        secret = StreamRecord(SECRET, Labels("production", 2, "general"), T0)
        self.store.append([segment(*definitions(), *definitions(device="meter-2")[1:], secret, event(0, T0 - 1))], 1)
        for second in range(0, 100, 10):
            batches = [self.batch(device, STREAM, second) for device in ("boiler-1", "meter-2")]
            gap = event(1 + second // 10, T0 + second * 10**9, of="meter-2")
            self.store.append([segment(*batches, gap)], self.store.bounds().end)
            if second == 40:
                clock.advance(86_400)
        self.state = StateStore(self.log / "state.db")

    @staticmethod
    def batch(device: str, stream: str, second: int) -> BatchRecord:
        times = T0 + second * 10**9 + np.arange(100) * 10**8
        batch = Batch.of(
            device, ValueType.FLOAT64, np.zeros(100), np.arange(100), received_time=int(times[-1]), monotonic=0,
            source_time=times,
        )  # fmt: skip
        return BatchRecord(stream, batch, None, second * 10)

    def replays(self) -> list[Replay]:
        return all_replays(self.state)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    yield box
    box.state.close()
    box.store.close()


@pytest.fixture
def call(box: Box, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str, code: int = 0) -> str:
        assert main(["log", "replay", str(box.config), *arguments]) == code, capsys.readouterr().err
        captured = capsys.readouterr()
        return captured.out if code == 0 else captured.err

    return call


@pytest.mark.parametrize(
    ("arguments", "readings", "positions"),
    [
        (RANGE, {"_events": 6, "boiler-1": 600, "meter-2": 600}, (2, 8)),
        ([*RANGE, "--device", "meter-*"], {"_events": 6, "meter-2": 600}, (2, 8)),
        ([*RANGE, "--device", "boiler-1"], {"boiler-1": 600}, (2, 8)),
        (
            ["--from", "2026-02-02T02:40:12.35Z", "--to", "2026-02-02T02:40:12.8Z"],
            {"boiler-1": 4, "meter-2": 4},
            (3, 4),
        ),
        (["--from", "2026-02-02", "--to", "2026-02-02T02:40:00Z"], {"_events": 1}, (1, 2)),
        ([*RANGE, "--by", "received"], {"_events": 6, "boiler-1": 600, "meter-2": 600}, (2, 8)),
    ],
)
def test_what_is_asked_for_is_counted(
    box: Box, call: Any, arguments: list[str], readings: dict[str, int], positions: tuple[int, int]
) -> None:
    dry = orjson.loads(call("--destination", "centre", *arguments, "--dry-run", "--json"))
    assert (dry["id"], dry["by_device"], dry["readings"]) == (None, readings, sum(readings.values()))
    assert box.replays() == []
    told = orjson.loads(call("--destination", "centre", *arguments, "--json"))
    assert told == dry | {"id": 1}
    (replay,) = box.replays()
    request = replay.request
    assert (request.first, request.end) == positions
    assert (request.readings, request.destination, replay.state) == (dry["readings"], "centre", "waiting")


def test_it_reads_well(box: Box, call: Any) -> None:
    text = call("--destination", "centre", *RANGE, "--device", "boiler-1")
    assert text == (
        "replay 1 to centre: 600 readings; 2026-02-02T10:40:00+08:00 to 2026-02-02T10:41:00+08:00 (source time), "
        "boiler-1\n  boiler-1: 600\n"
        "a running gateway begins within seconds, otherwise the next one that is started does\n"
        "--list shows how far it is, --cancel 1 ends it\n"
    )
    assert "replay 1 to centre: waiting, 0 of 600 sent again; 2026-02-02T10:40:00+08:00" in call("--list")
    assert "nothing was asked for" in call("--destination", "centre", *RANGE, "--dry-run")
    assert main(["log", "status", str(box.config)]) == 0


def test_a_replay_is_cancelled_once(box: Box, call: Any) -> None:
    call("--destination", "centre", *RANGE)
    assert "replay 1 to centre: cancelled" in call("--cancel", "1")
    assert "had ended already" in call("--cancel", "1", code=1)
    assert "there is no replay 7; open are: none" in call("--cancel", "7", code=2)
    assert call("--list", "--destination", "cloud") == "no replay was asked for\n"
    (found,) = orjson.loads(call("--list", "--json"))["replays"]
    assert (found["id"], found["state"], found["sent"], found["missing"]) == (1, "cancelled", 0, 1206)


def test_what_cannot_be_asked_for(box: Box, call: Any) -> None:
    centre = ["--destination", "centre"]
    for arguments, says in (
        (RANGE, "--destination: expected one of centre, cloud"),
        (["--destination", "center", *RANGE], "'center' is not known, did you mean 'centre'?"),
        (["--destination", "x", *RANGE], "'x' is not known; known are centre, cloud"),
        ([*centre, *RANGE, "--device", "boiler-2"], "--device: 'boiler-2' is not known, did you mean 'boiler-1'?"),
        ([*centre, "--from", "2026-02-02"], "--from and --to: both are needed"),
        ([*centre, "--from", "2026-02-03", "--to", "2026-02-03"], "--from: expected a time before --to"),
        ([*centre, "--from", "soon", "--to", "2026-02-03"], "--from: expected a time like"),
        ([*centre, *RANGE, "--by", "commit"], "--by: expected source or received"),
        (
            [*centre, "--from", "2027-01-01", "--to", "2027-01-02"],
            "no readings from 2027-01-01T00:00:00+08:00 to 2027-01-02T00:00:00+08:00 (source time); the log holds what "
            "was accepted from 2026-02-02T10:40:00+08:00 to 2026-02-03T10:40:00+08:00",
        ),
        ([*RANGE, "--list"], "--list and --cancel: each stands alone"),
        (["--list", "--cancel", "1"], "--list and --cancel: each stands alone"),
    ):
        assert says in call(*arguments, code=2), arguments
    assert box.replays() == []


def test_what_has_left_the_log_is_said(box: Box, call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    box.store.trim(box.store.files()[1].first)
    range = ["--from", "2026-02-02T10:40:00", "--to", "2026-02-05"]
    error = call("--destination", "centre", *range, code=3)
    assert "the log begins at 2026-02-03T10:40:00+08:00: what was accepted before is no longer there" in error
    (replay,) = box.replays()
    assert replay.request.readings == 1005, "what is there is sent all the same"


def test_the_clearance_is_looked_at_before(box: Box, call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    hidden = [Box.batch("meter-2", SECRET, second) for second in (0, 10)]
    for one in hidden:
        box.store.append([segment(one)], box.store.bounds().end)
    late = ["--from", "2026-02-02T10:40:00", "--to", "2026-02-02T10:40:20"]
    report = orjson.loads(call("--destination", "centre", *late, "--json"))
    assert (report["readings"], report["withheld"]) == (602, 200)
    # A destination that was entitled to nothing when they came: a relaxed rule does not release them.
    closed = Clearance(Rule(0))
    closed.apply([StreamRecord(STREAM, Labels("production", 1, "general"), T0)], 0)
    box.state.put("destination/cloud", {"clearance": closed.to_state(), "accounts": [], "ranges": [[1, None]]}, 0)
    error = call("--destination", "cloud", *late, code=1)
    assert "nothing of it may leave" in error
    assert [one.request.destination for one in box.replays()] == ["centre"]


def test_a_damaged_segment_is_said(box: Box, call: Any) -> None:
    with sqlite3.connect(box.store.files()[0].path) as connection:
        connection.execute("UPDATE segment SET body = zeroblob(length(body)) WHERE position = 2")
    connection.close()
    cut = ["--from", RANGE[1], "--to", "2026-02-02T10:40:12"]
    assert "1 damaged segments are left out" in call("--destination", "centre", *cut, "--device", "meter-2", code=3)
    assert box.replays()[0].request.readings == 21
    gone = ["--from", RANGE[1], "--to", "2026-02-02T10:40:05"]
    assert "1 damaged segments cannot be read" in call("--destination", "centre", *gone, code=2)


def test_where_nothing_ran_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_folder(tmp_path / "config", tmp_path / "log", destinations=[CENTRE])
    assert main(["log", "replay", str(config), "--list"]) == 2
    assert "the gateway has not run with this log.path yet" in capsys.readouterr().err
    (tmp_path / "log").mkdir()
    assert main(["log", "replay", str(tmp_path / "log"), "--list"]) == 2
    assert "expected a config's folder" in capsys.readouterr().err


def test_the_person_behind_sudo_is_named(box: Box, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "engineer")
    call("--destination", "centre", *RANGE)
    assert box.replays()[0].request.user == "engineer"


def test_status_shows_what_is_open(box: Box, call: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    call("--destination", "centre", *RANGE)
    call("--destination", "centre", *RANGE)
    call("--cancel", "1")
    assert isinstance(box.store, LogStore)
    (open_one,) = [one for one in box.replays() if one.state == "waiting"]
    assert put_request(box.state, open_one.request).id == 3
    assert main(["log", "status", str(box.config)]) == 0
    text = capsys.readouterr().out
    assert "replay 1" not in text
    assert "  replay 2 to centre: waiting, 0 of 1,206 sent again" in text
    assert main(["log", "status", str(box.config), "--json"]) == 0
    assert [one["id"] for one in orjson.loads(capsys.readouterr().out)["replays"]] == [2, 3]
