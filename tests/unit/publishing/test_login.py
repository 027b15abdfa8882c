"""Logins that are signed for each connection, against the answers that the platforms publish."""

from __future__ import annotations

import base64
import hmac
import re
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from gateway.publishing.config import DestinationConfig
from gateway.publishing.login import Login, default_client_id, make_login


def login(at_ms: int = 1_700_000_000_000, nonce: str = "n", **keys: Any) -> Login:
    document = {"name": "centre", "url": "mqtts://pk.example", "max_grade": 2, **keys}
    config = DestinationConfig.model_validate(document)
    return make_login(config, "91370200MA3C00000K", "gw-1", config.brokers[0].host, at_ms * 1_000_000, nonce)


def test_without_keys_only_a_client_id() -> None:
    assert login() == (default_client_id("91370200MA3C00000K", "gw-1", "centre"), None, None)


def test_a_plain_password_stays_as_it_is() -> None:
    user = {"name": "{gateway}@{destination}", "password": "{secret} {x"}
    assert login(client_id="box-{gateway}", user=user) == ("box-gw-1", "gw-1@centre", "{secret} {x")


@pytest.mark.parametrize(
    ("client", "device", "product", "time_ms", "secret", "password"),
    [
        # The example of the platform's own page (help.aliyun.com/document_detail/73742.html).
        ("12345", "device", "pk", 789, "secret", "fafd82a3d602b37fb0fa8b7892f24a477f851a14"),
        # The example of "MQTT self-access" in the platform's developer community.
        (
            *("SN1928339", "light1983432", "a14Xib5kdYd", 1539421321846),
            *("oLyaKqVxtRvjH284LdhqVgVUx1UPy6zq", "b2488041f64f425016b467ee1c94959ebd592ad1"),
        ),
    ],
)
def test_aliyun(client: str, device: str, product: str, time_ms: int, secret: str, password: str) -> None:
    message = f"clientId{client}deviceName{device}productKey{product}timestamp{{timestamp_ms}}"
    made = login(
        time_ms,
        client_id=client + "|securemode=2,signmethod=hmacsha1,timestamp={timestamp_ms}|",
        user={"name": f"{device}&{product}", "password": {"hmac": "sha1", "secret": secret, "message": message}},
    )
    client_id = f"{client}|securemode=2,signmethod=hmacsha1,timestamp={time_ms}|"
    assert made == (client_id, f"{device}&{product}", password)


def test_huawei() -> None:
    """The hour is the key and the secret the message; the hour of the page's example, the answer of OpenSSL."""
    made = login(
        1_532_455_180_000,  # 2018-07-24 17:59:40 UTC
        client_id="D39564861q3gDa_0_1_{hour}",
        user={
            "name": "D39564861q3gDa",
            "password": {"hmac": "sha256", "secret": "device-secret-1", "key": "{hour}", "message": "{secret}"},
        },
    )
    signed = "9b8fc497b22efb99bb075d7624ab98e19d1246f50acfc6abb6ed1d351316e154"
    assert made == ("D39564861q3gDa_0_1_2018072417", "D39564861q3gDa", signed)


def test_tencent() -> None:
    """The page has no example with its answer: this one is OpenSSL's."""
    made = login(
        1_699_913_600_000,
        "x1-Y2z",
        client_id="ABC123gw-1",
        user={
            "name": "ABC123gw-1;12010126;{nonce};{expiry}",
            "password": {
                "hmac": "sha256",
                "secret": "u/nAbSmZKbCW7lugludvLg==",
                "secret_encoding": "base64",
                "message": "{user}",
                "text": "{hmac};hmacsha256",
                "valid": "1d",
            },
        },
    )
    signed = "bce3de646675a1eac1e19c38c34df4ec8b2f7b441c2bdd0cd8296953ef9dacd7"
    assert made == ("ABC123gw-1", "ABC123gw-1;12010126;x1Y2z;1700000000", f"{signed};hmacsha256")


