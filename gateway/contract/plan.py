"""What a config will ask of the plant, before anything is asked: adapters that can say so are asked by `check`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable


class Remark(NamedTuple):
    """Something in a device file that its adapter finds wrong or doubtful once it sees all devices together."""

    device: int
    """its place in the devices that were given"""
    path: tuple[str | int, ...]
    """the key in the device file"""
    message: str
    hint: str
    severity: Literal["error", "warning"] = "warning"


class LoadPlan(NamedTuple):
    """What was found out."""

    text: tuple[str, ...]
    """lines for people: what is asked how often, and how long it takes"""
    remarks: tuple[Remark, ...]
    wires: tuple[str, ...] = ()
    """one line for each wire that is narrow or shared: what it has to bear"""


NOTHING_PLANNED = LoadPlan((), ())


@runtime_checkable
class HasPlan(Protocol):
    """Adapter types that can say what their devices will be asked."""

    def plan(self, devices: Sequence[Any]) -> LoadPlan:
        """For all devices of this adapter, whose checked configs these are; pure, loads no protocol library."""
        ...
