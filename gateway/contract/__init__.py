"""What an adapter and the gateway promise each other: the only part of the core that an adapter may import.

Read `batch` for the columns that travel, `adapter` for the three verbs between both sides, `config` for the keys
that every device has, `status` for the one quality model that every protocol maps onto.
"""

from gateway.contract.adapter import (
    Adapter,
    AdapterType,
    Facts,
    Filled,
    Gap,
    HasFacts,
    OpenGap,
    Origin,
    Point,
    Receipt,
    Remembered,
    Sink,
)
from gateway.contract.batch import NO_TIME, Basis, Batch, Flag, ValueType
from gateway.contract.clock import Clock, SystemClock
from gateway.contract.config import DeviceConfig, PointConfig
from gateway.contract.errors import AdapterError, ConfigError, GatewayError, LinkLost, Refused
from gateway.contract.quantities import Duration, Size

__all__ = [
    "NO_TIME",
    "Adapter",
    "AdapterError",
    "AdapterType",
    "Basis",
    "Batch",
    "Clock",
    "ConfigError",
    "DeviceConfig",
    "Duration",
    "Facts",
    "Filled",
    "Flag",
    "Gap",
    "GatewayError",
    "HasFacts",
    "LinkLost",
    "OpenGap",
    "Origin",
    "Point",
    "PointConfig",
    "Receipt",
    "Refused",
    "Remembered",
    "Sink",
    "Size",
    "SystemClock",
    "ValueType",
]
