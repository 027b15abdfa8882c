"""A publisher with everything around it but the broker, for tests against real and scripted brokers."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.contract import SystemClock
from gateway.publishing.config import DestinationConfig
from gateway.publishing.publisher import Publisher
from tests.support.broker import Mosquitto
from tests.support.fakelog import FakeLog, FakeState, FakeTail, define, stream

ENTERPRISE = "91370200MA3C00000K"
BASE = f"iiot/v1/{ENTERPRISE}/gw-1"


class Plant:
    """A publisher with everything around it but the broker."""

    def __init__(self, log: FakeLog | None = None, state: FakeState | None = None, *, tells: bool = False) -> None:
        """`tells`: refusals become events in the log, as in the gateway."""
        self.log = log or FakeLog()
        self.state = state or FakeState()
        self.tells = tells
        if log is None:
            self.log.append(stream(), *define())

    def publisher(self, broker: Mosquitto | int, **keys: Any) -> Publisher:
        port = broker if isinstance(broker, int) else broker.port
        defaults = {"batch": {"max_wait": "50ms"}, "max_grade": 1, "url": f"mqtt://127.0.0.1:{port}"}
        config = DestinationConfig(name="centre", **(defaults | keys))
        return Publisher(
            config,
            enterprise=ENTERPRISE,
            gateway="gw-1",
            version="0.1",
            timezone=UTC,
            log=self.log,
            tail=FakeTail(self.log),
            state=self.state,
            points=self.log.points,
            clock=SystemClock(),
            health=lambda: {"devices": 1},
            streams=lambda: [record.stream for record in self.log.points.streams()],
            write=(lambda records: self.log.append(*records)) if self.tells else None,
            draw=random.Random(1),
        )


@contextlib.asynccontextmanager
async def running(publisher: Publisher) -> AsyncIterator[Publisher]:
    task = asyncio.create_task(publisher.run(), name="publisher")
    try:
        yield publisher
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def delivered(publisher: Publisher, count: int) -> bool:
    return publisher.statistics().total.delivered == count


def saved_delivered(state: FakeState) -> int:
    entry = state.get("destination/centre")
    return 0 if entry is None else sum(account[6] for account in entry[1]["accounts"])


def state_of(publisher: Publisher) -> tuple[str, str]:
    statistics = publisher.statistics()
    return statistics.state, statistics.reason


def listener(scheme: str, port: int, folder: Path) -> tuple[list[str], dict[str, Any] | None]:
    """Lines of mosquitto.conf for one more listener, and what `tls` has to be for it."""
    lines = [f"listener {port} 127.0.0.1"]
    if scheme in ("ws", "wss"):
        lines.append("protocol websockets")
    if scheme not in ("mqtts", "wss"):
        return lines, None
    ca, certificate, key = make_certificates(folder)
    return [*lines, f"certfile {certificate}", f"keyfile {key}"], {"ca": str(ca)}


def make_certificates(folder: Path, days: float = 1.0) -> tuple[Path, Path, Path]:
    """A self-signed certificate for 127.0.0.1, named after its folder, that expires in `days`: CA, certificate, key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, folder.name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=9))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    paths = folder / "ca.pem", folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(encoding))
    paths[1].write_bytes(certificate.public_bytes(encoding))
    paths[2].write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return paths
