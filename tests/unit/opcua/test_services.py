"""What is made of a server's answers when subscriptions and sessions are granted: the sensible and the senseless."""

from __future__ import annotations

import asyncio
import logging
import math
from types import SimpleNamespace
from typing import Any

import pytest
from asyncua import ua

from adapters.opcua.acquiring import services
from adapters.opcua.acquiring.progress import Made
from adapters.opcua.acquiring.subscriptions import longest_pause_s
from adapters.opcua.config import ConnectionConfig, LoadConfig
from adapters.opcua.profiles import PROFILES
from adapters.opcua.session import session as sessions
from adapters.opcua.session.endpoints import Memory
from adapters.opcua.session.pace import Pace
from adapters.opcua.session.session import Session
from gateway.contract import SystemClock
from tests.support.fake_sink import FakeSink
from tests.support.virtual_time import run_virtually

ASKED_S = 0.5


class Server:
    """Grants what the test says, whatever is asked for."""

    url = "opc.tcp://h:1"
    reactivated = False

    def __init__(self, publishing_ms: float, keep_alive: int, lifetime: int) -> None:
        self._granted = publishing_ms, keep_alive, lifetime

    async def attempt(self, doing: str, request: Any, response: Any, unless: frozenset[int]) -> Any:
        answer = ua.CreateSubscriptionResponse()
        self._grant(answer.Parameters)
        answer.Parameters.SubscriptionId = 7
        return answer

    async def answer(self, doing: str, request: Any, response: Any) -> tuple[Any, int]:
        answer = ua.ModifySubscriptionResponse()
        self._grant(answer.Parameters)
        return answer, 0

    def _grant(self, result: Any) -> None:
        result.RevisedPublishingInterval, result.RevisedMaxKeepAliveCount, result.RevisedLifetimeCount = self._granted


async def granted(publishing_ms: float, keep_alive: int = 10, lifetime: int = 1200) -> Made:
    made = await services.create(Server(publishing_ms, keep_alive, lifetime), ASKED_S)
    assert made is not None
    return made


@pytest.mark.parametrize("publishing_ms", [0.0, -1.0, math.nan, math.inf, -math.inf, 1e300, 1e-300])
async def test_a_publishing_interval_that_cannot_be_is_taken_for_the_one_asked_for(publishing_ms: float) -> None:
    assert await granted(publishing_ms) == Made(7, ASKED_S, 10 * ASKED_S, 1200 * ASKED_S)


async def test_counts_of_zero_are_taken_for_those_asked_for() -> None:
    assert await granted(500.0, 0, 0) == Made(7, ASKED_S, services.KEEP_ALIVE_S, services.LIFETIME_S)


async def test_an_interval_that_a_server_means_stands() -> None:
    assert (await granted(2000.0, 3, 300)).publishing_s == 2.0


async def test_a_watchdog_that_the_server_makes_useless_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    await granted(500.0, 2**32 - 1)
    assert "shows only every 2147483648 s that our subscription lives, we asked for every 5 s" in caplog.text


async def test_a_slow_subscription_shows_life_as_slowly_as_it_publishes_without_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    await services.create(Server(300_000.0, 1, 3), 300.0)
    assert not caplog.records


def test_a_subscription_that_dies_for_days_is_made_again_as_slowly_as_ever() -> None:
    assert [longest_pause_s(deaths) for deaths in (1, 2, 3, 7, 8, 5000)] == [0.5, 1, 2, 30, 30, 30]


class Lasting:
    """A client whose session and channel last as long as the test says; counts what keeps them."""

    def __init__(self, session_ms: float, channel_ms: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.session_timeout = session_ms
        self.secure_channel_timeout = channel_ms
        self.uaclient = SimpleNamespace(revolve_security_token=lambda: None)
        self.reads = self.renewals = 0

        async def read(*_: Any) -> ua.ReadResponse:
            self.reads += 1
            missing = ua.DataValue(StatusCode=ua.StatusCode(ua.UInt32(0x80340000)))
            return ua.ReadResponse(Results=[missing] * (5 if self.reads == 1 else 1))

        monkeypatch.setattr(sessions.stack, "call", read)
        monkeypatch.setattr(sessions.stack, "keep_old_keys", lambda _: None)

    async def open_secure_channel(self, renew: bool) -> None:
        self.renewals += 1


@pytest.mark.parametrize("lasts_ms", [0.0, -5.0, math.nan, 1e-9])
def test_a_session_that_is_said_to_last_no_time_at_all_is_no_reason_to_flood_the_server(
    lasts_ms: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Lasting(lasts_ms, lasts_ms, monkeypatch)
    config, profile = ConnectionConfig(url="opc.tcp://h:1"), PROFILES["default"]
    one: Any = client
    pace = Pace(None)
    session = Session(
        one, config, Memory(), pace, profile, LoadConfig(), alone=True, reactivated=False, channel_since=1000.0
    )

    async def an_hour() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await session.stay_alive(FakeSink(), SystemClock())

    run_virtually(an_hour())
    assert client.reads == pytest.approx(720, abs=2)
    assert client.renewals == 1
