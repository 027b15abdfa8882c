"""The log's errors; every class says whether trying the same again can help.

GatewayError
 └── LogError            retry no   the log cannot do what was asked: unwritable folder, in use by another process
      ├── LogConflictError    retry no   somebody else appended: the expected position is not the end
      ├── LogFormatError      retry no   written by a newer version, or not ours at all
      ├── LogCorruptError     retry no   a checksum or a length does not match
      ├── LogFullError        retry yes  the disk is full; the same append works once there is space
      ├── LogIOError          retry yes  the operating system or SQLite failed to read or write
      └── StateConflictError  retry no   the entry was changed since it was read: read it again and decide again
"""

from __future__ import annotations

from gateway.contract.errors import GatewayError


class LogError(GatewayError):
    """The log cannot do what was asked."""


class LogConflictError(LogError):
    """The expected position is not the end of the log."""


class LogFormatError(LogError):
    """Bytes that this version does not understand; the message names what it found."""


class LogCorruptError(LogError):
    """Bytes that are not what was written."""


class LogFullError(LogError):
    """No space left; nothing of the append was written."""

    retry = True


class LogIOError(LogError):
    """Reading or writing failed; nothing of the append was written."""

    retry = True


class StateConflictError(LogError):
    """A state entry has another version than the caller expected."""
