"""OPC UA: one session per device, a subscription per publishing interval, notifications decoded into columns.

`adapter`: one device, from login to loss. `config`, `profiles`: the keys of a device file, what is known of makes of
servers. `connecting`: getting in and out. `session`: calls, limits, budget and health of one session. `acquiring`: the
plan, subscriptions, polling. `decoding`: raw bytes to batches. `model`: what a server says of its nodes. `history`:
gaps that are filled. `errors`: translation of failures. `tools`: browsing and reading for an engineer at a terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters.opcua.config import DEFAULT_PKI, OpcUaDeviceConfig
from gateway.contract import Adapter, AdapterType, Clock, DeviceConfig, Point
from gateway.contract.certificates import Certificates
from gateway.contract.plan import LoadPlan
from gateway.contract.tools import Tools
from gateway.contract.trial import TryOut


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
        from adapters.opcua.connecting.pki import Pki  # noqa: PLC0415 - see the class docstring

        return Pki(folder)

    def certificate_expires(self, config: Any) -> float | None:
        """When our certificate for this device expires; see `gateway.contract.certificates.HasCertificates`."""
        from adapters.opcua.connecting.certificates import certificate_expires  # noqa: PLC0415 - see the class docstring

        return certificate_expires(config.connection)

    def plan(self, devices: Sequence[Any]) -> LoadPlan:
        """What is doubtful in the device files; see `gateway.contract.plan.HasPlan`."""
        from adapters.opcua.plan import load_plan  # noqa: PLC0415 - `run` does not need it before its devices

        return load_plan(devices)

    def trial(self) -> TryOut:
        """`check --connect`; see `gateway.contract.trial.HasTrial`."""
        from adapters.opcua.tools.trial import try_out  # noqa: PLC0415 - see the class docstring

        return try_out

    def tools(self) -> Tools:
        """`browse` and `read` from a URL alone; see `gateway.contract.tools.HasTools`."""
        from adapters.opcua.tools import OpcUaTools  # noqa: PLC0415 - see the class docstring

        return OpcUaTools()


ADAPTER: AdapterType = OpcUaAdapterType()
