"""Opens the log's folder, and speaks for the gateway as long as that cannot be done."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from gateway.backoff import Backoff
from gateway.config.load import LoadedConfig
from gateway.contract.clock import Clock
from gateway.log import LogError, LogStore, Recovery, StateStore, Tail, budget_bytes, machine_id, on_flash
from gateway.log.records import Segment
from gateway.metrics.collector import Sample
from gateway.metrics.endpoint import Verdict
from gateway.points.table import PointTable
from gateway.rfc3339 import rfc3339

log = logging.getLogger(__name__)

AGAIN_FIRST_S: Final = 1.0
AGAIN_MOST_S: Final = 10.0
"""between two attempts to open the log: each may read its newest file"""
FILES_IN_BUDGET: Final = 8
FILE_LEAST_BYTES: Final = 250_000
FILE_MOST_BYTES: Final = 256_000_000
FILE_FLASH_BYTES: Final = 32_000_000
"""on eMMC and SD cards, where a start has to read blocks of small pieces: 256 MB of them would take it half a minute"""


@dataclass(slots=True)
class Opened:
    """The log's folder, opened."""

    store: LogStore
    recovery: Recovery
    state: StateStore
    table: PointTable
    """what is known, at once"""
    durable: PointTable
    """what the log holds: destinations must not tell of an entry that a power cut can still undo, because its index
    and its catalogue version would be given again"""
    tail: Tail

    def committed(self, segments: list[Segment]) -> None:
        """The log has taken these."""
        for segment in segments:
            self.durable.apply(segment.records)
        self.tail.add(segments)


def open_log(config: LoadedConfig, clock: Clock, closing: ExitStack) -> Opened:
    """Open store and state; `closing` closes them. Raises LogError; one that says `retry` may pass by itself."""
    file = config.gateway
    folder = file.log.path
    box = machine_id(folder.with_name(folder.name + ".machine-id"))
    identity = f"{file.gateway.enterprise}/{file.gateway.id}@{box}"
    store, recovery = LogStore.open(
        folder,
        identity=identity,
        clock=clock,
        rotate_bytes=file_bytes(budget_bytes(folder, file.log.budget or "auto"), flash=on_flash(folder)),
    )
    closing.callback(store.close)
    for sentence in recovery.damage:
        log.warning("log: %s", sentence)
    if recovery.cut_readings:
        log.error(
            "log: %s no longer holds %d readings that it once took; what of them was not delivered before is lost. "
            "Was the folder removed, or is its disk failing?",
            folder,
            recovery.cut_readings,
        )
    state = StateStore(folder / "state.db")
    closing.callback(state.close)
    table, durable = PointTable(), PointTable()
    table.apply(recovery.records)
    durable.apply(recovery.records)
    return Opened(store, recovery, state, table, durable, Tail(store.bounds().end))


def file_bytes(budget: int, *, flash: bool = False) -> int:
    """How large a data file of the log grows: only whole files can be let go, so a small budget needs small files.

    And a start reads the newest one.
    """
    most = FILE_FLASH_BYTES if flash else FILE_MOST_BYTES
    return min(most, max(FILE_LEAST_BYTES, budget // FILES_IN_BUDGET))


class Unopened:
    """What the gateway says of itself while its log is not open: nothing is acquired, nothing is delivered."""

    def __init__(self, version: str, clock: Clock, config: LoadedConfig) -> None:
        self._version = version
        self._clock = clock
        self._started = clock.time_ns()
        self._paused = Counter(device.adapter.name for device in config.devices)
        self._why: str | None = None
        self._since = 0
        self._backoff = Backoff(first_s=AGAIN_FIRST_S, most_s=AGAIN_MOST_S)

    @property
    def why(self) -> str | None:
        """Why it is not open, once that is known."""
        return self._why

    def failed(self, error: LogError) -> float:
        """The log could not be opened, or is not open any more: one log line for all attempts. Returns how many seconds
        to wait before the next.
        """
        if self._why is None:
            self._since = self._clock.monotonic_ns()
            log.error("log: nothing is acquired until it can be written, tried again and again: %s", error)
        self._why = str(error)
        return self._backoff.next_s()

    def over(self) -> None:
        """It is open."""
        if self._why is not None:
            log.warning("log: it can be written again after %.0f s", (self._clock.monotonic_ns() - self._since) / 1e9)
        self._why = None
        self._backoff.reset()

    def samples(self) -> Iterator[Sample]:
        """The metrics that there are without a log."""
        yield Sample("edge_gateway_build_info", 1, (self._version,))
        yield Sample("edge_gateway_start_time_seconds", self._started / 1e9)
        yield Sample("edge_gateway_log_stalled", self._why is not None)
        for adapter, count in self._paused.items():
            yield Sample("edge_gateway_devices", count, (adapter, "paused"))

    def healthy(self) -> Verdict:
        """/healthz: the process lives; to start it again would not mend the disk."""
        return Verdict(True, {"since": rfc3339(self._started)})

    def ready(self) -> Verdict:
        """/readyz: not while the log takes nothing."""
        devices = {"paused": self._paused.total()}
        return Verdict(False, {"log": self._why or "is being opened", "devices": devices, "not_well": {}})
