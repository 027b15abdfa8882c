"""Basic256Sha256 / SignAndEncrypt, server side (Part 6, 6.7; Part 7, 6.6.165): the load server's own, apart from the
gateway's.

What secures the data costs one cipher and one HMAC per chunk; RSA is only used when a channel or a session is opened.
"""

from __future__ import annotations

import datetime
import hmac
import ipaddress
import os
from hashlib import sha1
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

POLICY: Final = "http://opcfoundation.org/UA/SecurityPolicy#Basic256Sha256"
SIGNATURE: Final = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
NONCE_BYTES: Final = 32
BITS: Final = 2048
BLOCK: Final = 16
MAC_BYTES: Final = 32
KEY_BYTES: Final = 32
_OAEP_BYTES: Final = 42
"""what RSA-OAEP with SHA-1 takes of a block (RFC 8017, 7.1.1)"""
_LIFE: Final = datetime.timedelta(days=30)


class SecurityError(Exception):
    """A signature that is wrong, or a certificate that is not trusted."""


def make_certificate(certificate: Path, key: Path, uri: str, address: str = "127.0.0.1") -> None:
    """Write a self-signed application certificate (DER; Part 6, 6.2.2) and its RSA key (PEM)."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, uri)])
    now = datetime.datetime.now(datetime.UTC)
    names: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(uri),
        x509.IPAddress(ipaddress.ip_address(address)),
    ]
    usage = x509.KeyUsage(True, True, True, True, False, True, False, False, False)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LIFE)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .sign(private, SHA256())
    )
    for path in (certificate, key):
        path.parent.mkdir(parents=True, exist_ok=True)
    certificate.write_bytes(made.public_bytes(Encoding.DER))
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


class Identity(NamedTuple):
    """The server's certificate and key, and the one client that it trusts."""

    certificate: bytes
    """DER"""
    key: rsa.RSAPrivateKey
    trusted: bytes
    """DER"""

    @classmethod
    def load(cls, certificate: Path, key: Path, trusted: Path) -> Self:
        """From files: DER, PEM, DER. Raises OSError, ValueError."""
        private = cast("rsa.RSAPrivateKey", load_pem_private_key(key.read_bytes(), None))
        return cls(certificate.read_bytes(), private, trusted.read_bytes())

    def sign(self, data: bytes) -> bytes:
        """RSA-PKCS15 with SHA-256."""
        return self.key.sign(data, padding.PKCS1v15(), SHA256())

    def verify(self, data: bytes, signature: bytes) -> None:
        """That the trusted client has signed `data`. Raises SecurityError."""
        try:
            self._client.verify(signature, data, padding.PKCS1v15(), SHA256())
        except InvalidSignature:
            raise SecurityError("the client's signature is wrong") from None

    def receive_open(self, header: bytes, content: bytes, sender: bytes | None, secured: int) -> bytes:
        """The plain text of an OpenSecureChannel request: sequence header and body (Part 6, 6.7.2 and 6.7.4).

        `header`: the message's first 8 bytes; `content`: what follows, of which `secured` on is encrypted; `sender`:
        the client's certificate. Raises SecurityError.
        """
        if sender != self.trusted:
            raise SecurityError("the client's certificate is not trusted")
        size = self.key.key_size // 8
        try:
            plain = b"".join(
                self.key.decrypt(content[at : at + size], _oaep()) for at in range(secured, len(content), size)
            )
        except ValueError:
            raise SecurityError("the request is not encrypted for this server") from None
        signed, signature = plain[: -self._client_bytes], plain[-self._client_bytes :]
        self.verify(header + content[:secured] + signed, signature)
        extra = self.key.key_size > 2048  # then the padding's size takes two bytes
        size = int.from_bytes(signed[-1:] if not extra else signed[-1:] + signed[-2:-1], "big")
        return signed[: -(size + 1 + extra)]

    def secure_open(self, kind: bytes, channel: bytes, plain: bytes) -> bytes:
        """An OpenSecureChannel response: `channel` is its id, `plain` the sequence header and the body."""
        policy = POLICY.encode()
        parts = (policy, self.certificate, sha1(self.trusted, usedforsecurity=False).digest())
        head = channel + b"".join(len(part).to_bytes(4, "little") + part for part in parts)
        block, room = self._client_bytes, self._client_bytes - _OAEP_BYTES
        extra = self._client_bytes > 256
        signature = self.key.key_size // 8
        pad = -(len(plain) + 1 + extra + signature) % room
        plain += bytes([pad & 0xFF]) * (pad + 1) + (bytes([pad >> 8]) if extra else b"")
        encrypted = (len(plain) + signature) // room * block
        head = kind + (8 + len(head) + encrypted).to_bytes(4, "little") + head
        plain += self.sign(head + plain)
        return head + b"".join(
            self._client.encrypt(plain[at : at + room], _oaep()) for at in range(0, len(plain), room)
        )

    @property
    def _client(self) -> rsa.RSAPublicKey:
        return cast("rsa.RSAPublicKey", x509.load_der_x509_certificate(self.trusted).public_key())

    @property
    def _client_bytes(self) -> int:
        return self._client.key_size // 8


