"""What writing does to the storage: bytes written a day, and how much of its life an eMMC has used."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Final, NamedTuple

from gateway.contract.clock import Clock
from gateway.log.storage import disk_of

DAY_NS: Final = 86_400 * 10**9
_EVERY_NS: Final = 600 * 10**9
"""between two marks; and the least time that a day is told from"""
_STEP: Final = 0.1
_EXCEEDED: Final = 0x0B


class Life(NamedTuple):
    """Used life of an eMMC, as its makers estimate it (JEDEC JESD84-B51, EXT_CSD registers 267 to 269)."""

    used_a: float | None
    """upper bound of the tenth that the part is in, 0.1 to 1.0; 1.1 = beyond its life; None = not said. Type A memory,
    mostly the fast cells"""
    used_b: float | None
    """type B memory, mostly the rest"""
    reserve: int | None
    """spare blocks: 1 = normal, 2 = 80 % used, 3 = 90 % used; None = not said"""


class Wear(NamedTuple):
    """What is known of the wear; None where the system does not say."""

    written: int | None
    """bytes that this process has caused to be written to storage"""
    per_day: float | None
    """the same for a day, from the last 24 hours; None in the first ten minutes"""
    life: Life | None


WEAR_UNKNOWN: Final = Wear(None, None, None)


class WearMeter:
    """Asks the system; not to be called more often than needed, and from one thread at a time."""

    def __init__(self, folder: Path, clock: Clock, *, root: Path = Path("/")) -> None:
        self._folder = folder
        self._clock = clock
        self._root = root
        self._marks: deque[tuple[int, int]] = deque()
        """monotonic ns and bytes written by then, ten minutes apart, a day at most"""

    def measure(self) -> Wear:
        """As of now."""
        written = written_bytes(root=self._root)
        return Wear(
            written,
            None if written is None else self._per_day(written),
            emmc_life(self._folder, root=self._root),
        )

    def _per_day(self, written: int) -> float | None:
        now = self._clock.monotonic_ns()
        if not self._marks or now - self._marks[-1][0] >= _EVERY_NS:
            self._marks.append((now, written))
        while now - self._marks[0][0] > DAY_NS and len(self._marks) > 1:
            self._marks.popleft()
        begin, before = self._marks[0]
        return None if now - begin < _EVERY_NS else (written - before) * DAY_NS / (now - begin)


def written_bytes(*, root: Path = Path("/")) -> int | None:
    """`write_bytes` of /proc/self/io (proc(5)): what this process has caused to be written to storage, log and all."""
    for line in _text(root / "proc/self/io").splitlines():
        name, _, value = line.partition(":")
        if name == "write_bytes":
            return int(value)
    return None


def emmc_life(path: Path, *, root: Path = Path("/")) -> Life | None:
    """Of the eMMC under `path`, from life_time and pre_eol_info in sysfs (Linux, driver-api/mmc/mmc-dev-attrs).

    None for other storage, and for parts older than eMMC 5.0.
    """
    disk = disk_of(path, root=root)
    if disk is None:
        return None
    values = [_number(word) for word in _text(disk / "device/life_time").split()]
    if len(values) != 2:
        return None
    reserve = _number(_text(disk / "device/pre_eol_info"))
    return Life(_used(values[0]), _used(values[1]), reserve or None)


def _used(register: int | None) -> float | None:
    """0x01 = up to 10 % of the life, ... 0x0A = up to 100 %, 0x0B = beyond; 0 = not defined, more is reserved."""
    return None if register is None or not 0 < register <= _EXCEEDED else round(register * _STEP, 1)


def _number(text: str) -> int | None:
    try:
        return int(text, 16)
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
