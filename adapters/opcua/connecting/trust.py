"""Which server certificates we accept: a folder of trusted ones, a folder of those that were refused.

    pki/trusted/<fingerprint>.der     accepted; files with other names (.der .crt .cer .pem) count as well
    pki/rejected/<fingerprint>.der    seen and refused, the newest `KEPT`; `edge-gateway certs trust` takes from here

A certificate is trusted by itself: one that signed it does not make it trusted. Everything here blocks.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from adapters.opcua.config import parse_fingerprint
from gateway.contract import ConfigError, Refused

KEPT: Final = 100
"""refused certificates kept: a server that makes a new one at every start must not fill the disk"""
LEAST_BITS: Final = 2048
"""of an RSA key (Part 7, 6.6: every policy that is not deprecated)"""
_SUFFIXES: Final = {".der", ".crt", ".cer", ".pem"}
_LARGEST: Final = 64 * 1024
_SHORTEST_PREFIX: Final = 16
_LONGEST_TEXT: Final = 200


def load(raw: bytes) -> x509.Certificate:
    """The first certificate of a DER or PEM file, or of a chain as servers send it. Raises ValueError."""
    if raw.lstrip().startswith(b"-----"):
        return x509.load_pem_x509_certificate(raw)
    return x509.load_der_x509_certificate(_first(raw))


def _first(raw: bytes) -> bytes:
    """A chain is certificates one after the other (Part 6, 6.2.6); the first names its length (X.690, 8.1.3)."""
    if len(raw) < 4 or raw[1] < 0x81 or raw[1] > 0x84:
        return raw
    digits = raw[1] & 0x7F
    return raw[: 2 + digits + int.from_bytes(raw[2 : 2 + digits], "big")]


def der(certificate: x509.Certificate) -> bytes:
    """The certificate in DER."""
    return certificate.public_bytes(Encoding.DER)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 over the DER form, 64 lower-case hexadecimal digits."""
    return certificate.fingerprint(SHA256()).hex()


def host_names(certificate: x509.Certificate) -> list[str]:
    """The DNS names and addresses that the certificate is for."""
    names = _alternative_names(certificate)
    if names is None:
        return []
    return names.get_values_for_type(x509.DNSName) + [str(ip) for ip in names.get_values_for_type(x509.IPAddress)]


def application_uri_of(certificate: x509.Certificate) -> str | None:
    """The application that the certificate is for (Part 6, 6.2.2)."""
    names = _alternative_names(certificate)
    return None if names is None else next(iter(names.get_values_for_type(x509.UniformResourceIdentifier)), None)


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    """None where there are none, or none that can be read: then it is for nobody."""
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return None


def days_left(certificate: x509.Certificate, now: datetime.datetime) -> int:
    """Whole days until it expires, negative afterwards."""
    return (certificate.not_valid_after_utc - now).days