def test_azure() -> None:
    """The example is a test of Azure's own command line (azure-cli-extensions, TestSasTokenAuth)."""
    made = login(
        (1_471_940_363 - 3600) * 1000,
        url="mqtts://iot-hub-for-test.azure-devices.net",
        client_id="iot-device-for-test",
        user={
            "name": "iot-hub-for-test.azure-devices.net/{gateway}/?api-version=2021-04-12",
            "password": {
                "hmac": "sha256",
                "secret": "+XLy+MVZ+aTeOnVzN2kLeB16O+kSxmz6g3rS6fAf6rw=",
                "secret_encoding": "base64",
                "message": "{host}%2Fdevices%2F{client_id}\n{expiry}",
                "encoding": "base64-percent",
                "text": "SharedAccessSignature sr={host}%2Fdevices%2F{client_id}&sig={hmac}&se={expiry}",
                "valid": "1h",
            },
        },
    )
    assert made.password == (
        "SharedAccessSignature sr=iot-hub-for-test.azure-devices.net%2Fdevices%2Fiot-device-for-test"
        "&sig=SIumZ1ACqqPJZ2okHDlW9MSYKykEpqsQY3z6FMOICd4%3D&se=1471940363"
    )


@pytest.mark.parametrize(
    ("password", "message"),
    [
        ({"hmac": "sha512", "secret": "s", "message": "m"}, "'md5', 'sha1' or 'sha256'"),
        ({"hmac": "sha1", "message": "m"}, "secret"),
        ({"hmac": "sha1", "secret": "s", "message": "{time}"}, "unknown {time} in the message"),
        ({"hmac": "sha1", "secret": "s", "message": "m", "key": "{secret}"}, "unknown {secret} in the text"),
        ({"hmac": "sha1", "secret": "s", "message": "m", "text": "{secret}"}, "unknown {secret} in the password"),
        (
            {"hmac": "sha1", "secret": "hunter2!", "secret_encoding": "base64", "message": "m"},
            "the secret is no base64",
        ),
    ],
)
def test_mistakes(password: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        login(user={"name": "u", "password": password})
    assert "hunter2!" not in [error["msg"] for error in caught.value.errors()]


def test_secrets_do_not_show() -> None:
    document = {"name": "c", "url": "mqtt://h", "max_grade": 2}
    signed = {"hmac": "sha1", "secret": "hunter2", "message": "m"}
    proxy = {"url": "http://p:1", "user": {"name": "u", "password": "hunter3"}}
    config = DestinationConfig.model_validate(document | {"user": {"name": "u", "password": signed}, "proxy": proxy})
    assert "hunter" not in repr(config)


def test_what_the_documentation_shows_for_the_platforms_can_be_used() -> None:
    page = (Path(__file__).parents[3] / "docs" / "destinations.md").read_text(encoding="utf-8")
    written = page.partition("```yaml\n")[2].partition("```")[0]
    documents = yaml.safe_load(re.sub(r"\$\{file:[^}]*\}", "c2VjcmV0", written))
    made = {document["name"]: login(**document) for document in documents}
    assert {name: each.client_id for name, each in made.items()} == {
        "aliyun": "gw-1|securemode=2,signmethod=hmacsha256,timestamp=1700000000000|",
        "huawei": "60a8_gw-1_0_1_2023111422",
        "tencent": "ABC123gw-1",
        "azure": "gw-1",
    }
    message = "clientIdgw-1deviceNamegw-1productKeya1pktimestamp1700000000000"
    assert made["aliyun"].password == hmac.new(b"c2VjcmV0", message.encode(), "sha256").hexdigest()
    assert made["huawei"].password == hmac.new(b"2023111422", b"c2VjcmV0", "sha256").hexdigest()
    assert made["tencent"].user == "ABC123gw-1;12010126;n;1700086400"
    assert made["tencent"].password == hmac.new(b"secret", made["tencent"].user.encode(), "sha256").hexdigest() + (
        ";hmacsha256"
    )
    resource = "hub.azure-devices.net%2Fdevices%2Fgw-1"
    digest = hmac.new(b"secret", f"{resource}\n1700086400".encode(), "sha256").digest()
    signature = urllib.parse.quote(base64.b64encode(digest), safe="")
    assert made["azure"].password == f"SharedAccessSignature sr={resource}&sig={signature}&se=1700086400"
