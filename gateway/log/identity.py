"""How the log knows that it is the one this box wrote last: machine id, inodes, and a witness beside the folder.

Nothing here refuses anything: a doubt costs a new stream, which is cheap, where an offset used twice is not.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson

LOCK_NAME: Final = "lock"
RING_NAME: Final = "ring"
WITNESS_BYTES: Final = 512
WITNESS_EVERY_NS: Final = 1_000_000_000
_SOURCES: Final = ("etc/machine-id", "sys/class/dmi/id/product_uuid", "sys/firmware/devicetree/base/serial-number")


def machine_id(generated: Path, *, root: Path = Path("/")) -> str:
    """An id of this machine, 32 hex digits: from /etc/machine-id (machine-id(5)), the DMI product uuid and the device
    tree's serial number, as many as there are.

    A cloned disk keeps its machine-id, but not the board's own number. Where there is none of them, an id is made
    once and kept in the file `generated`; a file that cannot be written costs a new stream at every start.
    """
    found = [text for source in _SOURCES if (text := _read_text(root / source))]
    if not found:
        made = _read_text(generated)
        if not made:
            made = uuid.uuid4().hex
            with contextlib.suppress(OSError):
                generated.write_text(made)
        found = [made]
    return hashlib.sha256("\n".join(found).encode()).hexdigest()[:32]


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().strip(b"\0\n ").decode("ascii", "replace")
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Witnessed:
    """What the witness last saw of the log."""

    log: str
    session: str
    position: int
    """end of the log"""
    total: int
    """sum of all next offsets"""


class Witness:
    """The file `<folder>.witness`, one block overwritten in place.

    It lies outside the folder, so that an older copy of the folder meets a younger witness. Best effort: where it
    cannot be written, `usable` is False.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder.with_name(folder.name + ".witness")
        self.usable = False
        self._file = -1
        self._written_ns: int | None = None

    def read(self) -> Witnessed | None:
        """What it says; None when it is missing or unreadable."""
        try:
            found = orjson.loads(self.path.read_bytes())
            return Witnessed(found["log"], found["session"], found["position"], found["total"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def open(self) -> None:
        """Make it writable and lasting, if that can be done."""
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            self.usable = True
        except OSError:
            self.usable = False

    def write(self, seen: Witnessed, now_ns: int, *, sync: bool = False) -> None:
        """Overwrite it, at most once a second unless `sync`; `now_ns` is monotonic."""
        if not self.usable:
            return
        if not sync and self._written_ns is not None and 0 <= now_ns - self._written_ns < WITNESS_EVERY_NS:
            return
        document = {"log": seen.log, "session": seen.session, "position": seen.position, "total": seen.total}
        # A failed update leaves an older witness, which knows less but nothing wrong.
        with contextlib.suppress(OSError):
            os.pwrite(self._file, orjson.dumps(document).ljust(WITNESS_BYTES), 0)
            if sync:
                os.fsync(self._file)
            self._written_ns = now_ns

    def close(self) -> None:
        """Give the file back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self.usable = False


@dataclass(frozen=True, slots=True)
class Session:
    """One start of the gateway, as written into the newest data file."""

    session: str
    previous: str | None
    started: int
    """ns since the epoch"""
    end: int
    inodes: dict[str, int]
    """of the lock, of the ring where there is one, and of the data file that holds this row"""
    witness: bool
    boot: str | None = None
    """id of the boot of the machine, None where the system does not say"""

    def on(self, inodes: dict[str, int], end: int) -> Session:
        """The same start, as another data file will hold it."""
        kept = {name: number for name, number in self.inodes.items() if name in (LOCK_NAME, RING_NAME)}
        return replace(self, inodes={**kept, **inodes}, end=end)

    def to_json(self) -> dict[str, Any]:
        """All fields by name."""
        return {name: getattr(self, name) for name in self.__slots__}


def boot_id() -> str | None:
    """The kernel's id of this boot (random(4)): as long as it is the same, nothing that was written can be lost."""
    return _read_text(Path("/proc/sys/kernel/random/boot_id")) or None


def inode(path: Path) -> int:
    """The inode number; 0 when there is no such file.

    Device numbers are left out: they change from boot to boot on some file systems.
    """
    try:
        return path.stat().st_ino
    except OSError:
        return 0
