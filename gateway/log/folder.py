"""The log's folder: made, with names that last, and locked for one process."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from gateway.log import datafile
from gateway.log.datafile import translated
from gateway.log.errors import LogError, LogIOError
from gateway.log.identity import LOCK_NAME


def lock_folder(folder: Path) -> int:
    """Make the folder and lock it; returns the lock's file. Raises LogError, LogIOError, LogFullError."""
    path = folder / LOCK_NAME
    with translated(folder):
        try:
            _make_folder(folder)
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except PermissionError as error:  # somebody may give it
            raise LogIOError(_unwritable(folder, error)) from error
        except (FileExistsError, NotADirectoryError) as error:
            raise LogError(_unwritable(folder, error)) from error
    try:
        _take(lock, folder)
        with translated(path):
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _take(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
        raise LogError(
            f"{folder}: the log is in use by process {holder}; stop that gateway, or give this one another log.path"
        ) from None


def _unwritable(folder: Path, error: OSError) -> str:
    return (
        f"{folder}: the log's folder cannot be written: {error.strerror}; "
        "give the gateway's user write access to it, or set log.path to a folder that it may write"
    )


def _make_folder(folder: Path) -> None:
    """Make it and what is missing above it. Its own name must last too: no sync of what is in it covers that."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        keep_name(path)


def keep_name(path: Path) -> None:
    """Make a name durable, as far as the folder above can be opened."""
    with contextlib.suppress(OSError):
        datafile.sync_folder(path.parent)
