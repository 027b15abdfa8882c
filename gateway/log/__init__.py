"""The durable log: records, the store on SQLite, the writer with its commit thread, the tail in memory, small state.

`LogStore.open` gives the store and what it found; `Writer` commits from the event loop; `Tail` holds the newest;
`StateStore` keeps positions. docs/log-format.md says how it lies on disk.
"""

from gateway.log.datafile import DataFile
from gateway.log.errors import (
    LogConflictError,
    LogCorruptError,
    LogError,
    LogFormatError,
    LogFullError,
    LogIOError,
    StateConflictError,
)
from gateway.log.identity import machine_id
from gateway.log.reading import Outline
from gateway.log.recovery import Recovery
from gateway.log.state import Put, StateStore, glance
from gateway.log.storage import budget_bytes, commit_default_s, kind_of, on_flash, space
from gateway.log.store import Bounds, LogStore
from gateway.log.tail import Tail
from gateway.log.view import Damage, LogView
from gateway.log.wear import WEAR_UNKNOWN, Life, Wear, WearMeter
from gateway.log.writer import LogReceipt, Writer, WriterStatistics

__all__ = [
    "WEAR_UNKNOWN",
    "Bounds",
    "Damage",
    "DataFile",
    "Life",
    "LogConflictError",
    "LogCorruptError",
    "LogError",
    "LogFormatError",
    "LogFullError",
    "LogIOError",
    "LogReceipt",
    "LogStore",
    "LogView",
    "Outline",
    "Put",
    "Recovery",
    "StateConflictError",
    "StateStore",
    "Tail",
    "Wear",
    "WearMeter",
    "Writer",
    "WriterStatistics",
    "budget_bytes",
    "commit_default_s",
    "glance",
    "kind_of",
    "machine_id",
    "on_flash",
    "space",
]
