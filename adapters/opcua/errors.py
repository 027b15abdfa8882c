"""Failures of asyncua and of the network, translated into the gateway's errors in one place."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaError, UaStatusCodeError
from cryptography.exceptions import InvalidSignature

from gateway.contract import AdapterError, LinkLost, Refused

_LOGIN: Final = "check connection.user, and that the server allows this user to read"
_CERTIFICATE: Final = (
    "let the server trust our certificate (`edge-gateway certs export` writes it), and check that both clocks are right"
)
_SECURITY: Final = "set connection.security to a policy and mode that the server offers"
_LICENCE: Final = "the server's licence does not allow this connection; ask its vendor"
_SESSIONS: Final = (
    "the server has no session left: close another client, or raise its limit; one that this gateway left there, by a "
    "crash or a lost connection, ends by itself after a minute"
)
_SUBSCRIPTIONS: Final = "the server has no subscription left: close another client, or raise its limit"

_REFUSALS: Final[dict[str, str]] = {
    **dict.fromkeys(
        ("BadUserAccessDenied", "BadIdentityTokenRejected", "BadIdentityTokenInvalid", "BadUserSignatureInvalid"),
        _LOGIN,
    ),
    **dict.fromkeys(
        (
            "BadCertificateInvalid",
            "BadSecurityChecksFailed",
            "BadCertificateTimeInvalid",
            "BadCertificateIssuerTimeInvalid",
            "BadCertificateHostNameInvalid",
            "BadCertificateUriInvalid",
            "BadCertificateUseNotAllowed",
            "BadCertificateIssuerUseNotAllowed",
            "BadCertificateUntrusted",
            "BadCertificateRevocationUnknown",
            "BadCertificateIssuerRevocationUnknown",
            "BadCertificateRevoked",
            "BadCertificateIssuerRevoked",
            "BadCertificateChainIncomplete",
            "BadCertificatePolicyCheckFailed",
            "BadApplicationSignatureInvalid",
            "BadNoValidCertificates",
        ),
        _CERTIFICATE,
    ),
    **dict.fromkeys(("BadSecurityPolicyRejected", "BadSecurityModeRejected", "BadSecurityModeInsufficient"), _SECURITY),
    **dict.fromkeys(("BadLicenseExpired", "BadLicenseLimitsExceeded", "BadLicenseNotAvailable"), _LICENCE),
    **dict.fromkeys(("BadTooManySessions", "BadMaxConnectionsReached"), _SESSIONS),
    "BadTooManySubscriptions": _SUBSCRIPTIONS,
}
TOO_MUCH: Final = frozenset({0x80100000, 0x80080000, 0x80B80000, 0x80B90000})
"""BadTooManyOperations, BadEncodingLimitsExceeded, BadRequestTooLarge, BadResponseTooLarge: ask for half as much"""

_LONGEST: Final = 300
"""letters of an error of asyncua's that are told"""
UNREADABLE: Final = (
    struct.error, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip
"""what asyncua raises, beside errors of its own, at an answer that it cannot decode"""

_REFUSED: Final[dict[int, str]] = {
    getattr(StatusCodes, name): hint for name, hint in _REFUSALS.items() if hasattr(StatusCodes, name)
}


def status_name(code: int) -> str:
    """A status code's name and number, e.g. "BadTimeout (0x800A0000)"."""
    return f"{ua.StatusCode(ua.UInt32(code)).name} (0x{code:08X})"


def service_failed(where: str, code: int) -> AdapterError:
    """The error for a service that answered with a bad status."""
    hint = _REFUSED.get(code & 0xFFFF0000)
    if hint is None:
        return LinkLost(f"{where}: the server answered {status_name(code)}; the gateway will connect again")
    return Refused(f"{where}: refused with {status_name(code)}; {hint}")


@contextmanager
def translate_errors(where: str) -> Iterator[None]:
    """Around every use of asyncua: raises AdapterError for whatever the library or the network raise there.

    `where` begins the message: the server's url and what was being done.
    """
    try:
        yield
    except UaStatusCodeError as error:
        raise service_failed(where, error.code) from error
    except TimeoutError as error:
        raise LinkLost(f"{where}: no answer in time; check that the server runs and the network is up") from error
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        if isinstance(error, ConnectionError) and error.errno:
            reason = os.strerror(error.errno)  # asyncio's own words name the call and not the cause
        raise LinkLost(f"{where}: {reason}; check connection.url, and that the server runs") from error
    except UaError as error:
        if str(error).startswith("No matching endpoints"):
            raise Refused(f"{where}: the server offers no such endpoint; {_SECURITY}") from error
        raise LinkLost(f"{where}: {_short(str(error))}") from error
    except InvalidSignature as error:
        raise Refused(
            f"{where}: the server's signature is wrong, so it does not hold the key of its certificate; find out who "
            "answers there"
        ) from error
    except AssertionError as error:
        # asyncua asserts the type of the answer to OpenSecureChannel, so a refused certificate ends here.
        raise Refused(f"{where}: the secure channel was refused; {_CERTIFICATE}") from error
    except UNREADABLE as error:
        raise LinkLost(f"{where}: the server's answer cannot be read: {_short(repr(error))}") from error


def _short(text: str) -> str:
    """Some of the library's errors hold the bytes that they are about, however many."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
