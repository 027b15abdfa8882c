"""A disk of our own: an ext4 image on a loop device, so that every byte written to it can be counted. Needs root."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_SECTOR: Final = 512
_SECTORS_WRITTEN: Final = 6
"""seventh field of /sys/block/<device>/stat (Linux, admin-guide/iostats)"""
_IMAGE_BYTES: Final = 2 << 30


class LoopDisk:
    """Where it is mounted, and what has been written to it."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder = folder
        self._stat = Path("/sys/block") / Path(device).name / "stat"
        self._marker = os.open(folder / "marker", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def written(self) -> int:
        """Bytes written to the device since it was made."""
        return int(self._stat.read_text().split()[_SECTORS_WRITTEN]) * _SECTOR

    def commit_journal(self) -> None:
        """Have the file system's journal written, as the kernel does by its timer."""
        os.utime(self._marker)
        os.fsync(self._marker)

    def write_back(self) -> None:
        """Have everything written that is only in memory, as the kernel does with what is 30 s old."""
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(folder):
                raise OSError(ctypes.get_errno(), "syncfs")
        finally:
            os.close(folder)

    def close(self) -> None:
        """Give the mark back, so that the disk can be unmounted."""
        os.close(self._marker)


@contextlib.contextmanager
def loop_disk(options: str = "") -> Iterator[LoopDisk]:
    """ext4 with its defaults, but nothing left to be written in the background. Raises OSError, CalledProcessError."""
    with tempfile.TemporaryDirectory() as parent:
        image, folder = Path(parent, "image"), Path(parent, "disk")
        folder.mkdir()
        with image.open("wb") as file:
            file.truncate(_IMAGE_BYTES)
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
        device = _run("losetup", "--find", "--show", image).strip()
        try:
            _run("mount", *(("-o", options) if options else ()), device, folder)
            try:
                disk = LoopDisk(folder, device)
                try:
                    yield disk
                finally:
                    disk.close()
            finally:
                _run("umount", folder)
        finally:
            _run("losetup", "--detach", device)


def _run(*command: object) -> str:
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout
