"""What an adapter offers to `edge-gateway certs`: its own certificate, and which of the equipment's it trusts.

An adapter type whose protocol has certificates of its own implements `HasCertificates`; the command knows nothing of
the protocol. Everything here blocks, and nothing talks to equipment.
"""

from __future__ import annotations

import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable


class CertificateState(StrEnum):
    """What a certificate is to us."""

    OWN = "own"
    NEXT = "next"
    """ours, prepared: each device changes to it when its server accepts it"""
    TRUSTED = "trusted"
    REJECTED = "rejected"


class CertificateEntry(NamedTuple):
    """One certificate in the folder."""

    state: CertificateState
    fingerprint: str
    """SHA-256, 64 hexadecimal digits"""
    subject: str
    """fit for a terminal"""
    hosts: tuple[str, ...]
    application_uri: str | None
    valid_from: datetime.datetime
    valid_to: datetime.datetime
    days_left: int
    file: Path


class Certificates(Protocol):
    """The certificates of one folder, one verb for each that the command has.

    All but `entries` raise ConfigError when what was asked for cannot be, OSError when a file cannot be written.
    """

    def entries(self) -> list[CertificateEntry]:
        """Everything in the folder: own, next, trusted, rejected."""
        ...

    def trust(self, wanted: str | None, file: Path | None) -> CertificateEntry:
        """Trust the rejected certificate with this fingerprint, or the one in `file`."""
        ...

    def reject(self, wanted: str) -> CertificateEntry:
        """Trust this certificate no more; open connections stay until they connect again."""
        ...

    def export(self, wanted: str | None, *, pem: bool) -> bytes:
        """A certificate, ours by default, which is made if there is none; DER unless `pem`."""
        ...

    def renew(self, *, finish: bool) -> CertificateEntry:
        """Prepare our next certificate; with `finish` make it the only one."""
        ...


@runtime_checkable
class HasCertificates(Protocol):
    """An adapter type with certificates in a folder."""

    default_pki: str

    def certificates(self, folder: Path) -> Certificates:
        """The certificates in this folder."""
        ...

    def certificate_expires(self, config: Any) -> float | None:
        """When our certificate for the device of this checked config expires, in seconds since the epoch.

        None if it needs none, or has none yet. Called often; raises nothing.
        """
        ...
