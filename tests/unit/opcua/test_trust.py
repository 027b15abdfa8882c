"""Which server certificates are accepted, and what is said of the others."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import pytest

from adapters.opcua.connecting.trust import KEPT, TrustStore, days_left, fingerprint, load, objections, subject
from gateway.contract import ConfigError, Refused
from tests.support.opcua_certificates import DAY, NOW, make_pair

SERVER = make_pair("plant server", hosts=("plc-17", "10.0.0.7", "fd00::7"))
OTHER = make_pair("other", key=1)


@pytest.fixture
def store(tmp_path: Path) -> TrustStore:
    return TrustStore(tmp_path / "pki")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("host", ["plc-17", "PLC-17.", "10.0.0.7", "fd00:0:0::7"])
def test_names_and_addresses_that_a_certificate_is_for(host: str) -> None:
    assert objections(SERVER.certificate, host, NOW) == []


def test_everything_that_is_wrong_is_said() -> None:
    weak = make_pair(hosts=(), uri=None, start=NOW - 9 * DAY, end=NOW - DAY, key=7, bits=1024)
    assert objections(weak.certificate, "plc-17", NOW) == [
        f"it expired on {NOW - DAY:%Y-%m-%d}",
        "it is for no host, not for plc-17",
        "its key has 1024 bits, fewer than 2048",
    ]
    (only,) = objections(SERVER.certificate, "plc-17", NOW - 2 * DAY)
    assert only.startswith("it is valid from")
    assert "clock" in only


def test_an_unknown_certificate_is_kept_and_refused_with_the_command(store: TrustStore) -> None:
    with pytest.raises(Refused) as caught:
        store.check(SERVER.certificate, "plc-17", None)
    assert str(caught.value) == (
        f"the server's certificate sha256:{SERVER.fingerprint} (CN=plant server) is not trusted; compare the "
        f"fingerprint at the server, then run: edge-gateway certs trust {SERVER.fingerprint} --pki {store.folder}"
    )
    assert names(store.rejected) == [f"{SERVER.fingerprint}.der"]
    store.trust(SERVER.fingerprint)
    assert names(store.rejected) == []
    assert store.check(SERVER.certificate, "plc-17", None) == []
    with pytest.raises(Refused):
        store.check(OTHER.certificate, "127.0.0.1", None)


def test_trust_alone_does_not_mend_a_wrong_name(store: TrustStore) -> None:
    with pytest.raises(
        Refused, match=r"certs trust .* -- besides, it is for .*, not for plc-18; for this, set connecti"
    ):
        store.check(SERVER.certificate, "plc-18", None)
    store.trust(SERVER.fingerprint)
    with pytest.raises(Refused, match=r'is trusted, but it is for .*set connection\.trust: "sha256:'):
        store.check(SERVER.certificate, "plc-18", None)


def test_a_pin_overrides_names_and_dates_of_one_certificate(store: TrustStore) -> None:
    late = NOW + 2000 * DAY
    found = store.check(SERVER.certificate, "plc-18", SERVER.fingerprint, late)
    assert len(found) == 2
    store.trust("", given=OTHER.certificate)
    with pytest.raises(Refused, match=r"is not the one that connection\.trust names"):
        store.check(OTHER.certificate, "127.0.0.1", SERVER.fingerprint)


def test_files_that_people_copy_into_the_folder_count(store: TrustStore) -> None:
    store.trusted.mkdir(parents=True)
    (store.trusted / "line 3.crt").write_bytes(SERVER.pem)
    (store.trusted / "broken.der").write_bytes(b"\x30\x82\xff\xff")
    (store.trusted / "notes.txt").write_text("hello")
    assert store.trusts(SERVER.certificate)
    assert not store.trusts(OTHER.certificate)
    store.reject(SERVER.fingerprint[:16])
    assert not store.trusts(SERVER.certificate)
    assert names(store.rejected) == [f"{SERVER.fingerprint}.der"]


def test_a_signer_does_not_make_others_trusted(store: TrustStore) -> None:
    store.trust("", given=SERVER.certificate)
    assert not store.trusts(make_pair("plant server", hosts=("plc-17",)).certificate), "same name, same key, another"


def test_fingerprints_are_found_as_people_type_them(store: TrustStore) -> None:
    store.remember(SERVER.certificate)
    digits = SERVER.fingerprint.upper()
    colons = ":".join(digits[i : i + 2] for i in range(0, 64, 2))
    for written in (digits, colons, f"sha256:{digits}", digits[:16]):
        assert store.find(written, store.rejected) == SERVER.certificate
    for written in (digits[:15], "", "0" * 64):
        with pytest.raises(ConfigError, match="certs list --pki"):
            store.find(written, store.rejected)


def test_a_file_must_be_the_certificate_that_was_named(store: TrustStore) -> None:
    with pytest.raises(ConfigError, match="nothing was changed"):
        store.trust(OTHER.fingerprint, given=SERVER.certificate)
    assert not store.trusted.exists()


def test_refused_certificates_do_not_fill_the_disk(store: TrustStore) -> None:
    store.rejected.mkdir(parents=True)
    for number in range(KEPT + 5):
        path = store.rejected / f"{number:064x}.der"
        path.write_bytes(b"old")
        os.utime(path, (number, number))
    store.remember(SERVER.certificate)
    assert len(names(store.rejected)) == KEPT
    assert f"{SERVER.fingerprint}.der" in names(store.rejected)
    assert f"{5:064x}.der" not in names(store.rejected)


def test_a_folder_that_cannot_be_written_does_not_hide_the_refusal(tmp_path: Path) -> None:
    (tmp_path / "pki").write_text("a file")
    with pytest.raises(Refused, match=r"certs trust .* --file CERTIFICATE \(it could not be kept here: "):
        TrustStore(tmp_path / "pki").check(SERVER.certificate, "plc-17", None)


def test_a_chain_is_judged_by_its_first_certificate() -> None:
    assert load(SERVER.der + OTHER.der) == SERVER.certificate
    assert load(SERVER.pem) == SERVER.certificate
    assert fingerprint(load(SERVER.der)) == SERVER.fingerprint
    for wrong in (b"", b"\x30", b"\x30\x82\x00\x01\x00", b"junk"):
        with pytest.raises(ValueError, match=r".*"):
            load(wrong)


def test_a_strangers_name_does_not_control_the_terminal() -> None:
    assert "\x1b" not in subject(make_pair("a\x1b[2Jb").certificate)
    assert len(subject(make_pair("x" * 64).certificate)) <= 200


def test_days_left() -> None:
    assert days_left(SERVER.certificate, NOW - DAY) == 1000
    assert days_left(SERVER.certificate, NOW + datetime.timedelta(days=1001)) < 0
