"""How a broker is reached: through an HTTP proxy, from an address or by an interface of this box."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.publishing import route
from gateway.publishing.config import DestinationConfig
from gateway.publishing.errors import BrokerError, BrokerRefused
from tests.support.broker import Mosquitto, free_port
from tests.support.destination import Plant, delivered, listener, make_certificates, running, state_of
from tests.support.fakelog import readings
from tests.support.proxy import ConnectProxy
from tests.support.subscriber import Subscriber
from tests.support.wait import eventually

LOGIN = {"name": "gateway", "password": "s3cret:@/%25"}


def filled() -> Plant:
    plant = Plant()
    plant.log.append(readings(500))
    return plant


@pytest.mark.parametrize("scheme", ["mqtt", "mqtts", "ws", "wss"])
async def test_through_a_proxy_that_wants_a_login(
    scheme: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    plant, port = filled(), free_port()
    options, tls = listener(scheme, port, tmp_path)
    async with Mosquitto(options=options) as broker, ConnectProxy(login=":".join(LOGIN.values())) as proxy:
        with Subscriber(broker.port) as centre:
            publisher = plant.publisher(
                broker, url=f"{scheme}://127.0.0.1:{port}", tls=tls, proxy={"url": proxy.url, "user": LOGIN}
            )
            async with running(publisher):
                await eventually(lambda: delivered(publisher, 500))
            await eventually(lambda: set(centre.offsets()) == set(range(500)))
        assert set(proxy.targets) == {f"127.0.0.1:{port}"}
    assert publisher.statistics().total.unbalanced == 0
    assert not any(LOGIN["password"] in message for message in caplog.messages)
    assert "s3cret" not in caplog.text


async def test_only_the_proxy_has_to_know_the_brokers_name() -> None:
    plant = filled()
    async with Mosquitto() as broker, ConnectProxy(hosts={"broker.invalid": broker.port}) as proxy:
        with Subscriber(broker.port):
            url = "mqtt://broker.invalid:1883"
            async with running(plant.publisher(broker, url=url, proxy={"url": proxy.url})) as publisher:
                await eventually(lambda: delivered(publisher, 500))


async def test_a_proxy_that_refuses_is_told_once_with_its_answer_and_ends_when_it_is_mended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    plant = filled()
    async with Mosquitto() as broker, ConnectProxy(login="gateway:other") as proxy:
        with Subscriber(broker.port):
            async with running(plant.publisher(broker, proxy={"url": proxy.url, "user": LOGIN})) as publisher:
                await eventually(lambda: len(proxy.targets) >= 3, message="three attempts")
                where = f"127.0.0.1:{broker.port} (through the proxy 127.0.0.1:{proxy.port})"
                reason = "the proxy does not accept our login (407 Proxy Authentication Required); check `proxy: user`"
                assert state_of(publisher) == ("refused", f"{where}: {reason}")
                proxy.login = ":".join(LOGIN.values())
                await eventually(lambda: delivered(publisher, 500))
    assert sum("407" in message for message in caplog.messages) == 1
    assert "s3cret" not in caplog.text
    assert publisher.statistics().total.unbalanced == 0


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (b"HTTP/1.1 407 No s3cret\r\n\r\n", BrokerRefused, "wants a login (407 Proxy Authentication Required); check"),
        (b"HTTP/1.1 403 Blocked\r\nVia: x\r\n\r\n", BrokerRefused, "does not allow this connection (403 Forbidden); "),
        (b"HTTP/1.0 502 x\r\n\r\n", BrokerError, "the proxy cannot reach the broker (502 Bad Gateway); check `url`"),
        (b"HTTP/1.1 504\r\n\r\n", BrokerError, "the proxy cannot reach the broker (504 Gateway Timeout)"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", BrokerError, "answered 400 Bad Request; is it an HTTP proxy"),
        (b"HTTP/1.1 302 x\r\n\r\n", BrokerError, "answered 302 Found; is it"),
        (b"HTTP/1.0 500 x\r\n\r\n", BrokerError, "cannot reach the broker (500 Internal Server Error); check `url`"),
        (b"HTTP/1.1 599 x\r\n\r\n", BrokerError, "the proxy cannot reach the broker (599); check `url`"),
        (b"HTTP/1.0 401 Unauthorized\r\n\r\n", BrokerRefused, "wants a login (401 Unauthorized); check `proxy: user`"),
        (b"HTTP/1.1 200 Connection est", BrokerError, "closed the connection before its answer was whole"),
        (b"HTTP/1.1 ok\r\n\r\n", BrokerError, "is no HTTP proxy; check `proxy: url`"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", BrokerError, "is no HTTP proxy; check `proxy: url`"),
        (b"HTTP/1.1 200 x\r\n" + b"a: b\r\n" * 3_000, BrokerError, "is no HTTP proxy; check `proxy: url`"),
        (b"", BrokerError, "took the connection and says nothing"),
    ],
)
async def test_what_a_proxy_may_answer(answer: bytes, kind: type[BrokerError], words: str) -> None:
    async with ConnectProxy() as proxy:
        proxy.answer = answer
        config = destination(url="mqtts://b.example:8884", proxy={"url": proxy.url})
        with pytest.raises(kind) as caught:
            await asyncio.to_thread(route.connect, config, config.brokers[0], 60.0 if answer else 1.0)
    said = str(caught.value)
    assert said.startswith(f"b.example:8884 (through the proxy 127.0.0.1:{proxy.port}): ")
    assert words in said
    assert "s3cret" not in said
    assert type(caught.value) is kind


def test_a_proxy_that_is_away_is_named() -> None:
    config = destination(proxy={"url": "http://127.0.0.1:1"})
    with pytest.raises(BrokerError, match="nothing listens on the proxy's port; check `proxy` and the network"):
        route.connect(config, config.brokers[0], 1)


def destination(**keys: Any) -> DestinationConfig:
    return DestinationConfig.model_validate({"name": "centre", "url": "mqtt://127.0.0.1:1", "max_grade": 1, **keys})


async def test_the_date_of_a_brokers_expired_certificate_is_looked_up_through_the_proxy(tmp_path: Path) -> None:
    ca, certificate, key = make_certificates(tmp_path, days=-2.0)
    port = free_port()
    plant = filled()
    lines = [f"listener {port} 127.0.0.1", f"certfile {certificate}", f"keyfile {key}"]
    async with Mosquitto(options=lines) as broker, ConnectProxy(hosts={"127.0.0.1": port}) as proxy:
        url = "mqtts://127.0.0.1:1"
        publisher = plant.publisher(broker, url=url, proxy={"url": proxy.url}, tls={"ca": str(ca)})
        async with running(publisher):
            day = f"{datetime.now(UTC) - timedelta(days=2):%Y-%m-%d}"
            await eventually(lambda: f"the broker's certificate expired on {day}" in state_of(publisher)[1])


@pytest.mark.parametrize("scheme", ["mqtt", "wss"])
async def test_from_an_address_of_choice_also_at_the_next_broker_in_order(scheme: str, tmp_path: Path) -> None:
    plant, port = filled(), free_port()
    options, tls = listener(scheme, port, tmp_path)
    async with Mosquitto(options=options) as broker:
        with Subscriber(broker.port):
            publisher = plant.publisher(
                broker,
                url="mqtt://127.0.0.1:1",
                alternatives=[f"{scheme}://127.0.0.1:{port}"],
                tls=tls,
                source="127.0.0.2",
            )
            async with running(publisher):
                await eventually(lambda: delivered(publisher, 500))
        if scheme == "mqtt":  # Mosquitto does not log the address of a websocket
            assert "from 127.0.0.2" in broker.log_text


async def test_from_an_address_of_choice_and_through_a_proxy() -> None:
    plant = filled()
    async with Mosquitto() as broker, ConnectProxy() as proxy:
        with Subscriber(broker.port):
            keys = {"proxy": {"url": proxy.url}, "source": "127.0.0.3", "interface": "lo"}
            async with running(plant.publisher(broker, **keys)) as publisher:
                await eventually(lambda: delivered(publisher, 500))
        assert proxy.clients == {"127.0.0.3"}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"source": "192.0.2.7"}, "192.0.2.7 is no address of this box now; see `ip address`, check `source`"),
        ({"interface": "nosuch0"}, "no network interface nosuch0 now; see `ip link`, check `interface`"),
    ],
)
async def test_an_address_or_interface_that_this_box_has_not_is_a_state(keys: dict[str, str], words: str) -> None:
    """Not an error: a modem's interface comes and goes."""
    plant = filled()
    async with Mosquitto() as broker, running(plant.publisher(broker, **keys)) as publisher:
        await eventually(lambda: words in state_of(publisher)[1])
        assert state_of(publisher)[0] == "down"


async def test_by_an_interface_of_choice() -> None:
    plant = filled()
    async with Mosquitto() as broker:
        with Subscriber(broker.port):
            async with running(plant.publisher(broker, interface="lo")) as publisher:
                await eventually(lambda: delivered(publisher, 500))


def test_a_broker_of_the_other_family_than_the_address_is_not_tried() -> None:
    config = destination(source="::1")
    with pytest.raises(BrokerError, match=r"no IPv6 address found for 127\.0\.0\.1, as `source` needs"):
        route.connect(config, config.brokers[0], 1)
