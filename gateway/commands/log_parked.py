"""`edge-gateway log parked CONFIG_DIR`: what brokers refused for good, and how to have it sent again.

Works beside a running gateway and without one: it only marks entries of state.db, which the publisher looks at.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from gateway.commands.equipment import OK, write_json
from gateway.config import load_config
from gateway.contract import ConfigError
from gateway.log import StateConflictError, StateStore
from gateway.publishing.parked import prefix
from gateway.rfc3339 import rfc3339

_SHOWN = ("device", "stream", "n", "count", "reason", "topic")


def main(config_dir: Path, destination: str | None, *, resend: bool = False, as_json: bool = False) -> int:
    """List, and mark when asked to; returns 0. Raises ConfigError, LogError."""
    gateway = load_config(config_dir).gateway
    path = gateway.log.path / "state.db"
    if not path.exists():
        raise ConfigError(f"{path}: not there; the gateway has not run with this log.path yet")
    state = StateStore(path, set_aside=False)
    try:
        names = {one.name for one in gateway.destinations}
        names |= {key.split("/")[1] for key, _, _ in state.items("parked/")}
        if destination is not None and destination not in names:
            raise ConfigError(f"--destination: expected one of {', '.join(sorted(names))}, found {destination!r}")
        wanted = sorted(names) if destination is None else [destination]
        keys = [key for name in wanted for key, _, _ in state.items(prefix(name))]
        if resend:
            for key in keys:
                _mark(state, key)
        found = [(key.split("/")[1], found[1]) for key in keys if (found := state.get(key)) is not None]
    finally:
        state.close()
    if as_json:
        write_json({"parked": [_report(name, one) for name, one in found]})
    else:
        sys.stdout.write(_in_words(found, resend=resend))
    return OK


def _mark(state: StateStore, key: str) -> None:
    """Until nobody came in between: a running gateway changes entries too."""
    while (found := state.get(key)) is not None and "resend" not in found[1]:
        try:
            state.put(key, found[1] | {"resend": time.time_ns()}, found[0])
        except StateConflictError:
            continue


def _report(name: str, one: dict[str, Any]) -> dict[str, Any]:
    shown = {key: one.get(key) for key in _SHOWN}
    return {"destination": name, **shown, "time": rfc3339(one["time"]), "resend": "resend" in one}


def _in_words(found: list[tuple[str, dict[str, Any]]], *, resend: bool) -> str:
    lines = []
    for name, one in found:
        last = one["n"] + one["count"] - 1
        mark = "; will be sent again" if "resend" in one else ""
        lines.append(
            f"{name}: {one['device']} n {one['n']} to {last} ({one['count']}), stream {one['stream']}: "
            f"{one['reason']} at {rfc3339(one['time'])}, {one.get('topic') or 'no topic'}{mark}"
        )
    total = sum(one["count"] for _, one in found)
    lines.append(f"{total} readings in {len(found)} entries are parked" if found else "nothing is parked")
    if resend and found:
        lines.append("marked: a running gateway sends them within seconds, otherwise the next one that is started does")
    return "\n".join(lines) + "\n"
