"""Our own application certificate: made on first use, never replaced by itself."""

from __future__ import annotations

import datetime
import os
import socket
import threading
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from adapters.opcua.config import ConnectionConfig
from adapters.opcua.connecting.trust import application_uri_of, days_left, hand_over, load, make_folder
from gateway.contract import Refused

CERTIFICATE: Final = "certificate.der"
KEY: Final = "key.pem"
ACCEPTED: Final = "next-accepted.txt"
"""names below pki/own; the last holds the urls whose servers accept the next certificate"""
WARN_DAYS: Final = 90

_LIFE: Final = datetime.timedelta(days=3650)
"""an expired certificate stops the plant's data; who wants shorter lives brings certificates of their own"""
_BACKDATED: Final = datetime.timedelta(days=1)
"""clocks of controllers are often behind, and would call the certificate not valid yet"""
_EARLIEST: Final = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
"""boxes without a battery begin in 1970; what they made then would soon be expired"""
_BITS: Final = 2048
_LONGEST_NAME: Final = 64
"""of a common name (RFC 5280, A.1)"""
_making = threading.Lock()
"""many devices start at once and share one certificate"""
_noting = threading.Lock()


class OwnCertificate(NamedTuple):
    """A certificate with its key, as they lie on disk."""

    certificate: bytes
    """DER"""
    key: bytes
    """PEM"""
    application_uri: str
    """the URI that the certificate is for, and that we must announce (Part 6, 6.2.2)"""
    days_left: int
    expires: datetime.datetime
    path: Path
    """of the certificate"""


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
    with _noting:
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


def paths_of(config: ConnectionConfig) -> tuple[Path, Path]:
    """Our certificate and key for a connection, unless it uses the next ones already."""
    if config.certificate is not None and config.key is not None:
        return Path(config.certificate), Path(config.key)
    return own_paths(Path(config.pki))


def certificate_expires(config: ConnectionConfig) -> float | None:
    """When the certificate that a connection uses expires, in seconds since the epoch; None if it has none (yet)."""
    if config.security == "None":
        return None
    path, _ = paths_of(config)
    following, _ = next_paths(Path(config.pki))
    try:
        if config.certificate is None and following.is_file() and config.url in accepted_by(Path(config.pki)):
            path = following
        return _expires(path, path.stat().st_mtime_ns)
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=64)
def _expires(path: Path, _changed_ns: int) -> float:
    """Asked for at every scrape, once for each device."""
    return load(path.read_bytes()).not_valid_after_utc.timestamp()


def own_certificate(certificate: Path, key: Path) -> OwnCertificate:
    """Make both files if neither exists, and read them. Blocks.

    The certificate is DER or PEM, the key PEM. Raises Refused when a file is missing, unreadable or cannot be written,
    and when the two do not belong together.
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
        der = found.public_bytes(Encoding.DER)
        secret = key.read_bytes()
        if load_pem_private_key(secret, None, unsafe_skip_rsa_key_validation=True).public_key() != found.public_key():
            raise Refused(f"{key} is not the key of {certificate}; bring the right one back, or remove both files")
        return OwnCertificate(der, secret, uri, left, found.not_valid_after_utc, certificate)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Refused(
            f"own certificate {certificate}: {error}; check connection.pki (or connection.certificate and key)"
        ) from error


def make_certificate(certificate: Path, key: Path, uri: str | None = None) -> None:
    """A new self-signed certificate: RSA 2048, 10 years, the key readable by its owner alone.

    Files that exist stay as they are. Raises OSError, and Refused while the clock is plainly wrong.
    """
    now = datetime.datetime.now(datetime.UTC)
    if now < _EARLIEST:
        raise Refused(f"the clock says {now:%Y-%m-%d}, so our certificate would expire too early; set the clock first")
    private_key = rsa.generate_private_key(public_exponent=65537, key_size=_BITS)
    made = _self_signed(private_key, uri or application_uri(), now)
    secret = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # Whole files or none: half a pair left by a power cut would have to be mended by hand.
    drafts = []
    for path, mode, content in ((key, 0o600, secret), (certificate, 0o644, made.public_bytes(Encoding.DER))):
        make_folder(path.parent)
        draft = _draft(path)
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        hand_over(draft)
        drafts.append((draft, path))
    try:
        for draft, path in drafts:
            # A link, unlike a rename, takes nothing away from another process that made a pair at this moment.
            path.hardlink_to(draft)
    finally:
        for draft, _ in drafts:
            draft.unlink()


def _self_signed(key: rsa.RSAPrivateKey, uri: str, now: datetime.datetime) -> x509.Certificate:
    """A client application's certificate (Part 6, 6.2.2)."""
    host = socket.gethostname()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"edge-gateway {host}"[:_LONGEST_NAME])])
    serial = x509.random_serial_number()
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=True,
        data_encipherment=True,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    extensions: tuple[x509.ExtensionType, ...] = (
        identifier,
        x509.AuthorityKeyIdentifier(identifier.digest, [x509.DirectoryName(subject)], serial),
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), x509.DNSName(host)]),
        x509.BasicConstraints(ca=True, path_length=0),
        usage,
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),
    )
    builder = x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=subject,
        public_key=key.public_key(),
        serial_number=serial,
        not_valid_before=now - _BACKDATED,
        not_valid_after=now + _LIFE,
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, SHA256())


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}")