def _oaep() -> padding.OAEP:
    return padding.OAEP(padding.MGF1(SHA1()), SHA1(), None)


def new_nonce() -> bytes:
    """What keys are derived from."""
    return os.urandom(NONCE_BYTES)


class _Keys(NamedTuple):
    """One direction's (Part 6, 6.7.5)."""

    signing: bytes
    cipher: Cipher[Any]

    @classmethod
    def derive(cls, secret: bytes, seed: bytes) -> Self:
        made = b"".join(_expand(secret, seed, 2 * KEY_BYTES + BLOCK))
        key, vector = made[KEY_BYTES : 2 * KEY_BYTES], made[2 * KEY_BYTES : 2 * KEY_BYTES + BLOCK]
        return cls(made[:KEY_BYTES], Cipher(AES(key), CBC(vector)))


def _expand(secret: bytes, seed: bytes, size: int) -> list[bytes]:
    """P_SHA256 (RFC 5246, 5)."""
    found: list[bytes] = []
    last = seed
    while MAC_BYTES * len(found) < size:
        last = hmac.digest(secret, last, "sha256")
        found.append(hmac.digest(secret, last + seed, "sha256"))
    return found


class Symmetric:
    """What secures the messages of one security token."""

    def __init__(self, client_nonce: bytes, server_nonce: bytes) -> None:
        self._client = _Keys.derive(server_nonce, client_nonce)
        self._server = _Keys.derive(client_nonce, server_nonce)

    @staticmethod
    def room(chunk: int) -> int:
        """Bytes of a body that fit into a chunk of so many."""
        return (chunk - 16) // BLOCK * BLOCK - 8 - 1 - MAC_BYTES

    def secure(self, kind: bytes, channel_and_token: bytes, sequence: bytes, body: bytes) -> list[bytes]:
        """A whole chunk: `kind` is its type and whether it is the last, `sequence` the sequence header."""
        pad = -(len(sequence) + len(body) + 1 + MAC_BYTES) % BLOCK
        padding = bytes([pad]) * (pad + 1)
        size = 16 + len(sequence) + len(body) + len(padding) + MAC_BYTES
        head = kind + size.to_bytes(4, "little") + channel_and_token
        plain = b"".join((sequence, body, padding))
        cipher = self._server.cipher.encryptor()
        signature = hmac.digest(self._server.signing, head + plain, "sha256")
        return [head, cipher.update(plain), cipher.update(signature)]

    def receive(self, head: bytes, content: bytes) -> bytes:
        """Sequence header and body of a chunk whose first 16 bytes are `head`. Raises SecurityError."""
        if len(content) < MAC_BYTES + BLOCK or len(content) % BLOCK:
            raise SecurityError("a message is not a number of blocks")
        plain = self._client.cipher.decryptor().update(content)
        signed, signature = plain[:-MAC_BYTES], plain[-MAC_BYTES:]
        if not hmac.compare_digest(hmac.digest(self._client.signing, head + signed, "sha256"), signature):
            raise SecurityError("the signature of a message is wrong")
        return signed[: -(signed[-1] + 1)]
