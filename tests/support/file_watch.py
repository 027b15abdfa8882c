"""What happens in a folder, as the kernel tells it at once (inotify(7))."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

MODIFY: Final = 0x2
MOVED_FROM: Final = 0x40
MOVED_TO: Final = 0x80
CREATE: Final = 0x100
DELETE: Final = 0x200
_HEAD: Final = struct.Struct("iIII")
_BUFFER: Final = 65_536


class Change(NamedTuple):
    """One change."""

    kind: int
    """one of the constants above"""
    name: str
    """of the file"""


class FileWatch:
    """`with FileWatch(folder) as watch: for change in watch.changes(10.0): ...`; one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handle = -1

    def __enter__(self) -> Self:
        """Raises OSError where the folder cannot be watched."""
        libc = ctypes.CDLL(None, use_errno=True)
        self._handle = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        kinds = MODIFY | MOVED_FROM | MOVED_TO | CREATE | DELETE
        if self._handle < 0 or libc.inotify_add_watch(self._handle, os.fsencode(self._folder), kinds) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(self._folder))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._handle)

    def changes(self, timeout_s: float) -> Iterator[Change]:
        """Changes since the last look and those to come, for so long; with 0 only those that are there."""
        deadline = time.monotonic() + timeout_s
        while True:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._handle], [], [], left)[0]:
                return
            content = os.read(self._handle, _BUFFER)
            at = 0
            while at < len(content):
                _, kind, _, length = _HEAD.unpack_from(content, at)
                name = content[at + _HEAD.size : at + _HEAD.size + length].rstrip(b"\0")
                at += _HEAD.size + length
                yield Change(kind, os.fsdecode(name))
