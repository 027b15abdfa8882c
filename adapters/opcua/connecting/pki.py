"""The folder `pki` as `edge-gateway certs` sees it; see `gateway.contract.certificates`."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from adapters.opcua.connecting.certificates import accepted_by, make_certificate, next_paths, own_certificate, own_paths
from adapters.opcua.connecting.trust import (
    TrustStore,
    application_uri_of,
    days_left,
    fingerprint,
    host_names,
    load,
    printable,
    subject,
)
from gateway.contract import ConfigError
from gateway.contract.certificates import CertificateEntry, CertificateState


class Pki:
    """The certificates below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store = TrustStore(folder)

    def entries(self) -> list[CertificateEntry]:
        """Everything that is there, by state and file name."""
        found = []
        for state, (path, _) in ((CertificateState.OWN, self._own), (CertificateState.NEXT, self._next)):
            if path.is_file():
                found.append(_entry(state, path, _read(path)))
        for state, folder in (
            (CertificateState.TRUSTED, self._store.trusted),
            (CertificateState.REJECTED, self._store.rejected),
        ):
            found += [_entry(state, path, certificate) for path, certificate in self._store.files(folder)]
        return found

    def trust(self, wanted: str | None, file: Path | None) -> CertificateEntry:
        """See `Certificates.trust`."""
        if file is None and not wanted:
            raise ConfigError("name the fingerprint of the certificate, or a file that holds it")
        certificate = self._store.trust(wanted or "", None if file is None else _read(file))
        return _entry(CertificateState.TRUSTED, self._store.path_in(self._store.trusted, certificate), certificate)

    def reject(self, wanted: str) -> CertificateEntry:
        """See `Certificates.reject`."""
        certificate = self._store.reject(wanted)
        return _entry(CertificateState.REJECTED, self._store.path_in(self._store.rejected, certificate), certificate)

    def export(self, wanted: str | None, *, pem: bool) -> bytes:
        """See `Certificates.export`."""
        if wanted is None:
            certificate = load(own_certificate(*self._own).certificate)
        else:
            ours = {fingerprint(load(path.read_bytes())): path for path, _ in (self._own, self._next) if path.is_file()}
            digits = wanted.strip().lower().removeprefix("sha256:").replace(":", "")
            mine = ours.get(digits) or (self._next[0] if wanted == "next" and self._next[0].is_file() else None)
            certificate = _read(mine) if mine else self._store.find(wanted, self._store.trusted, self._store.rejected)
        return certificate.public_bytes(Encoding.PEM if pem else Encoding.DER)

    def renew(self, *, finish: bool) -> CertificateEntry:
        """See `Certificates.renew`. The application keeps its URI, by which servers know it."""
        current, following = self._own, self._next
        if not current[0].is_file():
            raise ConfigError(f"there is no certificate in {current[0].parent} yet; the first is made by itself")
        if finish:
            if not following[0].is_file():
                raise ConfigError("no next certificate is prepared; `edge-gateway certs renew` prepares one")
            self._replace()
            return _entry(CertificateState.OWN, current[0], _read(current[0]))
        if following[0].is_file():
            servers = ", ".join(printable(url) for url in accepted_by(self._folder)) or "none so far"
            raise ConfigError(
                f"a next certificate is prepared already; servers that accept it: {servers}. Once all do, "
                "`edge-gateway certs renew --finish` makes it the only one"
            )
        following[1].unlink(missing_ok=True)  # half a pair that a power cut left: nobody has its other half
        make_certificate(*following, application_uri_of(_read(current[0])))
        return _entry(CertificateState.NEXT, following[0], _read(following[0]))

    def _replace(self) -> None:
        """Keep the old pair under a name of its own: a server that was forgotten can still be helped."""
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
        for old in self._own:
            old.rename(old.with_name(f"until-{stamp}-{old.name}"))
        # The key first: certificate and key are looked for in this order, and half a pair is refused, not completed.
        for new, path in zip(reversed(self._next), reversed(self._own), strict=True):
            new.rename(path)
        accepted_by(self._folder, forget=True)

    @property
    def _own(self) -> tuple[Path, Path]:
        return own_paths(self._folder)

    @property
    def _next(self) -> tuple[Path, Path]:
        return next_paths(self._folder)


def _read(path: Path) -> x509.Certificate:
    try:
        return load(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{path} holds no certificate that can be read: {error}") from error


def _entry(state: CertificateState, path: Path, certificate: x509.Certificate) -> CertificateEntry:
    uri = application_uri_of(certificate)
    return CertificateEntry(
        state,
        fingerprint(certificate),
        subject(certificate),
        tuple(printable(name) for name in host_names(certificate)),
        None if uri is None else printable(uri),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        days_left(certificate, datetime.datetime.now(datetime.UTC)),
        path,
    )
