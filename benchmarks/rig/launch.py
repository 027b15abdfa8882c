"""The gateway as a child of a run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.rig.processes import CORES, Bench, Child


def gateway_process(bench: Bench, config: Path, before: Sequence[str] = ()) -> Child:
    """`edge-gateway run` on a config folder, on the measured core; `before` is written in front of the command."""
    program = str(Path(sys.executable).with_name("edge-gateway"))
    return bench.start("gateway", [*before, program, "run", str(config)], CORES.measured)
