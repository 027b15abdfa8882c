"""The power fails: what no sync had covered is lost, kept or torn, as a disk with a volatile cache leaves it.

A program runs with `environment()`: powercut/powercut.c below its libc keeps an undo journal of the folder. After
SIGKILL `fail` takes unsynced writes back. The model of the disk:

- What a sync has covered stays: of a file its bytes and its size, of a folder the names in it.
- Unsynced names are undone from the end: some first ones of them stay, as in every file system with a journal.
- Unsynced bytes are all lost, or kept up to some write that may be torn, or kept by sector of 512 or 4096 bytes in any
  order.

A lying disk says that it has synced and has not: `lie_s` seconds before the end nothing counts as synced.
"""

from __future__ import annotations

import atexit
import functools
import os
import random
import shutil
import struct
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

SOURCE: Final = Path(__file__).parent / "powercut" / "powercut.c"
WRITE, TRUNCATE, SYNC, CREATE, RENAME, UNLINK = range(1, 7)
NAMES: Final = (CREATE, RENAME, UNLINK)
HEAD: Final = struct.Struct("<IIQQQQQ")
Loss = Literal["all", "in order", "sectors"]
"""of what is not synced: all of it, all after some moment, or some sectors"""


class Entry(NamedTuple):
    """One entry of the journal, see powercut.c."""

    begins: int
    """its place in the journal"""
    kind: int
    time_ns: int
    inode: int
    offset: int
    length: int
    size: int
    payload: bytes

    @property
    def paths(self) -> tuple[Path, Path]:
        """Of an entry about names; the second is that of a renaming."""
        first, _, second = self.payload.partition(b"\0")
        return Path(os.fsdecode(first)), Path(os.fsdecode(second))


@dataclass(frozen=True, slots=True)
class Failure:
    """What a failure of the power did."""

    unsynced: int
    """changes that no sync had covered"""
    lost: int
    """of them taken back, wholly or in part"""


class PowerCut:
    """The disk under `folder`; its journal is in `home`, which is elsewhere."""

    def __init__(self, folder: Path, home: Path) -> None:
        """Raises CalledProcessError, FileNotFoundError where there is no C compiler."""
        self.folder = folder
        self._home = home
        home.mkdir()
        folder.mkdir(exist_ok=True)
        self._boot = home / "boot_id"
        self._begin()

    def environment(self) -> dict[str, str]:
        """For the program that shall meet the failure; its folder is as durable as it is now."""
        return {
            "LD_PRELOAD": str(_library()),
            "POWERCUT_FOLDER": str(self.folder),
            "POWERCUT_JOURNAL": str(self._home),
            "POWERCUT_BOOT": str(self._boot),
        }

    def fail(self, chance: random.Random, *, lie_s: float = 0.0, loss: Loss = "sectors") -> Failure:
        """Call it once the program is dead. `loss` is how unsynced bytes go; the machine has booted anew after it."""
        entries = list(_entries(self._home / "journal"))
        pending = _unsynced(entries, lie_s)
        # Everything from here on goes where the order counts; names go in their order in any case.
        stay = 0 if loss == "all" else chance.randint(0, len(pending))
        names = [entry for entry in pending if entry.kind in NAMES]
        kept = sum(entry.kind in NAMES for entry in pending[:stay])
        for entry in reversed(names[kept:]):
            self._undo_name(entry)
        lost = len(names) - kept
        changes: dict[int, list[Entry]] = {}
        for entry in pending:
            if entry.kind not in NAMES:
                changes.setdefault(entry.inode, []).append(entry)
        before = None if stay == len(pending) else -1 if loss == "all" else pending[stay].begins
        for path in sorted(path for path in self.folder.rglob("*") if path.is_file()):
            if changed := changes.get(path.stat().st_ino):
                lost += _rewrite(path, changed, chance, loss, before)
        for path in self.folder.rglob("*-shm"):
            path.unlink()
        self._begin()
        return Failure(len(pending), lost)

    def _begin(self) -> None:
        """Everything is durable as it is; the machine boots."""
        for path in (self._home / "journal", *self._home.glob("kept-*")):
            path.unlink(missing_ok=True)
        self._boot.write_text(f"{uuid.uuid4()}\n")

    def _undo_name(self, entry: Entry) -> None:
        first, second = entry.paths
        aside = self._home / f"kept-{entry.offset}"
        if entry.kind == CREATE and first.is_dir():
            shutil.rmtree(first)
        elif entry.kind == CREATE:
            first.unlink(missing_ok=True)  # it is not there where the kill came between note and deed
        elif entry.kind == UNLINK and not first.exists():
            os.link(aside, first)
        elif entry.kind == RENAME and not first.exists():
            second.rename(first)
            if entry.inode:
                os.link(aside, second)


