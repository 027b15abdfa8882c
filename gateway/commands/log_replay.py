"""`edge-gateway log replay CONFIG_DIR`: have a destination be sent the readings of a time range again.

Works beside a running gateway and without one: it only writes a request into state.db, which the publisher looks at.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import tzinfo
from pathlib import Path
from typing import Any, NamedTuple

from gateway.commands.equipment import FAILED, OK, PARTLY, write_json
from gateway.commands.log_place import Place, in_order, local, names_like, place_of, time_of, unknown
from gateway.commands.log_progress import Progress
from gateway.contract import ConfigError
from gateway.log import LogView, Outline, StateStore, glance
from gateway.log.records import EVENTS_DEVICE, Series, StreamRecord
from gateway.publishing.clearance import Clearance, rule_of
from gateway.publishing.config import DestinationConfig
from gateway.publishing.replays import OPEN, PREFIX, Replay, Request, all_replays, cancel, outcome, put_request
from gateway.publishing.selection import Selection
from gateway.rfc3339 import rfc3339


class Asked(NamedTuple):
    """What was typed."""

    destination: str | None
    since: str | None = None
    until: str | None = None
    devices: Sequence[str] = ()
    by: str = "source"
    dry_run: bool = False


class _Meant(NamedTuple):
    """What a selection is in the log as it is now."""

    first: int
    end: int
    counts: Counter[Series]
    withheld: int
    """of these, above the destination's clearance"""
    damaged: int
    """segments that cannot be read"""

    @property
    def readings(self) -> int:
        return self.counts.total()


def main(config_dir: Path, asked: Asked, *, as_json: bool = False) -> int:
    """Ask for a replay; returns 0, 1 when the clearance allows nothing of it, or 3 when some of the range has left the
    log. Raises ConfigError, LogError.
    """
    place, path = _opened(config_dir)
    destination = _destination(place, asked.destination)
    with LogView(place.folder) as view:
        selection = _selection(asked, place.zone, view)
        meant = _look(view, selection, _clearance(view, destination))
        if not meant.readings:
            raise ConfigError(_nothing(view, selection, meant, place.zone))
        short = _begins_late(view, selection, place.zone)
    request = Request(destination.name, selection, meant.first, meant.end, meant.readings, time.time_ns(), _who())
    allowed = meant.readings > meant.withheld
    replay = None
    if allowed and not asked.dry_run:
        with _state(path) as state:
            replay = put_request(state, request)
    if as_json:
        write_json(_request_report(request, meant, replay))
    else:
        sys.stdout.write(_request_words(request, meant, replay, place.zone))
    if meant.damaged:
        sys.stderr.write(f"{meant.damaged} damaged segments are left out; `edge-gateway log verify` says where\n")
    if short:
        sys.stderr.write(short)
    if not allowed:
        sys.stderr.write(
            f"nothing of it may leave: all of it was accepted while {destination.name} was not entitled to it\n"
        )
        return FAILED
    return PARTLY if short or meant.damaged else OK


def main_list(config_dir: Path, destination: str | None, *, as_json: bool = False) -> int:
    """Show what was asked for and how far it is; returns 0. Raises ConfigError, LogError."""
    place, path = _opened(config_dir)
    found = [Replay.from_state(key, one) for key, one in glance(path, PREFIX).items()]
    if destination is not None:
        found = [one for one in found if one.request.destination == destination]
    if as_json:
        write_json({"replays": [report(one) for one in found]})
    elif found:
        sys.stdout.writelines(f"{line(one, place.zone)}\n" for one in found)
    else:
        sys.stdout.write("no replay was asked for\n")
    return OK


