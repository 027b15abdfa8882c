"""`edge-gateway tail`: a device's readings as the running gateway takes them over."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from gateway.commands.equipment import OK
from gateway.commands.running import log_folder
from gateway.control import Client
from gateway.rfc3339 import rfc3339


def main(path: Path, device: str, points: Sequence[str], *, limit: int | None, as_json: bool) -> int:
    """Print readings until Ctrl-C, or until `limit` have been; returns 0. Raises NotRunningError."""
    left = limit
    with Client(log_folder(path), answer_s=None) as client:
        for more in client.stream("tail", device=device, points=list(points)):
            if dropped := more.get("dropped"):
                sys.stderr.write(f"{dropped:,} readings were not shown: they come faster than this can be written\n")
            for reading in more["readings"][:left]:
                sys.stdout.write(_json(reading) if as_json else _line(reading))
            sys.stdout.flush()
            if left is not None and (left := left - len(more["readings"])) <= 0:
                break
    return OK


def _line(reading: Sequence[Any]) -> str:
    time, point, value, unit, quality, _ = reading
    shown = "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    shown = f"{shown} {unit}" if unit else shown
    return f"{rfc3339(time):30}  {point}  {shown}{'' if quality == 'good' else f'  {quality}'}\n"


def _json(reading: Sequence[Any]) -> str:
    time, point, value, unit, quality, status = reading
    body = {"time": rfc3339(time), "point": point, "value": value, "unit": unit, "quality": quality, "status": status}
    return orjson.dumps(body).decode() + "\n"
