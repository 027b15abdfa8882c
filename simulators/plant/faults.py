"""What can go wrong with a simulated device, and the switch that makes it so."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """The state of a device's fault switch."""

    NONE = "ok"
    STOP = "stop"
    """the device hangs: connections stay open, nothing is answered"""
    DELAY = "delay"
    """every answer comes late"""
    REFUSE = "refuse"
    """connections are cut and new ones refused"""
    BAD = "bad"
    """answers come, their values are worthless (Modbus: all bits one; OPC UA: status Bad)"""
    EXCEPTION = "exception"
    """Modbus only: exception 4, server device failure"""
    GARBAGE = "garbage"
    """Modbus only: answers that belong to no request"""


@dataclass(slots=True)
class FaultSwitch:
    """One device's switch, read at every request."""

    fault: Fault = Fault.NONE
    delay_s: float = 0.0
    """for `Fault.DELAY`"""

    def __str__(self) -> str:
        return f"{self.fault} {self.delay_s:g}" if self.fault is Fault.DELAY else str(self.fault)
