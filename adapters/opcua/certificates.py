"""Our own application certificate: made on first use, never replaced by itself."""

from __future__ import annotations

import datetime
import os
import socket
import threading
from pathlib import Path
from typing import Final, NamedTuple

from asyncua.crypto.cert_gen import (
    dump_private_key_as_pem,
    generate_private_key,
    generate_self_signed_app_certificate,
)
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from adapters.opcua.trust import application_uri_of, days_left, hand_over, load, make_folder
from gateway.contract import Refused

CERTIFICATE: Final = "certificate.der"
KEY: Final = "key.pem"
ACCEPTED: Final = "next-accepted.txt"
"""names below pki/own; the last holds the urls whose servers accept the next certificate"""
WARN_DAYS: Final = 90

_DAYS: Final = 3650
"""an expired certificate stops the plant's data; who wants shorter lives brings certificates of their own"""
_making = threading.Lock()
"""many devices start at once and share one certificate"""


class OwnCertificate(NamedTuple):
    """A certificate with its key, as they lie on disk."""

    certificate: bytes
    """DER"""
    key: bytes
    """PEM"""
    application_uri: str
    """the URI that the certificate is for, and that we must announce (Part 6, 6.2.2)"""
    days_left: int


def application_uri() -> str:
    """The URI of an application that has no certificate; unique to this host (Part 4, 7.2)."""
    return f"urn:{socket.gethostname()}:edge-gateway"


def own_paths(pki: Path) -> tuple[Path, Path]:
    """Where certificate and key lie that no config names."""
    return pki / "own" / CERTIFICATE, pki / "own" / KEY


def next_paths(pki: Path) -> tuple[Path, Path]:
    """Where the certificate and key lie that `certs renew` prepared."""
    return pki / "own" / f"next-{CERTIFICATE}", pki / "own" / f"next-{KEY}"


def accepted_by(pki: Path, add: str | None = None, *, forget: bool = False) -> list[str]:
    """The urls whose servers accept our next certificate, with one more, or none from now on. Raises OSError."""
    path = pki / "own" / ACCEPTED
    with _making:
        urls = path.read_text().splitlines() if path.exists() else []
        if forget:
            path.unlink(missing_ok=True)
            return []
        if add is not None and add not in urls:
            urls.append(add)
            draft = _draft(path)
            draft.write_text("".join(f"{url}\n" for url in urls))
            hand_over(draft)
            draft.replace(path)
    return urls


def own_certificate(certificate: Path, key: Path) -> OwnCertificate:
    """Make both files if neither exists, and read them. Blocks.

    The certificate is DER or PEM, the key PEM. Raises Refused when a file is missing, unreadable or cannot be written.
    """
    try:
        with _making:
            if not certificate.exists() and not key.exists():
                make_certificate(certificate, key)
        for path in (certificate, key):
            if not path.is_file():
                raise Refused(f"{path} is missing while its counterpart exists; bring it back, or remove both files")
        found = load(certificate.read_bytes())
        left = days_left(found, datetime.datetime.now(datetime.UTC))
        uri = application_uri_of(found) or application_uri()
        return OwnCertificate(found.public_bytes(Encoding.DER), key.read_bytes(), uri, left)
    except (OSError, ValueError) as error:
        raise Refused(
            f"own certificate {certificate}: {error}; check connection.pki (or connection.certificate and key)"
        ) from error


def make_certificate(certificate: Path, key: Path, uri: str | None = None) -> None:
    """A new self-signed certificate: RSA 2048, 10 years, the key readable by its owner alone. Raises OSError."""
    private_key = generate_private_key()
    uri = uri or application_uri()
    made = generate_self_signed_app_certificate(
        private_key,
        uri,
        {},
        [x509.UniformResourceIdentifier(uri), x509.DNSName(socket.gethostname())],
        extended=[ExtendedKeyUsageOID.CLIENT_AUTH],
        days=_DAYS,
    )
    for path in (certificate, key):
        make_folder(path.parent)
    # Whole files or none: half a pair left by a power cut would have to be mended by hand.
    drafts = [(_draft(key), 0o600, dump_private_key_as_pem(private_key), key)]
    drafts.append((_draft(certificate), 0o644, made.public_bytes(Encoding.DER), certificate))
    for draft, mode, content, _ in drafts:
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        hand_over(draft)
    for draft, _, _, path in drafts:
        draft.rename(path)


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")
