"""The services of subscriptions (Part 4, 5.13): create, transfer, delete."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from asyncua import ua

from adapters.opcua.acquiring.progress import Made
from adapters.opcua.errors import status_name

T = TypeVar("T")
_logger = logging.getLogger(__name__)

KEEP_ALIVE_S: Final = 5.0
LIFETIME_S: Final = 600.0
"""how long the server is to keep a subscription that nobody fetches: outages shorter than this lose nothing"""
_NOTIFICATIONS_PER_PUBLISH: Final = 10_000
_REVISED: Final = 1.01
"""intervals travel as milliseconds in a Double; a hundredth is rounding"""
_SHORTEST_S: Final = 0.001
_LONGEST_S: Final = 86_400.0
"""a publishing interval outside of these is none that a server could mean"""
_RARE_LIFE_S: Final = 60.0
"""keep-alives further apart than this are told: for as long a dead subscription looks alive"""
TOO_MANY_SUBSCRIPTIONS: Final = 0x80770000
_TOO_MANY_SUBSCRIPTIONS: Final = frozenset({TOO_MANY_SUBSCRIPTIONS})
_NOTHING_TO_DO: Final = 0x800F0000
"""BadNothingToDo: what some servers answer when the subscription is in this session already"""


class Calls(Protocol):
    """What is needed of a session."""

    url: str
    reactivated: bool

    async def attempt(self, doing: str, request: Any, response: type[T], unless: frozenset[int]) -> T | None:
        """One service call; None where the server answers with a status in `unless`. Raises AdapterError."""

    async def answer(self, doing: str, request: Any, response: type[T]) -> tuple[T | None, int]:
        """One service call; (None, status) when the server answers with a fault, whichever it is."""


async def create(session: Calls, publishing_s: float) -> Made | None:
    """Create a subscription; None where the server has no more of them for us. Raises AdapterError."""
    lifetime, keep_alive = _counts(publishing_s)
    request = ua.CreateSubscriptionRequest()
    request.Parameters = ua.CreateSubscriptionParameters(
        RequestedPublishingInterval=publishing_s * 1000,
        RequestedLifetimeCount=lifetime,
        RequestedMaxKeepAliveCount=keep_alive,
        MaxNotificationsPerPublish=_NOTIFICATIONS_PER_PUBLISH,
        PublishingEnabled=True,
        Priority=0,
    )
    doing = "creating a subscription"
    answer = await session.attempt(doing, request, ua.CreateSubscriptionResponse, _TOO_MANY_SUBSCRIPTIONS)
    if answer is None:
        return None
    made = _made(answer.Parameters.SubscriptionId, answer.Parameters, publishing_s)
    if made.publishing_s > publishing_s * _REVISED and made.keep_alive_s > max(KEEP_ALIVE_S, made.publishing_s):
        made = await _reckoned_anew(session, made)
    if made.lifetime_s < LIFETIME_S * 0.99:
        _logger.info(
            "%s: the server keeps our subscription for %.0f s after a lost connection, we asked for %.0f s; longer "
            "outages lose readings",
            session.url,
            made.lifetime_s,
            LIFETIME_S,
        )
    if made.keep_alive_s > max(_RARE_LIFE_S, made.publishing_s * _REVISED):
        _logger.warning(
            "%s: the server shows only every %.0f s that our subscription lives, we asked for every %.0f s; if it "
            "stops publishing, that is noticed after three times as long",
            session.url,
            made.keep_alive_s,
            KEEP_ALIVE_S,
        )
    if made.publishing_s > publishing_s * _REVISED:
        _logger.info(
            "%s: the server publishes every %g s, we asked for %g s", session.url, made.publishing_s, publishing_s
        )
    return made


async def _reckoned_anew(session: Calls, made: Made) -> Made:
    """The server publishes slower than asked, and counts keep-alives and lifetime in intervals: ask by its interval.

    Else a subscription that has stalled would be noticed as many times later. A server that will not keeps its counts.
    """
    lifetime, keep_alive = _counts(made.publishing_s)
    request = ua.ModifySubscriptionRequest()
    request.Parameters = ua.ModifySubscriptionParameters(
        SubscriptionId=made.id,
        RequestedPublishingInterval=made.publishing_s * 1000,
        RequestedLifetimeCount=lifetime,
        RequestedMaxKeepAliveCount=keep_alive,
        MaxNotificationsPerPublish=_NOTIFICATIONS_PER_PUBLISH,
        Priority=0,
    )
    answer, _ = await session.answer("adjusting a subscription", request, ua.ModifySubscriptionResponse)
    return made if answer is None else _made(made.id, answer.Parameters, made.publishing_s)


def _counts(publishing_s: float) -> tuple[int, int]:
    """Lifetime and keep-alive in publishing intervals; the lifetime is at least three keep-alives (5.13.2.2)."""
    keep_alive = math.ceil(KEEP_ALIVE_S / publishing_s)
    return max(math.ceil(LIFETIME_S / publishing_s), 3 * keep_alive), keep_alive


def _made(
    id: int, revised: ua.CreateSubscriptionResult | ua.ModifySubscriptionResult, asked_publishing_s: float
) -> Made:
    """What the server granted. What no server can mean (0, NaN, a thousand years) is taken for what it was asked."""
    publishing_s = revised.RevisedPublishingInterval / 1000
    if not _SHORTEST_S <= publishing_s <= _LONGEST_S:
        publishing_s = asked_publishing_s
    lifetime, keep_alive = _counts(publishing_s)
    return Made(
        id,
        publishing_s,
        publishing_s * (revised.RevisedMaxKeepAliveCount or keep_alive),
        publishing_s * (revised.RevisedLifetimeCount or lifetime),
    )


async def take_over(session: Calls, ids: Sequence[int]) -> Mapping[int, tuple[int, ...]]:
    """Have subscriptions of a former session in this one; those that the server hands over, each with the sequence
    numbers that it still keeps. Raises AdapterError when the link fails.

    Without initial values, which would repeat what has been offered (Part 4, 5.13.7).
    """
    if session.reactivated or not ids:
        return dict.fromkeys(ids, ())
    request = ua.TransferSubscriptionsRequest()
    request.Parameters.SubscriptionIds = list(ids)
    request.Parameters.SendInitialValues = False
    answer, code = await session.answer("transferring subscriptions", request, ua.TransferSubscriptionsResponse)
    ours: dict[int, tuple[int, ...]] = {}
    results = answer.Parameters.Results if answer is not None else []
    if len(results) == len(ids):
        for id, result in zip(ids, results, strict=True):
            if result.StatusCode.value >> 30 and result.StatusCode.value != _NOTHING_TO_DO:
                code = result.StatusCode.value
            else:
                ours[id] = tuple(result.AvailableSequenceNumbers or ())
    if len(ours) < len(ids):
        _logger.info(
            "%s: the server does not hand over %d of our %d old subscriptions: %s",
            session.url,
            len(ids) - len(ours),
            len(ids),
            status_name(code),
        )
    return ours


async def delete(session: Calls, ids: Sequence[int]) -> None:
    """Delete subscriptions of this session; they may be gone. Raises AdapterError when the link fails."""
    if ids:
        request = ua.DeleteSubscriptionsRequest()
        request.Parameters.SubscriptionIds = list(ids)
        await session.answer("deleting old subscriptions", request, ua.DeleteSubscriptionsResponse)
