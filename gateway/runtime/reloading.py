"""Takes over a changed config while the gateway runs: only what changed stops and starts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.config import ConfigProblems, load_config
from gateway.config.history import History, Snapshot
from gateway.config.load import LoadedConfig
from gateway.contract.clock import Clock
from gateway.log.records import EventRecord
from gateway.points.table import PointTable
from gateway.rfc3339 import rfc3339
from gateway.runtime.changes import Changes, changes

log = logging.getLogger(__name__)

Looks = list[tuple[str, int, int, int]]
"""name, time of the last change, size and inode of each file"""
WATCH_S: Final = 1.0
_TRIES: Final = 3
_WAITING: Final = 8
"""requests for a reload that may wait for the one under way"""


class UnsettledError(Exception):
    """The files change while they are read."""


@dataclass(frozen=True, slots=True)
class Read:
    """A config as it lies in its folder."""

    config: LoadedConfig
    snapshot: Snapshot


class InForce:
    """Which config the gateway runs with, and how the last reload went; outlives the log's being closed."""

    def __init__(self, config: LoadedConfig, clock: Clock) -> None:
        self.config = config
        self.snapshot = Snapshot.of(config.folder)
        self.since = clock.time_ns()
        self.accepted = 0
        self.refused = 0
        self.last: dict[str, Any] | None = None

    def status(self) -> dict[str, Any]:
        """For `status`."""
        return {"digest": self.snapshot.digest, "since": rfc3339(self.since), "last_reload": self.last}


@dataclass(frozen=True, slots=True)
class Session:
    """What a reload needs of the running parts."""

    swap: Callable[[LoadedConfig, Changes], Any]
    """awaitable: stop what changed or went, start what changed or is new"""
    table: PointTable
    streams: Callable[[], Sequence[str]]
    write: Callable[[Sequence[EventRecord]], object]


