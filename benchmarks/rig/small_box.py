"""The box that people buy, as far as a process can tell: 1 GB of memory, one core, its log on an eMMC.

Memory is limited by a control group where we may make one (version 2, else version 1), else by RLIMIT_DATA, which
counts what a process has allocated (setrlimit(2)). The core is that of `processes.CORES`. The storage is called an
eMMC in a mount namespace of the process's own, where /sys/dev/block says so of the disk below the log: the program is
the one that is sold, only what it is told of the disk differs. Bytes written are counted before the disk in any case.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.rig.processes import END_S

MEMORY_BYTES: Final = 1_000_000_000
_UNIFIED: Final = Path("/sys/fs/cgroup")
_MEMORY: Final = Path("/sys/fs/cgroup/memory")
_MOUNT: Final = 'mount -t tmpfs none /sys/dev/block && ln -s "$0" "/sys/dev/block/$1" && shift && exec "$@"'
_JOIN: Final = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
_LIMIT: Final = 'ulimit -d "$0" && exec "$@"'


class SmallBox(NamedTuple):
    """How to start a process there."""

    before: tuple[str, ...]
    """what is written in front of its command"""
    memory: str
    """how the memory is limited, for people"""
    storage: str
    """what the process takes the storage for, for people"""


@contextlib.contextmanager
def small_box(folder: Path) -> Iterator[SmallBox]:
    """`folder` is on the disk that is to be an eMMC, and takes what stands for it."""
    with _limited_memory() as (limit, memory):
        flash = _flash(folder)
        works = not subprocess.run([*flash, "true"], check=False, capture_output=True).returncode
        yield SmallBox((*limit, *(flash if works else ())), memory, "eMMC" if works else "as found: may not unshare")


@contextlib.contextmanager
def _limited_memory() -> Iterator[tuple[tuple[str, ...], str]]:
    """The command in front, and what it does."""
    name = f"edge-gateway-bench-{os.getpid()}"
    for parent, mark, file, kind in (
        (_UNIFIED, "cgroup.controllers", "memory.max", "control group, version 2"),
        (_MEMORY, "memory.limit_in_bytes", "memory.limit_in_bytes", "control group, version 1"),
    ):
        group = parent / name
        if not (parent / mark).exists() or not _made(group):
            continue
        try:
            if (group / file).exists():  # else version 2 does not give memory to groups
                (group / file).write_text(str(MEMORY_BYTES))
                yield ("sh", "-c", _JOIN, str(group)), f"{MEMORY_BYTES:,} bytes, {kind}"
                return
        finally:
            _remove(group)
    yield ("sh", "-c", _LIMIT, str(MEMORY_BYTES // 1024)), f"{MEMORY_BYTES:,} bytes, RLIMIT_DATA"


def _made(group: Path) -> bool:
    try:
        group.mkdir()
    except OSError:
        return False
    return True


def _remove(group: Path) -> None:
    """A control group can go when nothing is in it any more: what was started there is ended.

    What has ended may keep it busy for a moment more, though it is not listed in it. Raises OSError.
    """
    deadline = time.monotonic() + END_S
    while True:
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        try:
            return group.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def _flash(folder: Path) -> tuple[str, ...]:
    disk = folder / "storage" / "mmcblk0"
    (disk / "queue").mkdir(parents=True)
    (disk / "queue" / "rotational").write_text("0\n")
    device = folder.stat().st_dev
    own = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--map-root-user", "--mount")
    return (*own, "sh", "-c", _MOUNT, str(disk), f"{os.major(device)}:{os.minor(device)}")
