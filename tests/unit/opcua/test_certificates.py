"""Our own certificate: made once, right for servers, never replaced."""

from __future__ import annotations

import datetime
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from adapters.opcua.config import ConnectionConfig
from adapters.opcua.connecting import certificates
from adapters.opcua.connecting.certificates import (
    application_uri,
    certificate_expires,
    make_certificate,
    own_certificate,
    own_paths,
)
from adapters.opcua.connecting.trust import application_uri_of, load
from gateway.contract import Refused
from tests.support.opcua_certificates import DAY, NOW, make_pair


def test_it_is_made_on_first_use_and_kept(tmp_path: Path) -> None:
    certificate, key = own_paths(tmp_path / "pki")
    made = own_certificate(certificate, key)
    assert own_certificate(certificate, key) == made
    assert sorted(path.name for path in certificate.parent.iterdir()) == ["certificate.der", "key.pem"]
    assert key.stat().st_mode & 0o777 == 0o600
    found = load(made.certificate)
    public = found.public_key()
    assert isinstance(public, RSAPublicKey)
    assert public.key_size >= 2048
    assert load_pem_private_key(made.key, None).public_key() == public
    assert application_uri_of(found) == made.application_uri == application_uri()
    assert 3648 <= made.days_left <= 3650
    assert found.not_valid_before_utc < NOW - DAY / 2, "servers' clocks may be behind"
    usage = found.extensions.get_extension_for_class(x509.KeyUsage).value
    assert all([usage.digital_signature, usage.key_encipherment, usage.data_encipherment, usage.content_commitment])


def test_devices_that_start_together_share_one(tmp_path: Path) -> None:
    certificate, key = own_paths(tmp_path)
    made: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: made.append(own_certificate(certificate, key).certificate)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1


@pytest.mark.parametrize("lost", [0, 1], ids=["certificate", "key"])
def test_half_a_pair_is_not_completed(tmp_path: Path, lost: int) -> None:
    paths = own_paths(tmp_path)
    own_certificate(*paths)
    paths[lost].unlink()
    with pytest.raises(Refused, match=f"{paths[lost].name} is missing"):
        own_certificate(*paths)


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"])
def test_a_key_that_cannot_be_read_is_told_as_such(tmp_path: Path, content: bytes) -> None:
    certificate, key = own_paths(tmp_path)
    own_certificate(certificate, key)
    key.write_bytes(content)
    with pytest.raises(Refused, match=r"own certificate .*certificate\.der: .*; check connection\.pki"):
        own_certificate(certificate, key)


def test_a_key_of_another_certificate_is_told_as_such(tmp_path: Path) -> None:
    certificate, key = own_paths(tmp_path)
    own_certificate(certificate, key)
    key.write_bytes(make_pair(key=1).key_pem)
    with pytest.raises(Refused, match=r"key\.pem is not the key of .*certificate\.der; bring the right one back"):
        own_certificate(certificate, key)


def test_a_folder_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "pki").write_text("a file")
    with pytest.raises(Refused, match=r"check connection\.pki"):
        own_certificate(*own_paths(tmp_path / "pki"))


class Morning1970(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Morning1970:
        return cls(1970, 1, 1, tzinfo=tz)


def test_a_box_that_does_not_know_the_time_makes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates.datetime, "datetime", Morning1970)
    with pytest.raises(Refused, match="set the clock first"):
        own_certificate(*own_paths(tmp_path))
    assert list(tmp_path.rglob("*")) == []


def test_what_another_process_made_stays(tmp_path: Path) -> None:
    certificate, key = own_paths(tmp_path)
    made = own_certificate(certificate, key)
    with pytest.raises(FileExistsError):
        make_certificate(certificate, key)
    assert own_certificate(certificate, key) == made
    assert len(list(certificate.parent.iterdir())) == 2


def test_a_long_host_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates.socket, "gethostname", lambda: "b" * 64)
    made = own_certificate(*own_paths(tmp_path))
    assert made.application_uri == f"urn:{'b' * 64}:edge-gateway"


def test_when_it_expires_is_known_to_metrics(tmp_path: Path) -> None:
    plain = {"url": "opc.tcp://h:1", "pki": str(tmp_path)}
    secure = ConnectionConfig.model_validate({**plain, "security": "Basic256Sha256/Sign"})
    assert certificate_expires(secure) is None, "not made yet"
    made = load(own_certificate(*own_paths(tmp_path)).certificate)
    assert certificate_expires(secure) == made.not_valid_after_utc.timestamp()
    assert certificate_expires(ConnectionConfig.model_validate(plain)) is None
    own_paths(tmp_path)[0].write_bytes(b"damaged, and of another time")
    assert certificate_expires(secure) is None


def test_ones_own_certificate_names_the_application(tmp_path: Path) -> None:
    pair = make_pair("gateway", uri="urn:box-7:gateway")
    (tmp_path / "c.crt").write_bytes(pair.pem)
    (tmp_path / "k.pem").write_bytes(pair.key_pem)
    found = own_certificate(tmp_path / "c.crt", tmp_path / "k.pem")
    assert (found.application_uri, found.certificate, found.days_left) == ("urn:box-7:gateway", pair.der, 999)
