"""A machine whose disk turns read-only, full or slow, and whose clock jumps, while a real program runs on it.

The program runs with `environment()`: faulty_machine.c below its libc. No rights are needed, nothing is mounted; what
other processes see of disk and clock stays as it is.
"""

from __future__ import annotations

import atexit
import errno
import functools
import mmap
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

SOURCE: Final = Path(__file__).with_suffix(".c")
_CONTROL: Final = struct.Struct("<iiq")


class FaultyMachine:
    """Context manager; `disk` is a folder on the disk that fails."""

    def __init__(self, folder: Path) -> None:
        self.disk = folder / "disk"
        self._file = folder / "faulty-machine"
        self._error = 0
        self._rate = 0
        self._ahead_ns = 0

    def environment(self) -> dict[str, str]:
        """What the program must find in its environment. Raises CalledProcessError, FileNotFoundError without gcc."""
        return {
            "LD_PRELOAD": str(library()),
            "FAULTY_FOLDER": str(self.disk),
            "FAULTY_CONTROL": str(self._file),
        }

    def turn_read_only(self) -> None:
        """As the kernel does with the file system of a failing disk."""
        self._set(error=errno.EROFS)

    def fill(self) -> None:
        """Somebody else takes all the room that there is."""
        self._set(error=errno.ENOSPC)

    def mend(self) -> None:
        """The disk can be written again."""
        self._set(error=0)

    def slow_down(self, bytes_s: int) -> None:
        """The disk writes so many bytes a second from now on; 0: as fast as it can."""
        self._set(rate=bytes_s)

    def set_clock(self, ahead_ns: int) -> None:
        """The program's wall clock is so much ahead of the true one from now on; its monotonic clock goes on."""
        self._set(ahead_ns=ahead_ns)

    def _set(self, error: int | None = None, rate: int | None = None, ahead_ns: int | None = None) -> None:
        self._error = self._error if error is None else error
        self._rate = self._rate if rate is None else rate
        self._ahead_ns = self._ahead_ns if ahead_ns is None else ahead_ns
        self._memory[:] = _CONTROL.pack(self._error, self._rate, self._ahead_ns)

    def __enter__(self) -> Self:
        self.disk.mkdir()
        self._file.write_bytes(bytes(_CONTROL.size))
        with self._file.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _CONTROL.size)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._memory.close()


@functools.cache
def library() -> Path:
    """The shim, compiled once for this process."""
    folder = Path(tempfile.mkdtemp(prefix="faulty-machine-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "faulty_machine.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", path, SOURCE, "-ldl"], check=True)
    return path
