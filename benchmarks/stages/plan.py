"""All stages, in the order of the path."""

from __future__ import annotations

from functools import partial
from typing import Final

from benchmarks.stages import modbus, opcua, small
from benchmarks.stages.core import Offers
from benchmarks.stages.stage import Stage


def all_stages() -> list[Stage]:
    """Of equal doubles, of a mix of types, of a plant, of Modbus registers, and of many small devices."""
    doubles = Offers("opcua double", partial(opcua.batches, "double"))
    mix = Offers("opcua mix", partial(opcua.batches, "mix"), texts=True)
    registers = Offers("modbus", lambda readings: modbus.cycle(readings).decode())
    return [
        *opcua.stages("double"),
        *doubles.values(),
        *doubles.books(),
        *opcua.stages("mix"),
        *mix.values(),
        *opcua.stages("plant"),
        *modbus.STAGES,
        *registers.values(),
        *small.STAGES,
    ]


STAGES: Final = tuple(all_stages())
