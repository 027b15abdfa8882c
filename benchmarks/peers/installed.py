"""Where `scripts/peers` has put the other programs, and how they are started."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.rig.processes import CORES, Bench, BenchmarkError, Child

ROOT: Final = Path(__file__).parent.parent.parent
PEERS: Final = ROOT / ".peers"
_PINNED: Final = Path(__file__).parent
_SHOWN: Final = ("thingsboard-gateway", "asyncua", "pymodbus")


def node() -> str:
    """Path of Node.js. Raises BenchmarkError."""
    if (found := shutil.which("node")) is None:
        raise BenchmarkError("Node.js is not installed: apt-get install nodejs npm, then run scripts/peers")
    return found


def start(bench: Bench, name: str, command: Sequence[str]) -> Child:
    """A peer on the measured core; what it prints goes to its log."""
    return bench.start(name, ["sh", "-c", 'exec "$@" >&2', "sh", *command], CORES.measured)


def versions(name: str) -> dict[str, str]:
    """The packages that were asked for, with their versions."""
    if name == "node_red":
        return dict(json.loads((_PINNED / "node_red.json").read_text())["dependencies"])
    lines = (_PINNED / "thingsboard.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {package: version for package, version in pairs if package in _SHOWN}


def find(name: str, path: str) -> Path:
    """A file of the peer `name`, its path below the peer's folder. Raises BenchmarkError."""
    found = PEERS / name / path
    if not (PEERS / name / ".installed").exists() or not found.exists():
        raise BenchmarkError(f"{name} is not installed: run scripts/peers")
    return found
