"""Failures translated: which are refusals, and what the messages say."""

from __future__ import annotations

import struct

import pytest
from asyncua.ua.uaerrors import UaError, UaStatusCodeError
from cryptography.exceptions import InvalidSignature

from adapters.opcua.errors import translate_errors
from gateway.contract import LinkLost, Refused


@pytest.mark.parametrize(
    ("failure", "error", "says"),
    [
        (UaStatusCodeError(0x801F0000), Refused, "BadUserAccessDenied.*connection.user"),
        (UaStatusCodeError(0x80210000), Refused, "BadIdentityTokenRejected.*connection.user"),
        (UaStatusCodeError(0x801A0000), Refused, "BadCertificateUntrusted.*trust our certificate"),
        (UaStatusCodeError(0x80550000), Refused, "connection.security"),
        (UaStatusCodeError(0x80560000), Refused, "BadTooManySessions.*left there.*ends by itself"),
        (UaStatusCodeError(0x80770000), Refused, "BadTooManySubscriptions.*no subscription left"),
        (UaStatusCodeError(0x80790000), LinkLost, "BadNoSubscription"),
        (UaError("No matching endpoints: x"), Refused, "connection.security"),
        (UaError("odd"), LinkLost, "odd"),
        (AssertionError(), Refused, "certificate"),
        (InvalidSignature(), Refused, "does not hold the key of its certificate"),
        (TimeoutError(), LinkLost, "no answer in time"),
        (ConnectionRefusedError(111, "Connection refused"), LinkLost, "Connection refused.*connection.url"),
        (ConnectionError("connection lost"), LinkLost, "connection lost"),
        (struct.error("short"), LinkLost, "cannot be read"),
        *((kind("x"), LinkLost, "cannot be read") for kind in (IndexError, KeyError, AttributeError, OverflowError)),
        (RecursionError("x"), LinkLost, "cannot be read"),
    ],
)
def test_translation(failure: Exception, error: type[Exception], says: str) -> None:
    with (
        pytest.raises(error, match=f"^opc.tcp://h:1: connecting: .*{says}"),
        translate_errors("opc.tcp://h:1: connecting"),
    ):
        raise failure


@pytest.mark.parametrize("failure", [UaError("x" * 10**6), ValueError(b"x" * 10**6)])
def test_an_error_that_holds_the_answer_is_told_in_short(failure: Exception) -> None:
    with pytest.raises(LinkLost) as caught, translate_errors("opc.tcp://h:1: reading"):
        raise failure
    assert len(str(caught.value)) < 500