def objections(certificate: x509.Certificate, host: str, now: datetime.datetime) -> list[str]:
    """What is wrong with a server's certificate apart from trust (Part 4, 6.1.3); `host` is the one we connect to."""
    found = []
    if certificate.not_valid_after_utc < now:
        found.append(f"it expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
    if certificate.not_valid_before_utc > now:
        found.append(f"it is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC (is our clock right?)")
    names = host_names(certificate)
    if _normal(host) not in {_normal(name) for name in names}:
        found.append(f"it is for {printable(', '.join(names)) or 'no host'}, not for {host}")
    key = certificate.public_key()
    if isinstance(key, RSAPublicKey) and key.key_size < LEAST_BITS:
        found.append(f"its key has {key.key_size} bits, fewer than {LEAST_BITS}")
    return found


def _normal(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower().rstrip(".")


class TrustStore:
    """The folders `trusted` and `rejected` below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trusted = folder / "trusted"
        self.rejected = folder / "rejected"

    def trusts(self, certificate: x509.Certificate) -> bool:
        """Whether this very certificate is in `trusted`. Raises OSError when the folder cannot be read."""
        return any(found == certificate for _, found in self.files(self.trusted))

    def files(self, folder: Path) -> Iterator[tuple[Path, x509.Certificate]]:
        """The readable certificates of one of the folders, by file name."""
        if not folder.is_dir():
            return
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in _SUFFIXES and path.stat().st_size <= _LARGEST:
                try:
                    yield path, load(path.read_bytes())
                except ValueError:
                    continue

    def check(
        self, shown: x509.Certificate, host: str, pin: str | None, now: datetime.datetime | None = None
    ) -> list[str]:
        """Decide about the certificate that a server shows; returns the objections that the pin overrides.

        `pin` is the fingerprint of `connection.trust`. Raises Refused with what to do; the certificate is then kept in
        `rejected`.
        """
        found = objections(shown, host, now or datetime.datetime.now(datetime.UTC))
        digits = fingerprint(shown)
        if pin == digits:
            return found
        try:
            trusted = pin is None and self.trusts(shown)
        except OSError as error:
            raise Refused(f"cannot read {self.trusted}: {error.strerror}; check connection.pki") from error
        if trusted and not found:
            return []
        name = f"the server's certificate sha256:{digits} ({subject(shown)})"
        exception = f'set connection.trust: "sha256:{digits}" in the device file'
        if pin is not None:
            self.remember(shown)
            raise Refused(
                f"{name} is not the one that connection.trust names (sha256:{pin}); if the server's owner confirms "
                f"that it was replaced, {exception}"
            )
        if trusted:
            raise Refused(f"{name} is trusted, but {' and '.join(found)}; replace it, or {exception}")
        problem = self.remember(shown)
        advice = f"is not trusted; compare the fingerprint at the server, then run: {self.command(digits)}"
        if problem:
            advice += f" --file CERTIFICATE (it could not be kept here: {problem})"
        besides = f" -- besides, {' and '.join(found)}; for this, {exception}" if found else ""
        raise Refused(f"{name} {advice}{besides}")

    def command(self, digits: str) -> str:
        """What an engineer types to trust a certificate."""
        return f"edge-gateway certs trust {digits} --pki {shlex.quote(str(self.folder.absolute()))}"

    def remember(self, certificate: x509.Certificate) -> str | None:
        """Keep a refused certificate; returns why not if that fails: it must not hide the refusal."""
        try:
            path = _keep(self.rejected, certificate)
            os.utime(path)
            kept = sorted(self.rejected.glob("*.der"), key=lambda each: each.stat().st_mtime_ns)
            for old in kept[:-KEPT]:
                old.unlink(missing_ok=True)
        except OSError as error:
            return f"{self.rejected}: {error.strerror}"
        return None

    def trust(self, wanted: str, given: x509.Certificate | None = None) -> x509.Certificate:
        """Move a certificate to `trusted`. `given` is one from elsewhere. Raises ConfigError, OSError."""
        certificate = given or self.find(wanted, self.rejected, self.trusted)
        if given is not None and wanted and fingerprint(given) != parse_fingerprint(wanted):
            raise ConfigError(f"the file holds sha256:{fingerprint(given)}, not {wanted}; nothing was changed")
        _keep(self.trusted, certificate)
        self._remove(certificate, self.rejected)
        return certificate

    def reject(self, wanted: str) -> x509.Certificate:
        """Move a certificate to `rejected`; connections end when they next connect. Raises ConfigError, OSError."""
        certificate = self.find(wanted, self.trusted, self.rejected)
        _keep(self.rejected, certificate)
        self._remove(certificate, self.trusted)
        return certificate

    def find(self, wanted: str, *folders: Path) -> x509.Certificate:
        """By fingerprint, or by its first digits if they are unmistakable. Raises ConfigError."""
        known = {fingerprint(found): found for folder in folders for _, found in self.files(folder)}
        digits = wanted.strip().lower().removeprefix("sha256:").replace(":", "")
        matches = [digest for digest in known if digest.startswith(digits)]
        if len(digits) < _SHORTEST_PREFIX or len(matches) != 1:
            raise ConfigError(
                f"no certificate with the fingerprint {wanted!r} in {' or '.join(map(str, folders))}; "
                f"`edge-gateway certs list --pki {shlex.quote(str(self.folder))}` shows those that are there "
                f"(at least {_SHORTEST_PREFIX} digits are needed)"
            )
        return known[matches[0]]

    @staticmethod
    def path_in(folder: Path, certificate: x509.Certificate) -> Path:
        """Where `trust` and `reject` put a certificate."""
        return folder / f"{fingerprint(certificate)}.der"

    def _remove(self, certificate: x509.Certificate, folder: Path) -> None:
        for path, found in list(self.files(folder)):
            if found == certificate:
                path.unlink()


def _keep(folder: Path, certificate: x509.Certificate) -> Path:
    """Write whole or not at all: the gateway may be reading."""
    make_folder(folder)
    path = TrustStore.path_in(folder, certificate)
    if not path.exists():
        draft = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        draft.write_bytes(der(certificate))
        hand_over(draft)
        draft.replace(path)
    return path


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, for the owner of the one that exists. Raises OSError."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        hand_over(folder)


def hand_over(path: Path) -> None:
    """What `sudo edge-gateway certs` makes belongs to the owner of the folder around it: the gateway must read it."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        around = path.parent.stat()
        os.chown(path, around.st_uid, around.st_gid, follow_symlinks=False)


def subject(certificate: x509.Certificate) -> str:
    """Whose certificate it is, fit for a terminal."""
    return printable(certificate.subject.rfc4514_string()) or "without a name"


def printable(text: str) -> str:
    """A stranger's text, fit for a terminal and a log."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_LONGEST_TEXT])
