"""Wear of the storage, from a made-up /proc and /sys."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.log.wear import Life, WearMeter, emmc_life, written_bytes
from tests.support.logs import SetClock
from tests.unit.log.test_storage import system

IO = "rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: 5\nwrite_bytes: {}\ncancelled_write_bytes: 7\n"


def emmc(tmp_path: Path, **files: str) -> Path:
    root = tmp_path / "root"
    contents = {f"device/{name}": text for name, text in {"type": "MMC", **files}.items()}
    system(root, tmp_path, disk="mmcblk0", files=contents)
    return root


@pytest.mark.parametrize(
    ("life_time", "reserve", "expected"),
    [
        ("0x01 0x02", "0x01", Life(0.1, 0.2, 1)),
        ("0x0a 0x0b", "0x03", Life(1.0, 1.1, 3)),
        ("0x00 0x03", "0x00", Life(None, 0.3, None)),
        ("0x0c 0xff", "garbage", Life(None, None, None)),
    ],
)
def test_life_of_an_emmc(tmp_path: Path, life_time: str, reserve: str, expected: Life) -> None:
    root = emmc(tmp_path, life_time=life_time, pre_eol_info=reserve)
    assert emmc_life(tmp_path / "log", root=root) == expected


def test_an_emmc_that_does_not_say(tmp_path: Path) -> None:
    assert emmc_life(tmp_path, root=emmc(tmp_path)) is None


def test_no_emmc(tmp_path: Path) -> None:
    system(tmp_path / "root", tmp_path, disk="sda", files={"queue/rotational": "0"})
    assert emmc_life(tmp_path, root=tmp_path / "root") is None
    assert emmc_life(tmp_path, root=tmp_path / "nothing") is None


def test_bytes_a_day_come_from_the_last_day(tmp_path: Path) -> None:
    clock = SetClock()
    io = tmp_path / "proc/self/io"
    io.parent.mkdir(parents=True)
    meter = WearMeter(tmp_path, clock, root=tmp_path)
    written = 0
    seen = []
    for minute in range(3 * 1440):
        io.write_text(IO.format(written))
        found = meter.measure()
        assert found.written == written
        seen.append(found.per_day)
        clock.advance(60)
        written += 1000 if minute < 1440 else 5000
    assert seen[:10] == [None] * 10
    assert seen[10] == pytest.approx(1440 * 1000)
    assert seen[1440] == pytest.approx(1440 * 1000)
    assert seen[-1] == pytest.approx(1440 * 5000)


def test_a_system_that_does_not_count(tmp_path: Path) -> None:
    assert written_bytes(root=tmp_path) is None
    found = WearMeter(tmp_path, SetClock(), root=tmp_path).measure()
    assert found == (None, None, None)


def test_this_machine_counts_what_is_synced(tmp_path: Path) -> None:
    before = written_bytes()
    assert before is not None
    (tmp_path / "file").write_bytes(bytes(1_000_000))
    after = written_bytes()
    assert after is not None
    assert after >= before
