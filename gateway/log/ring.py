"""The ring: a file in front of the data files on flash, written in whole pages and never growing (docs/log-format.md).

A commit that goes into it costs its own pages and nothing else: no page that is only partly filled, no second copy, no
change of a file's size.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.log import codec, datafile, frames
from gateway.log.blocks import Source
from gateway.log.datafile import Row, translated
from gateway.log.identity import RING_NAME, inode

NEW_NAME: Final = "ring.new"
PAGES = 128
"""a page more is less written and longer to wait for when the ring is emptied: 0.5 to 0.9 s of processor time here"""
_NO_SESSION: Final = bytes(16)


class Ring:
    """The ring of a folder, for the one process that writes it."""

    def __init__(self, folder: Path, session: str, previous: str | None, round: int) -> None:
        """`session` and `previous` are random ids in hexadecimal; `round` is the newest that was found in the ring.

        Raises LogFullError, LogIOError.
        """
        self._path = folder / RING_NAME
        self._session = bytes.fromhex(session)
        self._round = round + 2  # the one between may have been begun, and torn
        self._chain = frames.Chain(self._session, self._round)
        with translated(self._path):
            self._file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._forget_pages()
            # Whatever was left before is of another round from here on.
            self._write(self._chain.beginning(bytes.fromhex(previous) if previous else _NO_SESSION))
        except BaseException:
            self.close()
            raise

    def append(self, sources: Sequence[Source]) -> bool:
        """Write a commit, durable on return; False where there is no room for it in this round.

        Raises LogFullError, LogIOError; then the same may be tried again.
        """
        frame = self._chain.commit(sources)
        if self._chain.page + len(frame) // frames.PAGE > PAGES:
            return False
        self._write(frame)
        return True

    def begin_round(self) -> None:
        """What is in it is durable elsewhere: the next commit goes to its beginning."""
        self._round += 1
        self._forget_pages()
        self._chain = frames.Chain(self._session, self._round)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)

    def _forget_pages(self) -> None:
        # What was read or written at once lies in the page cache as one large folio, and however little of it is
        # written, Linux counts all of it as `write_bytes` of the process.
        with translated(self._path):
            os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)

    def _write(self, frame: bytes) -> None:
        with translated(self._path):
            written = 0
            while written < len(frame):
                written += os.pwrite(self._file, frame[written:], self._chain.page * frames.PAGE + written)
            os.fdatasync(self._file)
        self._chain.written()


def look(folder: Path) -> frames.Found | None:
    """What the folder's ring holds; None without one. Raises LogFormatError, LogIOError."""
    path = folder / RING_NAME
    if not path.exists():
        return None
    with translated(path), path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # page by page, see Ring
        return frames.read(file.read())


def make(folder: Path) -> int:
    """See to it that there is a ring of the right size, every page of it allocated; returns its inode.

    Raises LogFullError, LogIOError.
    """
    path, new = folder / RING_NAME, folder / NEW_NAME
    size = PAGES * frames.PAGE
    with translated(path):
        if not path.exists() or path.stat().st_size != size:
            with new.open("wb") as file:
                file.write(bytes(size))  # not fallocate: the first write to each page would change the file's map
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
            datafile.sync_folder(folder)
    return inode(path)


def remove(folder: Path) -> None:
    """The folder is on other storage now, and what was in the ring is in a data file. Raises LogIOError."""
    with translated(folder / RING_NAME):
        (folder / RING_NAME).unlink(missing_ok=True)


def rows(found: frames.Found, start: int) -> list[Row]:
    """The segments at `start` and after it, as the rows of a data file."""
    found_rows = []
    for commit in found.commits:
        for held, segment in zip(commit.held, commit.segments, strict=True):
            if held.position >= start:
                head, body, _ = codec.encode_segment(segment.records, held.position, held.commit_time)
                found_rows.append(Row(held.position, head, body))
    return found_rows
