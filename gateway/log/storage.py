"""What the log's folder lies on: the kind of storage, its space, and the defaults that follow from them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final, Literal, NamedTuple

Kind = Literal["ssd", "emmc", "sd", "hdd", "tmpfs", "unknown"]

FLASH: Final[frozenset[Kind]] = frozenset({"emmc", "sd"})
"""wears out by what is written"""
COMMIT_S: Final = 0.2
COMMIT_FLASH_S: Final = 2.0
"""eMMC and SD wear out: a commit writes whole pages, however little is in it"""
BUDGET_BYTES: Final = 20_000_000_000
BUDGET_PART: Final = 0.4
FREE_PART: Final = 0.1
_MEMORY_FILE_SYSTEMS: Final = frozenset({"tmpfs", "ramfs"})
_NO_DEVICE: Final = "0:"


class Space(NamedTuple):
    """A file system's space, bytes."""

    total: int
    free: int
    """what this user may still write"""


def kind_of(path: Path, *, root: Path = Path("/")) -> Kind:
    """The storage under `path`, from /proc/self/mountinfo (proc(5)) and /sys/dev/block; `root` is for tests.

    "tmpfs" does not survive a reboot. "unknown" where the system does not say: containers, network file systems.
    """
    mounted = _mount(_device(path), root)
    if mounted and mounted[0] in _MEMORY_FILE_SYSTEMS:
        return "tmpfs"
    disk = disk_of(path, root=root)
    return "unknown" if disk is None else _kind_of_disk(disk)


def disk_of(path: Path, *, root: Path = Path("/")) -> Path | None:
    """The folder in sysfs of the disk under `path`: not the partition, and the first below device mapper and RAID.

    None where the system does not say.
    """
    device = _device(path)
    block = root / f"sys/dev/block/{device}"
    if device.startswith(_NO_DEVICE) and (mounted := _mount(device, root)):  # btrfs and its like: the mount names it
        block = root / "sys/class/block" / Path(mounted[1]).name
    try:
        block = block.resolve(strict=True)
        slaves = block / "slaves"
        while slaves.is_dir() and (below := sorted(slaves.iterdir())):
            block = below[0].resolve(strict=True)
            slaves = block / "slaves"
    except OSError:
        return None
    return block.parent if (block / "partition").exists() else block


def on_flash(path: Path) -> bool:
    """Does what is written under `path` wear it out: eMMC and SD?"""
    return kind_of(path) in FLASH


def commit_default_s(kind: Kind) -> float:
    """Least time between two commits: 0.2 s, on eMMC and SD 2 s."""
    return COMMIT_FLASH_S if kind in FLASH else COMMIT_S


def space(path: Path) -> Space:
    """Space of the file system under `path`. Raises OSError."""
    usage = shutil.disk_usage(_existing(path))
    return Space(usage.total, usage.free)


def budget_bytes(path: Path, budget: int | Literal["auto"], *, used: int = 0) -> int:
    """How much the log may take: `budget`, or for "auto" the smaller of 20 GB and 40 % of the file system; both less
    what would leave under 10 % of it free. `used` is what the log takes already. Raises OSError.
    """
    total, free = space(path)
    wanted = min(BUDGET_BYTES, int(total * BUDGET_PART)) if budget == "auto" else budget
    return max(0, min(wanted, used + free - int(total * FREE_PART)))


def _device(path: Path) -> str:
    number = _existing(path).stat().st_dev
    return f"{os.major(number)}:{os.minor(number)}"


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _mount(device: str, root: Path) -> tuple[str, str] | None:
    """File system type and source of the mount of `device`."""
    try:
        lines = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        fields, _, rest = line.partition(" - ")
        if fields.split()[2] == device:
            kind, source = rest.split()[:2]
            return kind, source
    return None


def _kind_of_disk(disk: Path) -> Kind:
    if disk.name.startswith("mmcblk"):
        return "sd" if _text(disk / "device/type") == "SD" else "emmc"
    match _text(disk / "queue/rotational"):
        case "0":
            return "ssd"
        case "1":
            return "hdd"
        case _:
            return "unknown"


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
