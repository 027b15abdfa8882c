"""`edge-gateway certs ...`: our certificate, and which certificates of the equipment are trusted."""

from __future__ import annotations

import json
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from gateway.config.load import ADAPTERS_GROUP
from gateway.contract import ConfigError
from gateway.contract.certificates import CertificateEntry, Certificates, CertificateState, HasCertificates

OK = 0
_PEM_SUFFIXES = {".pem", ".crt"}
_SOON_DAYS = 90


def main_list(pki: Path | None, *, as_json: bool) -> int:
    """Show every certificate; returns 0."""
    folder, certificates = _open(pki)
    entries = certificates.entries()
    if as_json:
        _write_json({"pki": str(folder), "certificates": [_report(each) for each in entries]})
    elif entries:
        sys.stdout.write("".join(_in_words(each) for each in entries))
    else:
        sys.stdout.write(f"no certificates in {folder}; ours is made when a device first needs it\n")
    return OK


def main_trust(wanted: str | None, file: Path | None, pki: Path | None, *, as_json: bool) -> int:
    """Trust a certificate; returns 0."""
    return _done("trusted from now on", _open(pki)[1].trust(wanted, file), as_json=as_json)


def main_reject(wanted: str, pki: Path | None, *, as_json: bool) -> int:
    """Trust a certificate no more; returns 0."""
    done = "not trusted any more; connections that are open stay until the gateway connects again"
    return _done(done, _open(pki)[1].reject(wanted), as_json=as_json)


def main_export(wanted: str | None, output: Path | None, pki: Path | None) -> int:
    """Write a certificate to a file, or as PEM to standard output; returns 0. Never writes a key."""
    certificates = _open(pki)[1]
    if output is None:
        sys.stdout.write(certificates.export(wanted, pem=True).decode())
    else:
        output.write_bytes(certificates.export(wanted, pem=output.suffix.lower() in _PEM_SUFFIXES))
        sys.stdout.write(f"written: {output}\n")
    return OK


def main_renew(pki: Path | None, *, finish: bool, as_json: bool) -> int:
    """Prepare our next certificate, or make it the only one; returns 0."""
    done = (
        "our only certificate from now on; the old one lies beside it"
        if finish
        else "prepared; let every server trust it (`edge-gateway certs export next -o next.der`): each device changes "
        "to it at its next connection after its server accepts it, and keeps the old one until then"
    )
    return _done(done, _open(pki)[1].renew(finish=finish), as_json=as_json)


def _open(pki: Path | None) -> tuple[Path, Certificates]:
    for entry in sorted(entry_points(group=ADAPTERS_GROUP), key=lambda each: each.name):
        adapter = entry.load()
        if isinstance(adapter, HasCertificates):
            folder = pki or Path(adapter.default_pki)
            return folder, adapter.certificates(folder)
    raise ConfigError("no installed adapter has certificates")


def _done(done: str, entry: CertificateEntry, *, as_json: bool) -> int:
    if as_json:
        _write_json({"certificate": _report(entry)})
    else:
        sys.stdout.write(f"{_in_words(entry)}  {done}\n")
    return OK


def _report(entry: CertificateEntry) -> dict[str, Any]:
    return {
        "state": entry.state,
        "fingerprint": entry.fingerprint,
        "subject": entry.subject,
        "hosts": list(entry.hosts),
        "application_uri": entry.application_uri,
        "valid_from": entry.valid_from.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "valid_to": entry.valid_to.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "days_left": entry.days_left,
        "file": str(entry.file),
    }


def _write_json(report: Any) -> None:
    sys.stdout.write(json.dumps(report, ensure_ascii=False, indent=2) + "\n")


def _in_words(entry: CertificateEntry) -> str:
    left = f"{entry.days_left} days left" if entry.days_left >= 0 else f"expired {-entry.days_left} days ago"
    warn = entry.state is not CertificateState.REJECTED and entry.days_left < _SOON_DAYS
    lines = [
        f"{entry.state:<9}sha256:{entry.fingerprint}",
        f"  {entry.subject}; for {', '.join(entry.hosts) or 'no host'}",
        f"  until {entry.valid_to:%Y-%m-%d}, {left}{' (!)' if warn else ''}; {entry.file}",
    ]
    return "\n".join(lines) + "\n"