class Reloading:
    """One reload at a time, asked for by a signal or a command; `run` it in the group that owns the parts."""

    def __init__(self, force: InForce, clock: Clock) -> None:
        self.force = force
        self._clock = clock
        self._asked: asyncio.Queue[tuple[str, asyncio.Future[dict[str, Any]] | None]] = asyncio.Queue(_WAITING)

    def ask(self, by: str, answer: asyncio.Future[dict[str, Any]] | None = None) -> bool:
        """Have the config be taken over soon; False when too many wait for that."""
        if self._asked.full():
            return False
        self._asked.put_nowait((by, answer))
        return True

    async def run(self, session: Session) -> None:
        """Until cancelled."""
        await self._note_start(session)
        while True:
            by, answer = await self._asked.get()
            try:
                outcome = await self._reload(session, by)
                if answer is not None and not answer.done():
                    answer.set_result(outcome)
            finally:
                if answer is not None and not answer.done():
                    answer.cancel()

    async def watch(self) -> None:
        """Until cancelled: where the config wants it, reload once files have changed and then stood still."""
        taken = seen = await self._looks()
        while True:
            await asyncio.sleep(WATCH_S)
            if not self.force.config.gateway.reload.watch:
                taken = seen = None
                continue
            before, seen = seen, await self._looks()
            if taken is None:
                taken = seen
            if seen != taken and seen == before and self.ask("a change of its files"):
                taken = seen

    async def _looks(self) -> Looks | None:
        """What tells that a file has changed; None when that cannot be seen."""
        try:
            return await asyncio.to_thread(_looks, self.force.config.folder)
        except OSError:
            return None

    async def compare(self) -> dict[str, Any]:
        """What a reload would do now."""
        try:
            read = await asyncio.to_thread(_read, self.force.config.folder)
        except ConfigProblems as error:
            return {"ok": False, "problems": [str(each) for each in error.problems]}
        except (OSError, ValueError, UnsettledError) as error:
            return {"ok": False, "problems": [str(error)]}
        found = changes(self.force.config, read.config)
        same = read.snapshot.digest == self.force.snapshot.digest
        return {"ok": not found.impossible, "problems": [], "same": same, **found.as_dict()}

    async def _reload(self, session: Session, by: str) -> dict[str, Any]:
        try:
            read = await asyncio.to_thread(_read, self.force.config.folder)
        except ConfigProblems as error:
            wrong = [str(each) for each in error.problems if each.severity == "error"]
            return self._refuse(session, by, f"{len(wrong)} errors in the new config", wrong)
        except (OSError, ValueError, UnsettledError) as error:
            return self._refuse(session, by, "the new config cannot be read", [str(error)])
        found = changes(self.force.config, read.config)
        if found.impossible:
            return self._refuse(session, by, "changes that only a start takes over", list(found.impossible))
        await session.swap(read.config, found)
        fresh = read.snapshot.digest != self.force.snapshot.digest
        self.force.config, self.force.snapshot = read.config, read.snapshot
        self.force.since = self._clock.time_ns()
        self.force.accepted += 1
        outcome = in_words(found)
        log.warning("config: reloaded, asked for by %s: %s", by, outcome)
        self._remember(accepted=True, outcome=outcome)
        if fresh or found:
            await self._keep()
            self._tell(session, found.devices.names, accepted=True, reason=f"reloaded, asked for by {by}")
        return {"ok": True, "outcome": outcome, "problems": [], **found.as_dict()}

    def _refuse(self, session: Session, by: str, why: str, problems: list[str]) -> dict[str, Any]:
        self.force.refused += 1
        log.error("config: refused, asked for by %s; the former one stays: %s", by, "; ".join([why, *problems[:3]]))
        self._remember(accepted=False, outcome=f"refused: {why}: {problems[0] if problems else ''}")
        self._tell(session, [], accepted=False, reason=f"{why}; the former config stays")
        return {"ok": False, "outcome": f"refused, the former config stays: {why}", "problems": problems}

    def _remember(self, *, accepted: bool, outcome: str) -> None:
        self.force.last = {"accepted": accepted, "time": rfc3339(self._clock.time_ns()), "outcome": outcome}

    async def _note_start(self, session: Session) -> None:
        """Keep what the gateway was started with; tell it where the one before was another."""
        try:
            former = await asyncio.to_thread(History(self._log_folder).newest)
        except OSError:
            former = None
        await self._keep()
        if former is not None and former.digest != self.force.snapshot.digest:
            names = _files_changed(former.snapshot, self.force.snapshot)
            self._tell(session, names, accepted=True, reason="another config at the start")

    async def _keep(self) -> None:
        history = History(self._log_folder)
        try:
            await asyncio.to_thread(history.add, self.force.snapshot, self._clock.time_ns())
        except OSError as error:
            log.warning("config: not kept for `rollback`: %s", error)

    @property
    def _log_folder(self) -> Path:
        path: Path = self.force.config.gateway.log.path
        return path

    def _tell(self, session: Session, names: Sequence[str], *, accepted: bool, reason: str) -> None:
        """A `config/1` event in each stream; devices are named only in streams that they have points in."""
        now = self._clock.time_ns()
        events = []
        for stream in session.streams():
            here = [name for name in names if any(p.stream == stream for p in session.table.points(name).values())]
            body: Mapping[str, Any] = {
                "schema": "config/1",
                "digest": self.force.snapshot.digest,
                "accepted": accepted,
                "changed": here,
                "reason": reason,
            }
            events.append(EventRecord(stream, now, dict(body)))
        session.write(events)


def in_words(found: Changes) -> str:
    """One line: what was started, changed and ended."""
    parts = []
    for kind, one in (("device", found.devices), ("destination", found.destinations)):
        for verb, names in (("new", one.added), ("changed", tuple(one.changed)), ("gone", one.removed)):
            if names:
                shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
                parts.append(f"{kind}{'s' * (len(names) > 1)} {verb}: {shown}")
    return "; ".join(parts) or "nothing changed for devices and destinations"


def _read(folder: Path) -> Read:
    """Files and what is in them, of one moment. Raises ConfigProblems, OSError, UnsettledError."""
    for _ in range(_TRIES):
        before = Snapshot.of(folder)
        config = load_config(folder, for_run=True)
        if Snapshot.of(folder).digest == before.digest:
            return Read(config, before)
    raise UnsettledError(f"{folder}: its files change while they are read; ask again when they are written")


def _looks(folder: Path) -> Looks:
    """Raises OSError, as for a file that goes while this looks."""
    files = sorted([folder / "gateway.yaml", *folder.glob("devices/*.yaml"), *folder.glob("templates/*.yaml")])
    return [(file.name, seen.st_mtime_ns, seen.st_size, seen.st_ino) for file in files for seen in [file.stat()]]


def _files_changed(old: Snapshot, new: Snapshot) -> list[str]:
    names = (name for name in sorted(old.files.keys() | new.files.keys()) if name.startswith("devices/"))
    return [Path(name).stem for name in names if old.files.get(name) != new.files.get(name)]
