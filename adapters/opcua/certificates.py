"""Our own certificate: made on first use, never replaced."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final

from asyncua.crypto.cert_gen import (
    dump_private_key_as_pem,
    generate_private_key,
    generate_self_signed_app_certificate,
)
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.contract import Refused

_DAYS: Final = 3650
"""an expired certificate stops the plant's data; who wants shorter lives brings certificates of their own"""


def application_uri() -> str:
    """The URI of an application that has no certificate; unique to this host (Part 4, 7.2)."""
    return f"urn:{socket.gethostname()}:edge-gateway"


def own_certificate(certificate: Path, key: Path) -> str:
    """Make both files if neither exists; returns the application URI that the certificate is for. Blocks.

    The certificate is DER or PEM, the key PEM. Raises Refused when a file is missing, unreadable or cannot be written.
    """
    try:
        if not certificate.exists() and not key.exists():
            _make(certificate, key)
        for path in (certificate, key):
            if not path.is_file():
                raise Refused(f"{path} is missing while its counterpart exists; bring it back, or remove both files")
        return _uri_of(certificate)
    except (OSError, ValueError) as error:
        raise Refused(f"own certificate {certificate}: {error}; check connection.certificate and key") from error


def _make(certificate: Path, key: Path) -> None:
    private_key = generate_private_key()
    uri = application_uri()
    made = generate_self_signed_app_certificate(
        private_key,
        uri,
        {},
        [x509.UniformResourceIdentifier(uri), x509.DNSName(socket.gethostname())],
        extended=[ExtendedKeyUsageOID.CLIENT_AUTH],
        days=_DAYS,
    )
    for path in (certificate, key):
        path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(dump_private_key_as_pem(private_key))
    certificate.write_bytes(made.public_bytes(Encoding.DER))


def _uri_of(path: Path) -> str:
    """The certificate must name the application URI that we announce (Part 6, 6.2.2)."""
    raw = path.read_bytes()
    certificate = (
        x509.load_pem_x509_certificate(raw) if raw.startswith(b"-----") else x509.load_der_x509_certificate(raw)
    )
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return application_uri()
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return uris[0] if uris else application_uri()