def main_cancel(config_dir: Path, id: int, *, as_json: bool = False) -> int:
    """End a replay; returns 0, or 1 when it had ended by itself. Raises ConfigError, LogError."""
    place, path = _opened(config_dir)
    with _state(path) as state:
        was_open = [one.id for one in all_replays(state) if one.state in OPEN]
        replay = cancel(state, id, time.time_ns())
    if replay is None:
        known = ", ".join(map(str, was_open)) or "none"
        raise ConfigError(f"--cancel: there is no replay {id}; open are: {known}")
    if as_json:
        write_json(report(replay))
    else:
        sys.stdout.write(f"{line(replay, place.zone)}\n")
    if id not in was_open:
        sys.stderr.write(f"replay {id} had ended already; nothing was changed\n")
        return FAILED
    return OK


def report(replay: Replay) -> dict[str, Any]:
    """A replay for programs."""
    request = replay.request
    return {
        "id": replay.id,
        **_range_report(request),
        "state": replay.state,
        "readings": request.readings,
        **replay.to_state()["counts"],
        "missing": replay.missing,
        "requested": rfc3339(request.requested),
        "user": request.user,
        "ended": None if replay.ended is None else rfc3339(replay.ended),
    }


def line(replay: Replay, zone: tzinfo) -> str:
    """A replay for people."""
    request = replay.request
    done = request.readings - replay.missing
    share = f" {100 * done // max(1, request.readings)} %" if replay.state == "running" else ""
    return (
        f"replay {replay.id} to {request.destination}: {replay.state}{share}, {outcome(replay)}; "
        f"{_range_words(request, zone)}; asked for at {local(request.requested, zone)} by {request.user}"
    )


def _opened(config_dir: Path) -> tuple[Place, Path]:
    place = place_of(config_dir)
    if place.config is None:
        raise ConfigError(f"{config_dir}: expected a config's folder: it says which destinations there are")
    path = place.folder / "state.db"
    if not path.exists():
        raise ConfigError(f"{path}: not there; the gateway has not run with this log.path yet")
    return place, path


@contextlib.contextmanager
def _state(path: Path) -> Iterator[StateStore]:
    state = StateStore(path, set_aside=False)
    try:
        yield state
    finally:
        state.close()


def _destination(place: Place, name: str | None) -> DestinationConfig:
    destinations = place.config.destinations if place.config else ()
    if name is None:
        raise ConfigError(f"--destination: expected one of {', '.join(one.name for one in destinations) or 'none'}")
    found = next((one for one in destinations if one.name == name), None)
    if found is None:
        raise ConfigError(f"--destination: {unknown(name, [one.name for one in destinations])}")
    return found


def _selection(asked: Asked, zone: tzinfo, view: LogView) -> Selection:
    if asked.by not in ("source", "received"):
        raise ConfigError(f"--by: expected source or received, found {asked.by!r}")
    since, until = time_of(asked.since, "--from", zone), time_of(asked.until, "--to", zone)
    if since is None or until is None:
        raise ConfigError("--from and --to: both are needed; `edge-gateway log status` says what the log holds")
    in_order(since, until)
    devices = None
    if asked.devices:
        known = {series.device for series in view.next_n} - {EVENTS_DEVICE}
        devices = frozenset(names_like(asked.devices, known, "--device"))
    return Selection(since, until, asked.by == "received", devices)


def _clearance(view: LogView, destination: DestinationConfig) -> Clearance:
    """As the destination's next start would have it."""
    key = f"destination/{destination.name}"
    saved = glance(view.folder / "state.db", key).get(key)
    clearance = Clearance.from_state(rule_of(destination), None if saved is None else saved["clearance"])
    clearance.apply((one for one in view.records if isinstance(one, StreamRecord)), view.end)
    return clearance


