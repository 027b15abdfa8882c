"""Configs that were applied: kept as they were, at most twenty, for their owner alone."""

from __future__ import annotations

import stat
from pathlib import Path

from gateway.config.history import KEPT, History, Snapshot


def config(folder: Path, **files: str) -> Snapshot:
    (folder / "devices").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        place = folder if name == "gateway" else folder / "devices"
        (place / f"{name}.yaml").write_text(text, encoding="utf-8")
    return Snapshot.of(folder)


def test_what_was_applied_is_kept_to_the_byte_and_can_be_written_back(tmp_path: Path) -> None:
    log, folder = tmp_path / "log", tmp_path / "config"
    log.mkdir()
    history = History(log)
    assert history.newest() is None
    before = config(folder, gateway="gateway: {}\r\n# 网关\n", a="device: a\n", b="device: b")
    history.add(before, 1_700_000_000_000_000_000)
    (folder / "devices" / "b.yaml").unlink()
    after = config(folder, a="device: a\nevery: 1s\n", c="device: c\n")
    history.add(after, 1_700_000_001_000_000_000)
    newest, oldest = history.entries()
    assert (newest.digest, oldest.digest) == (after.digest, before.digest)
    assert oldest.time == 1_700_000_000_000_000_000
    lines = list(before.difference(after))
    assert "+every: 1s" in lines
    assert "--- a/devices/b.yaml" in lines
    oldest.snapshot.write(folder)
    assert Snapshot.of(folder) == before
    assert (folder / "gateway.yaml").read_bytes() == "gateway: {}\r\n# 网关\n".encode()
    assert sorted(path.name for path in (folder / "devices").iterdir()) == ["a.yaml", "b.yaml"]


def test_the_same_is_kept_once_and_the_oldest_goes(tmp_path: Path) -> None:
    history = History(tmp_path)
    for number in range(KEPT + 5):
        for _ in range(2):
            history.add(Snapshot({"gateway.yaml": f"n: {number}\n"}), number)
    kept = [one.snapshot.files["gateway.yaml"] for one in history.entries()]
    assert kept == [f"n: {number}\n" for number in reversed(range(5, KEPT + 5))]
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}


def test_an_entry_that_is_damaged_is_passed_over(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.add(Snapshot({"gateway.yaml": "a: 1\n"}), 1)
    history.add(Snapshot({"gateway.yaml": "a: 2\n"}), 2)
    sorted(tmp_path.iterdir())[1].write_bytes(b'{"time": 7')
    newest = history.newest()
    assert newest is not None
    assert newest.snapshot.files == {"gateway.yaml": "a: 1\n"}
    history.add(Snapshot({"gateway.yaml": "a: 3\n"}), 3)
    assert [one.snapshot.files["gateway.yaml"] for one in history.entries()] == ["a: 3\n", "a: 1\n"]


def test_the_hash_knows_names_and_borders() -> None:
    some = [{"a": "bc"}, {"ab": "c"}, {"a": "b", "c": ""}, {"a": "", "b": "c"}, {"a": "bc", "d": ""}]
    assert len({Snapshot(files).digest for files in some}) == len(some)
