"""All stages, in the order of the path."""

from __future__ import annotations

from functools import partial
from typing import Final

from benchmarks.stages import core, modbus, opcua
from benchmarks.stages.stage import Stage


def all_stages() -> list[Stage]:
    """Of equal doubles, of a mix of types, and of Modbus registers."""
    found = []
    for type in ("double", "mix"):
        found += opcua.stages(type)
        found += core.stages(f"opcua {type}", partial(opcua.batches, type), texts=type == "mix")
    found += modbus.STAGES
    return found + core.stages("modbus", lambda readings: modbus.cycle(readings).decode())


STAGES: Final = tuple(all_stages())
