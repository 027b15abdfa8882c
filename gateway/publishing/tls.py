"""TLS towards a broker: files are read at every connection, so that a renewed one is used at the next; what failed, in
words.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from paho.mqtt.client import WebsocketConnectionError

from gateway.publishing.config import Broker, TlsConfig
from gateway.publishing.errors import BrokerAbsent, BrokerError, BrokerRefused

_HAS_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED
_LOOK_S = 5.0


class TlsContext(ssl.SSLContext):
    """Remembers its socket: paho forgets it when the handshake fails, and then nobody would close it."""

    wrapped: ssl.SSLSocket | None = None

    def wrap_socket(self, *arguments: Any, **keys: Any) -> ssl.SSLSocket:
        """See ssl.SSLContext."""
        self.wrapped = super().wrap_socket(*arguments, **keys)
        return self.wrapped

    def close(self) -> None:
        """Close the socket that was wrapped last."""
        if self.wrapped is not None:
            self.wrapped.close()


def tls_context(tls: TlsConfig) -> TlsContext:
    """Read the files now. Raises BrokerRefused naming those that cannot be used."""
    context = TlsContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if tls.ca is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(tls.ca)
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(path for path in (tls.ca, tls.certificate, tls.key) if path)
        raise BrokerRefused(f"cannot use the certificates ({files}): {error}; check `tls`") from error
    if tls.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def expires(tls: TlsConfig | None) -> datetime | None:
    """When our own certificate expires, as its file is now; None where there is none, or none that can be read."""
    if tls is None or tls.certificate is None:
        return None
    try:
        return _ends(Path(tls.certificate).read_bytes())
    except (OSError, ValueError):
        return None


def expired(tls: TlsConfig | None) -> str | None:
    """A sentence when our own certificate has expired by this box's clock, else None."""
    ends = expires(tls)
    if tls is None or ends is None or ends > datetime.now(UTC):
        return None
    return f"our certificate {tls.certificate} expired on {_day(ends)}: renew it, the new file is read at the next try"


def translate(
    where: str, broker: Broker, error: Exception, tls: TlsConfig | None, reach: Callable[[], socket.socket]
) -> BrokerError:
    """Why a connection could not be made, `where` first.

    Blocks: for an expired certificate of the broker it looks up its date over another connection, which `reach` opens.
    """
    match error:
        case ssl.SSLCertVerificationError(verify_code=code) if code == _HAS_EXPIRED:
            since = _since(broker, reach)
            return BrokerRefused(f"{where}: the broker's certificate {since}; its operator must renew it")
        case ssl.SSLCertVerificationError():
            return BrokerRefused(
                f"{where}: the broker's certificate is not trusted ({error.verify_message}); check `tls: ca`"
            )
        case ssl.SSLError():
            advice = expired(tls) or "check the port, `tls: certificate` and `tls: key`"
            return BrokerRefused(f"{where}: TLS failed ({error.reason}); {advice}")
        case WebsocketConnectionError():
            return BrokerRefused(
                f"{where}: no websocket for MQTT at {broker.path} ({error}); check port and path of the url"
            )
        case socket.gaierror():
            return BrokerError(f"{where}: no address found for this name ({error.strerror}); check `url` and the DNS")
        case ConnectionRefusedError():
            return BrokerAbsent(f"{where}: nothing listens on this port; is the broker running?")
        case TimeoutError():
            return BrokerError(f"{where}: no answer; check the network and firewalls")
        case _:
            return BrokerError(f"{where}: cannot connect ({error})")


def _since(broker: Broker, reach: Callable[[], socket.socket]) -> str:
    """Since when the certificate that the broker shows has expired; it may also be one above it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with reach() as link:
            link.settimeout(_LOOK_S)
            with context.wrap_socket(link, server_hostname=broker.host) as encrypted:
                shown = encrypted.getpeercert(binary_form=True)
        ends = x509.load_der_x509_certificate(shown or b"").not_valid_after_utc
    except (OSError, ValueError, BrokerError):
        return "has expired"
    if ends > datetime.now(UTC):
        return "is signed by one that has expired"
    return f"expired on {_day(ends)}"


def _ends(pem: bytes) -> datetime:
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc


def _day(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
