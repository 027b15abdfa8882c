"""Small state: compare-and-set, all or nothing, and a damaged file that is set aside."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.log import LogFormatError, Put, StateConflictError, StateStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def state(path: Path) -> Iterator[StateStore]:
    state = StateStore(path)
    yield state
    state.close()


def test_a_change_needs_the_version_that_was_read(state: StateStore) -> None:
    assert state.get("a") is None
    assert state.put("a", {"ranges": [[1, 5]]}, 0) == 1
    assert state.put("a", [1], 1) == 2
    assert state.get("a") == (2, [1])
    with pytest.raises(StateConflictError, match="a has version 2, expected 1"):
        state.put("a", None, 1)
    with pytest.raises(StateConflictError):
        state.put("a", None, 0)
    state.delete("a")
    assert state.get("a") is None
    state.delete("a")


def test_many_changes_are_all_or_nothing(state: StateStore) -> None:
    state.put("a", 1, 0)
    with pytest.raises(StateConflictError):
        state.put_many([Put("b", 2, 0), Put("a", 2, 7)])
    assert state.get("b") is None
    assert state.put_many([Put("b", 2, 0), Put("a", 2, 1)]) == [1, 2]


def test_items_by_prefix(state: StateStore) -> None:
    state.put_many([("destination/b", 1, 0), ("destination/a", 2, 0), ("destination_x", 3, 0), ("位置/a", 4, 0)])
    assert list(state.items("destination/")) == [("destination/a", 1, 2), ("destination/b", 1, 1)]
    assert list(state.items("位置/")) == [("位置/a", 1, 4)]
    assert len(list(state.items(""))) == 4


def test_it_is_there_after_a_restart(path: Path) -> None:
    state = StateStore(path)
    state.put("a", 1, 0)
    state.close()
    state = StateStore(path)
    assert state.get("a") == (1, 1)
    assert state.damage is None
    state.close()


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_set_aside(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    state = StateStore(path)
    assert state.damage is not None
    assert "expect duplicates" in state.damage
    assert path.with_name("state.db.damaged").read_bytes() == content
    state.put("a", 1, 0)
    state.close()


def test_another_programs_database_is_set_aside(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE other (a)")
    connection.close()
    state = StateStore(path)
    assert state.damage is not None
    state.close()


def test_a_newer_version_is_refused(path: Path) -> None:
    StateStore(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=2")
    connection.close()
    with pytest.raises(LogFormatError, match="state format 2"):
        StateStore(path)
