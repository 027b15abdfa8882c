"""Certificates that servers show and that we have ourselves, beyond those that are as they should be."""

from __future__ import annotations

import base64
import datetime
import logging
from pathlib import Path

import pytest
from asyncua import ua
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from adapters.opcua.config import ConnectionConfig
from adapters.opcua.connecting.certificates import make_certificate, next_paths, own_paths
from adapters.opcua.connecting.security import certificate_of, following_certificate
from adapters.opcua.connecting.trust import application_uri_of, host_names, load, objections
from gateway.contract import LinkLost, Refused
from tests.support.opcua_certificates import DAY, NOW, make_pair

URL = "opc.tcp://plc:4840"
SM2 = base64.b64decode(
    "MIIBdDCCARmgAwIBAgIUG7uAmtn5wOeTesrfXFqG0KWeGVswCgYIKoEcz1UBg3UwDjEMMAoGA1UEAwwDcGxjMCAXDTI2MTEyMTE2MzYyOFoYDz"
    "IxMDkwMTEwMTYzNjI4WjAOMQwwCgYDVQQDDANwbGMwWTATBgcqhkjOPQIBBggqgRzPVQGCLQNCAARVCB0rDVwasH9ndLQpLa5I2Qocoq+5YoeP"
    "8vhxZMDgnf5Hevr7yMr7WU+vQwJSYmfBrLATOsqXbUj246gNZDP7o1MwUTAdBgNVHQ4EFgQUt9zReoJnKqi9t36ETkWqdzYNqxwwHwYDVR0jBB"
    "gwFoAUt9zReoJnKqi9t36ETkWqdzYNqxwwDwYDVR0TAQH/BAUwAwEB/zAKBggqgRzPVQGDdQNJADBGAiEA5D/MNrgeRFKoDCS7S4PNLVScg/Um"
    "J8YvuB6p86YuAQ0CIQCtOsKDRPvmWzq5IAhl3w86hLnlMd4f8HS3qRfdPLsyqQ=="
)
"""self-signed with a key on the curve SM2 (GB/T 32918), by openssl"""


def endpoint(certificate: bytes) -> ua.EndpointDescription:
    return ua.EndpointDescription(
        SecurityPolicyUri="http://opcfoundation.org/UA/SecurityPolicy#Basic256Sha256",
        SecurityMode=ua.MessageSecurityMode.SignAndEncrypt,
        ServerCertificate=certificate,
    )


def shown(certificate: bytes) -> x509.Certificate:
    return certificate_of([endpoint(certificate)], "Basic256Sha256", "SignAndEncrypt", URL)


def test_a_key_that_nobody_here_knows_is_refused_with_what_is_needed() -> None:
    with pytest.raises(Refused, match="has no RSA key, which Basic256Sha256 needs"):
        shown(SM2)


@pytest.mark.parametrize("certificate", [b"", b"\x30\x82\x10", SM2[:40]])
def test_what_is_no_certificate_is_a_lost_link(certificate: bytes) -> None:
    with pytest.raises(LinkLost, match="cannot be read"):
        shown(certificate)


def test_names_that_cannot_be_read_are_for_nobody() -> None:
    pair = make_pair()
    made = (
        x509.CertificateBuilder()
        .subject_name(pair.certificate.subject)
        .issuer_name(pair.certificate.subject)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .serial_number(1)
        .public_key(pair.key.public_key())
        .add_extension(x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\xff\x01"), critical=False)
        .sign(pair.key, hashes.SHA256())
    )
    certificate = shown(made.public_bytes(Encoding.DER))
    assert (host_names(certificate), application_uri_of(certificate)) == ([], None)
    assert objections(certificate, "plc", datetime.datetime.now(datetime.UTC)) == ["it is for no host, not for plc"]


@pytest.mark.parametrize("broken", [0, 1])
def test_a_next_certificate_that_is_broken_leaves_the_one_in_use(
    tmp_path: Path, broken: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    make_certificate(*own_paths(tmp_path))
    make_certificate(*next_paths(tmp_path))
    config = ConnectionConfig(url=f"opc.tcp://plc-{broken}:4840", security="Basic256Sha256/Sign", pki=str(tmp_path))
    following, accepted = following_certificate(config)
    assert (following is not None, accepted) == (True, False)
    next_paths(tmp_path)[broken].write_bytes(b"")
    following, accepted = following_certificate(config)
    assert (following, accepted) == (None, False)
    assert "the next certificate of ours cannot be used" in caplog.text
    assert load(own_paths(tmp_path)[0].read_bytes())
