"""OPC UA: one session and one subscription per device, raw notifications decoded into columns.

`config`: the keys of a device file. `adapter`: a connection's life; `session`: connecting, the server's limits;
`certificates`: our own; `items`: monitored items; `publish`, `sequence`: the publish loop. `envelope`, `decode`,
`variant`, `layouts`: the pure decoder; `fallback`: values of rarer types; `batches`: from decoded items to the
gateway's batches. `stack`: all that reaches into asyncua; `errors`: translation of its failures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adapters.opcua.config import OpcUaDeviceConfig
from gateway.contract import Adapter, AdapterType, Clock, DeviceConfig, Point


class OpcUaAdapterType:
    """What the entry point names; asyncua is imported in `build`, so that loading this stays cheap."""

    name: str = "opcua"
    device_model: type[DeviceConfig] = OpcUaDeviceConfig

    def build(self, config: Any, points: Sequence[Point], clock: Clock) -> Adapter:
        """Make the adapter of one device from its checked `OpcUaDeviceConfig`; no I/O."""
        from adapters.opcua.adapter import OpcUaAdapter  # noqa: PLC0415 - see the class docstring

        return OpcUaAdapter(config, points, clock)


ADAPTER: AdapterType = OpcUaAdapterType()
