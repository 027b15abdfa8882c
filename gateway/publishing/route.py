"""The TCP connection to a broker: by which address or interface it leaves this box, and through which proxy. Blocks."""

from __future__ import annotations

import base64
import errno
import http
import ipaddress
import socket
import time
from typing import Any

from gateway.publishing.config import Broker, DestinationConfig, ProxyConfig
from gateway.publishing.errors import BrokerError, BrokerRefused

_MOST_BYTES = 16_384
"""of a proxy's answer before the connection begins"""
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def place(config: DestinationConfig, broker: Broker) -> str:
    """The broker's host:port, and the proxy's where there is one; for people."""
    return broker.where if config.proxy is None else f"{broker.where} (through the proxy {config.proxy.where})"


def connect(config: DestinationConfig, broker: Broker, timeout_s: float) -> socket.socket:
    """A TCP connection that ends at the broker. `timeout_s` for each address, and again for the proxy's answer.

    Raises OSError for what the broker's name and address answer, and BrokerError or BrokerRefused for what this box or
    the proxy does not do.
    """
    proxy = config.proxy
    if proxy is None:
        return _dial(config, broker, broker.host, broker.port, timeout_s)
    try:
        link = _dial(config, broker, proxy.host, proxy.port, timeout_s)
    except OSError as error:
        raise BrokerError(f"{place(config, broker)}: {_no_proxy(error)}; check `proxy` and the network") from error
    try:
        _ask(link, proxy, broker)
        _judge(_answer(link, timeout_s), config, broker)
    except OSError as error:
        link.close()
        raise BrokerError(f"{place(config, broker)}: {_no_answer(error)}") from error
    except BaseException:
        link.close()
        raise
    return link


def _dial(config: DestinationConfig, broker: Broker, host: str, port: int, timeout_s: float) -> socket.socket:
    """The first address that answers, as socket.create_connection does it, from where the config says."""
    failure = OSError("the name has no address")
    for found, kind, protocol, _, address in _addresses(config, broker, host, port):
        link = socket.socket(found, kind, protocol)
        try:
            _leave_by(link, config, broker)
            link.settimeout(timeout_s)
            link.connect(address)
        except OSError as error:
            link.close()
            failure = error
        except BaseException:
            link.close()
            raise
        else:
            return link
    raise failure


def _addresses(config: DestinationConfig, broker: Broker, host: str, port: int) -> list[Any]:
    """As socket.getaddrinfo, of the family that `source` has."""
    if config.source is None:
        return socket.getaddrinfo(host, port, socket.AF_UNSPEC, socket.SOCK_STREAM)
    version = ipaddress.ip_address(config.source).version
    try:
        return socket.getaddrinfo(host, port, _FAMILIES[version], socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise BrokerError(
            f"{place(config, broker)}: no IPv{version} address found for {host}, as `source` needs ({error.strerror}); "
            "check both, and the DNS"
        ) from error


def _leave_by(link: socket.socket, config: DestinationConfig, broker: Broker) -> None:
    """Tie the socket to the configured interface and address. Raises BrokerError when this box has them not (yet)."""
    where = place(config, broker)
    if config.interface is not None:
        try:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, config.interface.encode())
        except PermissionError as error:
            raise BrokerError(
                f"{where}: no right to use the interface {config.interface}; that takes Linux 5.7 or newer, or the "
                "capability CAP_NET_RAW; or set `source` to the interface's address"
            ) from error
        except OSError as error:
            raise BrokerError(
                f"{where}: this box has no network interface {config.interface} now; see `ip link`, check `interface`"
            ) from error
    if config.source is not None:
        try:
            link.bind((config.source, 0))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            raise BrokerError(
                f"{where}: {config.source} is no address of this box now; see `ip address`, check `source`"
            ) from error


# -- through a proxy: CONNECT (RFC 9110, 9.3.6) with a login of the Basic kind (RFC 7617) --


def _ask(link: socket.socket, proxy: ProxyConfig, broker: Broker) -> None:
    target = Broker(broker.host.encode("idna").decode(), *broker[1:]).where
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.user is not None:
        login = f"{proxy.user.name}:{proxy.user.password.get_secret_value()}"
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode()}")
    link.sendall("\r\n".join([*lines, "", ""]).encode())


def _answer(link: socket.socket, timeout_s: float) -> bytes:
    """All that the proxy says for itself. Byte by byte: what comes after it is the broker's."""
    until = time.monotonic() + timeout_s
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        link.settimeout(left)
        byte = link.recv(1)
        if not byte:
            raise ConnectionResetError
        head += byte
        if not b"HTTP/".startswith(head[:5]) or len(head) > _MOST_BYTES:
            raise _NotHttpError
    link.settimeout(timeout_s)
    return bytes(head)


def _judge(head: bytes, config: DestinationConfig, broker: Broker) -> None:
    """Any status of the class 2xx opens the way to the broker."""
    words = head.split(b"\r\n", 1)[0].split()
    if len(words) < 2 or not words[1].isdigit():
        raise _NotHttpError
    code = int(words[1])
    if 200 <= code < 300:
        return
    where, told = place(config, broker), _told(code)
    match code:
        case (
            http.HTTPStatus.PROXY_AUTHENTICATION_REQUIRED | http.HTTPStatus.UNAUTHORIZED
        ):  # 401: tinyproxy, wrong login
            has_login = config.proxy is not None and config.proxy.user is not None
            what = "the proxy does not accept our login" if has_login else "the proxy wants a login"
            raise BrokerRefused(f"{where}: {what} ({told}); check `proxy: user`")
        case http.HTTPStatus.FORBIDDEN | http.HTTPStatus.METHOD_NOT_ALLOWED:
            raise BrokerRefused(
                f"{where}: the proxy does not allow this connection ({told}); ask its operator to allow CONNECT to "
                f"port {broker.port}, or use wss:// if it allows 443 only"
            )
        case _ if code >= 500:  # 502 to 504 by the standard, 500 from tinyproxy
            raise BrokerError(f"{where}: the proxy cannot reach the broker ({told}); check `url`")
        case _:
            raise BrokerError(f"{where}: the proxy answered {told}; is it an HTTP proxy that knows CONNECT?")


def _told(code: int) -> str:
    """A status with the standard's words: a proxy's own could be anything."""
    try:
        return f"{code} {http.HTTPStatus(code).phrase}"
    except ValueError:
        return str(code)


class _NotHttpError(OSError):
    """The answer is not one of a proxy."""


def _no_proxy(error: OSError) -> str:
    match error:
        case socket.gaierror():
            return f"no address found for the proxy's name ({error.strerror})"
        case ConnectionRefusedError():
            return "nothing listens on the proxy's port"
        case TimeoutError():
            return "the proxy does not answer"
        case _:
            return f"cannot connect to the proxy ({error})"


def _no_answer(error: OSError) -> str:
    match error:
        case _NotHttpError():
            return "what answers on the proxy's port is no HTTP proxy; check `proxy: url`"
        case TimeoutError():
            return "the proxy took the connection and says nothing; is it an HTTP proxy?"
        case _:
            return "the proxy closed the connection before its answer was whole; see its log"
