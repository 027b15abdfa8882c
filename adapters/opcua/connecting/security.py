"""What makes a connection safe: its policy, our certificate, the server's, and the login."""

from __future__ import annotations

import asyncio
import datetime
import functools
import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto import security_policies, uacrypto
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

from adapters.opcua.config import ConnectionConfig, UserConfig
from adapters.opcua.connecting.certificates import (
    WARN_DAYS,
    OwnCertificate,
    accepted_by,
    next_paths,
    own_certificate,
    paths_of,
)
from adapters.opcua.connecting.trust import TrustStore, days_left, der, load
from adapters.opcua.errors import translate_errors
from adapters.opcua.session import stack
from adapters.opcua.session.pace import Pace, Priority
from gateway.contract import AdapterError, LinkLost, Refused

_logger = logging.getLogger(__name__)
# asyncua complains of our certificate and of deprecated policies at every connect; we do it once.
logging.getLogger("asyncua.crypto").setLevel(logging.CRITICAL)

_TRIAL_SESSION_MS: Final = 10_000
_MODES: Final = {ua.MessageSecurityMode.Sign: "Sign", ua.MessageSecurityMode.SignAndEncrypt: "SignAndEncrypt"}


async def secure(client: Client, config: ConnectionConfig, pace: Pace) -> OwnCertificate | None:
    """Before connecting: learn the server's certificate, decide about it, and set up policy and keys.

    Returns our own certificate, None without security.

    The certificate comes over a connection of its own without security (Part 4, 5.5.4). It need not be believed there:
    only a server that holds its key can answer what follows. Raises LinkLost, Refused.
    """
    if config.security == "None":
        return None
    policy, _, mode = config.security.partition("/")
    if config.deprecated:
        _warn_once(f"{config.url}: {policy} rests on SHA-1 and no longer protects; use Basic256Sha256 where possible")
    own = await asyncio.to_thread(own_certificate, *paths_of(config))
    shown = certificate_of(await ask_endpoints(client, pace), policy, mode, config.url)
    await asyncio.to_thread(_decide, shown, config, client.server_url.hostname or "")
    following, accepted = await asyncio.to_thread(following_certificate, config)
    if following is not None and (accepted or await _accepts(config, following, shown, pace)):
        own = following
    if 0 <= own.days_left < WARN_DAYS:
        _warn_once(
            f"our certificate for {config.url} {_left(own.days_left)}, after which servers refuse us; prepare the next "
            "one with `edge-gateway certs renew`"
        )
    await _use(client, config, own, shown)
    return own


@contextmanager
def explain_expiry(own: OwnCertificate | None, config: ConnectionConfig) -> Iterator[None]:
    """Around showing our certificate: once it has expired, that is why a server which answers does not let us in.

    Servers say so in many ways, of which closing the connection without a word is one. Raises Refused in their place.
    """
    try:
        yield
    except AdapterError as error:
        if own is None or own.days_left >= 0:
            raise
        raise Refused(
            f"{config.url}: our certificate {own.path} expired on {own.expires:%Y-%m-%d %H:%M} UTC, and the server no "
            f"longer lets us in; {_renewal(own, config)} ({str(error).removeprefix(f'{config.url}: ')})"
        ) from error


def _renewal(own: OwnCertificate, config: ConnectionConfig) -> str:
    if config.certificate is not None:
        return "put a valid one in its place, with its key, and let the server trust it"
    pki = shlex.quote(str(Path(config.pki).absolute()))
    following = next_paths(Path(config.pki))[0]
    if own.path != following and following.is_file():
        return f"let the server trust the next one: edge-gateway certs export next -o next.der --pki {pki}"
    return f"prepare the next one and let the server trust it: edge-gateway certs renew --pki {pki}"


async def open_channel(client: Client, pace: Pace) -> None:
    """A connection with a secure channel, without a session yet."""
    await stack.connect(client)
    await stack.greet(client)
    await pace.wait(Priority.SESSION)
    await client.open_secure_channel()


async def ask_endpoints(client: Client, pace: Pace) -> list[ua.EndpointDescription]:
    """The server's endpoints, over a connection of its own that is closed again."""
    try:
        await open_channel(client, pace)
        found: list[ua.EndpointDescription] = await client.get_endpoints()
        await pace.wait(Priority.SESSION)
        await client.close_secure_channel()
        return found
    finally:
        client.disconnect_socket()


async def log_in(client: Client, user: UserConfig | None) -> None:
    """Activate the client's session as `user`. Raises Refused when a user certificate or its key cannot be read."""
    if user is None:
        await client.activate_session()
    elif user.password is not None:
        await client.activate_session(username=user.name, password=user.password.get_secret_value())
    else:
        certificate, client.user_private_key = await asyncio.to_thread(_user_certificate, user)
        await client.activate_session(certificate=certificate)


async def _use(client: Client, config: ConnectionConfig, own: OwnCertificate, shown: x509.Certificate) -> None:
    policy, _, mode = config.security.partition("/")
    client.application_uri = own.application_uri
    await client.set_security(
        _policy_class(policy),
        uacrypto.CertProperties(own.certificate, "der"),
        uacrypto.CertProperties(own.key, "pem"),
        server_certificate=uacrypto.CertProperties(der(shown), "der"),
        mode=ua.MessageSecurityMode[mode],
    )