def _look(view: LogView, selection: Selection, clearance: Clearance) -> _Meant:
    """Count from heads where they tell, and decode only the segments at the edges."""
    counts: Counter[Series] = Counter()
    places: list[int] = []
    progress = Progress(view.files[0].first, view.end)
    withheld = damaged = 0

    def take(found: Counter[Series], first: int, end: int) -> int:
        if not found.total():
            return 0
        counts.update(found)
        places[:] = [min([first, *places]), max([end, *places])]
        return sum(count for series, count in found.items() if not clearance.allows(series.stream, first))

    def wanted(outline: Outline) -> bool:
        nonlocal withheld
        progress.show(outline.position, f"{counts.total():,} readings")
        if not selection.touches(outline):
            return False
        if (found := selection.known(outline)) is None:
            return True
        withheld += take(found, outline.position, outline.end)
        return False

    for segment in view.segments(wanted):
        damaged += segment.damage is not None
        withheld += take(selection.readings_of(segment), segment.position, segment.position + 1)
    progress.clear()
    first, end = places or (0, 0)
    return _Meant(first, end, counts, withheld, damaged)


def _begins_late(view: LogView, selection: Selection, zone: tzinfo) -> str:
    """What to say when some of the range has left the log; empty when nothing has."""
    times = view.commit_times()
    if not view.first_n or times is None or selection.since >= times[0]:
        return ""
    return f"the log begins at {local(times[0], zone)}: what was accepted before is no longer there\n"


def _nothing(view: LogView, selection: Selection, meant: _Meant, zone: tzinfo) -> str:
    of = "" if selection.devices is None else f" of {', '.join(sorted(selection.devices))}"
    times = view.commit_times()
    holds = "nothing" if times is None else f"what was accepted from {local(times[0], zone)} to {local(times[1], zone)}"
    damaged = f"; {meant.damaged} damaged segments cannot be read" if meant.damaged else ""
    return (
        f"no readings{of} from {local(selection.since, zone)} to {local(selection.until, zone)} "
        f"({_by(selection)}); the log holds {holds}{damaged}"
    )


def _request_report(request: Request, meant: _Meant, replay: Replay | None) -> dict[str, Any]:
    return {
        "id": None if replay is None else replay.id,
        **_range_report(request),
        "readings": meant.readings,
        "withheld": meant.withheld,
        "by_device": _by_device(meant.counts),
    }


def _request_words(request: Request, meant: _Meant, replay: Replay | None, zone: tzinfo) -> str:
    head = f"replay {replay.id} to {request.destination}" if replay else f"to {request.destination}"
    lines = [f"{head}: {meant.readings:,} readings; {_range_words(request, zone)}"]
    for device, count in _by_device(meant.counts).items():
        lines.append(f"  {'events' if device == EVENTS_DEVICE else device}: {count:,}")
    if meant.withheld:
        lines.append(f"  {meant.withheld:,} of them stay withheld: {request.destination} was not entitled to them")
    if replay is not None:
        lines.append("a running gateway begins within seconds, otherwise the next one that is started does")
        lines.append(f"--list shows how far it is, --cancel {replay.id} ends it")
    else:
        lines.append("nothing was asked for")
    return "\n".join(lines) + "\n"


def _by_device(counts: Counter[Series]) -> dict[str, int]:
    devices: Counter[str] = Counter()
    for series, count in counts.items():
        devices[series.device] += count
    return {device: count for device, count in sorted(devices.items()) if count}


def _range_report(request: Request) -> dict[str, Any]:
    selection = request.selection
    return {
        "destination": request.destination,
        "from": rfc3339(selection.since),
        "to": rfc3339(selection.until),
        "by": "received" if selection.by_received else "source",
        "devices": None if selection.devices is None else sorted(selection.devices),
    }


def _range_words(request: Request, zone: tzinfo) -> str:
    selection = request.selection
    of = "all devices" if selection.devices is None else ", ".join(sorted(selection.devices))
    return f"{local(selection.since, zone)} to {local(selection.until, zone)} ({_by(selection)}), {of}"


def _by(selection: Selection) -> str:
    return "time of arrival" if selection.by_received else "source time"


def _who() -> str:
    """For the log line that says who asked: the person behind sudo, where there is one."""
    if name := os.environ.get("SUDO_USER"):
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
