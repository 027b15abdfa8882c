"""OPC UA: one session per device, a subscription per publishing interval, notifications decoded into columns.

`config`: the keys of a device file. `adapter`: a connection's life; `connect`: login, goodbye; `endpoints`: redundant
servers; `session`: calls, the server's limits; `health`: what it says of itself; `pace`: the request budget.
`security`: policy and login; `certificates`: our own; `trust`: the servers'; `pki`: both for the command line.
`limits`, `profiles`: what a server can bear; `plan`: what it is asked for; `items`: monitored items; `revised`: what
it made of them. `subscriptions`: all of a device, over connections and restarts; `services`: their services;
`publish`: the session's publish loop; `receiver`, `progress`, `sequence`: one subscription's notifications; `bridge`:
outages that lost nothing; `note`: what a crash leaves. `envelope`, `decode`, `variant`, `layouts`: the pure decoder;
`fallback`: values of rarer types; `batches`: from decoded items to the gateway's batches. `stack`: all that reaches
into asyncua; `errors`: translation of its failures. `tools`: browsing and reading for an engineer at a terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters.opcua.config import DEFAULT_PKI, OpcUaDeviceConfig
from gateway.contract import Adapter, AdapterType, Clock, DeviceConfig, Point
from gateway.contract.certificates import Certificates
from gateway.contract.tools import Tools


class OpcUaAdapterType:
    """What the entry point names; asyncua is imported in `build`, so that loading this stays cheap."""

    name: str = "opcua"
    device_model: type[DeviceConfig] = OpcUaDeviceConfig
    default_pki: str = DEFAULT_PKI
    schemes: tuple[str, ...] = ("opc.tcp",)

    def build(self, config: Any, points: Sequence[Point], clock: Clock) -> Adapter:
        """Make the adapter of one device from its checked `OpcUaDeviceConfig`; no I/O."""
        from adapters.opcua.adapter import OpcUaAdapter  # noqa: PLC0415 - see the class docstring

        return OpcUaAdapter(config, points, clock)

    def certificates(self, folder: Path) -> Certificates:
        """What `edge-gateway certs` works on; see `gateway.contract.certificates.HasCertificates`."""
        from adapters.opcua.pki import Pki  # noqa: PLC0415 - see the class docstring

        return Pki(folder)

    def certificate_expires(self, config: Any) -> float | None:
        """When our certificate for this device expires; see `gateway.contract.certificates.HasCertificates`."""
        from adapters.opcua.certificates import certificate_expires  # noqa: PLC0415 - see the class docstring

        return certificate_expires(config.connection)

    def tools(self) -> Tools:
        """`browse` and `read` from a URL alone; see `gateway.contract.tools.HasTools`."""
        from adapters.opcua.tools import OpcUaTools  # noqa: PLC0415 - see the class docstring

        return OpcUaTools()


ADAPTER: AdapterType = OpcUaAdapterType()