async def _accepts(config: ConnectionConfig, following: OwnCertificate, shown: x509.Certificate, pace: Pace) -> bool:
    """Whether the server lets our next certificate in: some refuse a stranger's channel, others the session.

    A refusal is also how the certificate gets into the server's list of rejected ones, from where its owner trusts it.
    """
    client = Client(config.url, timeout=config.timeout)
    client.name = client.description = "edge-gateway, next certificate"
    client.session_timeout = _TRIAL_SESSION_MS
    client.uaclient.pre_request_hook = functools.partial(pace.wait, Priority.SESSION)
    try:
        with translate_errors(f"{config.url}: trying our next certificate"):
            await _use(client, config, following, shown)
            await open_channel(client, pace)
            await client.create_session()
            await pace.wait(Priority.SESSION)
            await client.close_session()
    except AdapterError as error:
        _warn_once(f"{error}; the old one is used meanwhile")
        return False
    finally:
        stack.abort(client)
        client.disconnect_socket()
    await asyncio.to_thread(_remember, config)
    _logger.info("%s: the server accepts our next certificate; it is used from now on", config.url)
    return True


def following_certificate(config: ConnectionConfig) -> tuple[OwnCertificate | None, bool]:
    """The certificate that `certs renew` prepared, and whether this server has accepted it before. Blocks."""
    paths = next_paths(Path(config.pki))
    if config.certificate is not None or not all(path.is_file() for path in paths):
        return None, False
    try:
        return own_certificate(*paths), config.url in accepted_by(Path(config.pki))
    except (Refused, OSError) as error:
        # The one in use is as good as before.
        _warn_once(
            f"{config.url}: the next certificate of ours cannot be used: {error}; remove its files, prepare anew"
        )
        return None, False


def _remember(config: ConnectionConfig) -> None:
    try:
        accepted_by(Path(config.pki), add=config.url)
    except OSError as error:
        _warn_once(f"{config.url}: cannot note that our next certificate is accepted: {error}; check connection.pki")


def _decide(shown: x509.Certificate, config: ConnectionConfig, host: str) -> None:
    try:
        overridden = TrustStore(Path(config.pki)).check(shown, host, config.trust)
    except Refused as refusal:
        raise Refused(f"{config.url}: {refusal}") from None
    if overridden:
        _warn_once(f"{config.url}: accepted by connection.trust although {' and '.join(overridden)}")
    if (left := days_left(shown, datetime.datetime.now(datetime.UTC))) < WARN_DAYS and not overridden:
        _warn_once(f"{config.url}: the server's certificate {_left(left)}, after which it is refused")


def certificate_of(endpoints: Any, policy: str, mode: str, url: str) -> x509.Certificate:
    """The certificate of the endpoint with this policy and mode; the endpoint's own url is not looked at."""
    uri = _policy_class(policy).URI
    for endpoint in endpoints:
        if endpoint.SecurityPolicyUri == uri and _MODES.get(endpoint.SecurityMode) == mode:
            break
    else:
        offered = sorted({_spelt(endpoint) for endpoint in endpoints})
        raise Refused(
            f"{url}: the server does not offer {policy}/{mode}; set connection.security to what it does offer: "
            f"{', '.join(offered) or 'nothing'}"
        )
    try:
        certificate = load(endpoint.ServerCertificate or b"")
        key: Any = certificate.public_key()
    except ValueError as error:
        raise LinkLost(f"{url}: the server's certificate cannot be read: {error}") from error
    except UnsupportedAlgorithm:
        key = None  # such as SM2
    if not isinstance(key, RSAPublicKey):
        raise Refused(f"{url}: the server's certificate has no RSA key, which {policy} needs; give it one that has")
    return certificate


def _spelt(endpoint: Any) -> str:
    policy = str(endpoint.SecurityPolicyUri).rpartition("#")[2].replace("_", "")
    mode = _MODES.get(endpoint.SecurityMode)
    return f"{policy}/{mode}" if mode else policy


def _policy_class(policy: str) -> type[security_policies.SecurityPolicy]:
    found: type[security_policies.SecurityPolicy] = getattr(security_policies, f"SecurityPolicy{policy}")
    return found


def _user_certificate(user: UserConfig) -> tuple[x509.Certificate, Any]:
    certificate, key = Path(user.certificate or ""), Path(user.key or "")
    try:
        raw = key.read_bytes()
        loads = load_pem_private_key if raw.lstrip().startswith(b"-----") else load_der_private_key
        return load(certificate.read_bytes()), loads(raw, None)
    except (OSError, ValueError, TypeError) as error:
        raise Refused(f"user certificate {certificate} with key {key}: {error}; check connection.user") from error


def _left(days: int) -> str:
    return f"expires in {days} days" if days >= 0 else f"expired {-days} days ago"


@lru_cache(maxsize=256)
def _warn_once(message: str) -> None:
    """A connection is made again and again; what there is to say about it changes once a day at most."""
    _logger.warning("%s", message)