@functools.cache
def _library() -> Path:
    """The shim, compiled once for this process."""
    home = Path(tempfile.mkdtemp(prefix="powercut-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    library = home / "powercut.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", library, SOURCE, "-ldl", "-lpthread"], check=True)
    return library


def _entries(journal: Path) -> Iterator[Entry]:
    """All that are whole; the kill may have cut the last one."""
    content = journal.read_bytes() if journal.exists() else b""
    at = 0
    while at + HEAD.size <= len(content):
        kind, payload, *numbers = HEAD.unpack_from(content, at)
        end = at + HEAD.size + payload
        if end > len(content):
            return
        yield Entry._make((at, kind, *numbers, content[at + HEAD.size : end]))
        at = end


def _unsynced(entries: list[Entry], lie_s: float) -> list[Entry]:
    changes = [entry for entry in entries if entry.kind != SYNC]
    if lie_s:
        return [entry for entry in changes if entry.time_ns >= entries[-1].time_ns - int(lie_s * 1e9)]
    synced: dict[int, int] = {}
    for entry in entries:
        if entry.kind == SYNC:
            synced[entry.inode] = max(synced.get(entry.inode, 0), entry.offset)
    return [entry for entry in changes if entry.begins >= synced.get(_covered_by(entry), 0)]


def _covered_by(entry: Entry) -> int:
    """The inode whose sync makes this durable."""
    return entry.paths[0].parent.stat().st_ino if entry.kind in NAMES else entry.inode


def _rewrite(path: Path, changes: list[Entry], chance: random.Random, loss: Loss, before: int | None) -> int:
    """Give a file what the disk kept of it; returns how many changes are not wholly there."""
    sector = chance.choice((512, 4096))
    image = bytearray(path.read_bytes())
    written = [_take_back(image, entry) for entry in reversed(changes)][::-1]
    kept: _InOrder | _BySector
    kept = _InOrder(before, chance, sector) if loss != "sectors" else _BySector(changes, chance, sector)
    lost = 0
    for entry, new in zip(changes, written, strict=True):
        whole = True
        if entry.kind == TRUNCATE:
            whole = kept.resizing(entry)
            if whole:
                _resize(image, entry.offset)
        for start in _sectors(entry, sector):
            if kept.sector(entry, start):
                at = max(start, entry.offset)
                _put(image, at, new[at - entry.offset : start + sector - entry.offset])
            else:
                whole = False
        lost += not whole
    path.write_bytes(image)
    return lost


class _InOrder:
    """Everything up to one change, which may be torn."""

    def __init__(self, before: int | None, chance: random.Random, sector: int) -> None:
        self._before = before
        self._chance = chance
        self._sector = sector

    def resizing(self, entry: Entry) -> bool:
        return self._before is None or entry.begins < self._before

    def sector(self, entry: Entry, start: int) -> bool:
        return self.resizing(entry) or (entry.begins == self._before and self._chance.random() < 0.5)


class _BySector:
    """Each sector as it was at a moment of its own: nothing, something or all of what was written to it."""

    def __init__(self, changes: list[Entry], chance: random.Random, sector: int) -> None:
        self._chance = chance
        part = chance.choice((0.0, 0.5, 0.9, 1.0))
        touching: dict[int, list[int]] = {}
        for entry in changes:
            for start in _sectors(entry, sector):
                touching.setdefault(start, []).append(entry.begins)
        self._until = {
            start: begins[chance.randrange(len(begins))] if chance.random() >= part else None
            for start, begins in touching.items()
        }
        self._resized = chance.random() < part

    def resizing(self, entry: Entry) -> bool:
        return self._resized

    def sector(self, entry: Entry, start: int) -> bool:
        until = self._until[start]
        return until is None or entry.begins < until


def _sectors(entry: Entry, sector: int) -> range:
    """Where the sectors begin that a write touches."""
    length = entry.length if entry.kind == WRITE else 0
    return range(entry.offset - entry.offset % sector, entry.offset + length, sector) if length else range(0)


def _take_back(image: bytearray, entry: Entry) -> bytes:
    """Undo one change; returns what it had written."""
    written = bytes(image[entry.offset : entry.offset + entry.length])
    if entry.kind == TRUNCATE and entry.offset < entry.size:
        del image[entry.offset :]
    image[entry.offset : entry.offset + len(entry.payload)] = entry.payload
    del image[entry.size :]
    return written


def _put(image: bytearray, at: int, content: bytes) -> None:
    if at > len(image) and content:
        _resize(image, at)
    image[at : at + len(content)] = content


def _resize(image: bytearray, size: int) -> None:
    del image[size:]
    image.extend(bytes(size - len(image)))
