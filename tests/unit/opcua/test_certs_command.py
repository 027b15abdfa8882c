"""`edge-gateway certs`, without any server."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from adapters.opcua.connecting.certificates import own_certificate, own_paths
from adapters.opcua.connecting.trust import TrustStore, load
from gateway.commands.main import main
from tests.support.opcua_certificates import DAY, NOW, make_pair

SERVER = make_pair("plant server", hosts=("plc-17",))
SOON = make_pair("old server", end=NOW + 30 * DAY)


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    folder = tmp_path / "pki"
    own_certificate(*own_paths(folder))
    store = TrustStore(folder)
    store.remember(SERVER.certificate)
    store.trust("", SOON.certificate)
    return folder


def listed(pki: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Entries by state; one of each is expected."""
    capsys.readouterr()
    assert main(["certs", "list", "--json", "--pki", str(pki)]) == 0
    return {each["state"]: each for each in json.loads(capsys.readouterr().out)["certificates"]}


def test_list(pki: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certs", "list", "--pki", str(pki)]) == 0
    said = capsys.readouterr().out
    assert f"rejected sha256:{SERVER.fingerprint}\n  CN=plant server; for plc-17\n" in said
    assert "29 days left (!)" in said
    found = listed(pki, capsys)
    assert found["rejected"]["hosts"] == ["plc-17"]
    assert found["own"]["application_uri"].endswith(":edge-gateway")
    assert 3648 <= found["own"]["days_left"] <= 3650


def test_list_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certs", "list", "--pki", str(tmp_path / "none")]) == 0
    assert "no certificates in" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


def test_trust_and_reject(pki: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certs", "trust", SERVER.fingerprint, "--pki", str(pki)]) == 0
    assert "trusted from now on" in capsys.readouterr().out
    assert TrustStore(pki).trusts(SERVER.certificate)
    assert main(["certs", "reject", SERVER.fingerprint[:16], "--json", "--pki", str(pki)]) == 0
    assert json.loads(capsys.readouterr().out)["certificate"]["state"] == "rejected"
    assert not TrustStore(pki).trusts(SERVER.certificate)


def test_trust_from_a_file(pki: Path, tmp_path: Path) -> None:
    (tmp_path / "server.crt").write_bytes(SERVER.pem)
    assert main(["certs", "trust", "--file", str(tmp_path / "server.crt"), "--pki", str(pki)]) == 0
    assert TrustStore(pki).trusts(SERVER.certificate)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trust", "0" * 64], "no certificate with the fingerprint"),
        (["trust"], "name the fingerprint"),
        (["trust", SOON.fingerprint, "--file", "{server}"], "nothing was changed"),
        (["trust", "--file", "{junk}"], "holds no certificate"),
        (["reject", "nonsense"], "no certificate with the fingerprint"),
        (["export", "nonsense"], "no certificate with the fingerprint"),
        (["renew", "--finish"], "no next certificate is prepared"),
        (["reject"], "Missing argument"),
        (["frobnicate"], "No such command"),
    ],
)
def test_wrong_arguments_end_with_2(
    pki: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    (tmp_path / "server.der").write_bytes(SERVER.der)
    (tmp_path / "junk.der").write_bytes(b"junk")
    files = {"server": tmp_path / "server.der", "junk": tmp_path / "junk.der"}
    before = sorted(pki.rglob("*"))
    assert main(["certs", *(each.format(**files) for each in arguments), "--pki", str(pki)]) == 2
    assert says in capsys.readouterr().err
    assert sorted(pki.rglob("*")) == before


def test_what_cannot_be_written_ends_with_1(pki: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certs", "export", "-o", str(tmp_path / "nowhere" / "c.der"), "--pki", str(pki)]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_export(pki: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = (pki / "own" / "certificate.der").read_bytes()
    for name, begins in (("c.der", own[:4]), ("c.pem", b"-----BEGIN CERTIFICATE")):
        assert main(["certs", "export", "-o", str(tmp_path / name), "--pki", str(pki)]) == 0
        written = (tmp_path / name).read_bytes()
        assert written.startswith(begins)
        assert load(written) == load(own)
    capsys.readouterr()
    assert main(["certs", "export", SERVER.fingerprint, "--pki", str(pki)]) == 0
    assert load(capsys.readouterr().out.encode()) == SERVER.certificate


def test_export_makes_our_certificate_so_that_servers_can_trust_it_beforehand(tmp_path: Path) -> None:
    assert main(["certs", "export", "-o", str(tmp_path / "c.der"), "--pki", str(tmp_path / "pki")]) == 0
    assert (tmp_path / "c.der").read_bytes() == (tmp_path / "pki" / "own" / "certificate.der").read_bytes()


def test_renew_prepares_a_certificate_of_the_same_application(pki: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = listed(pki, capsys)["own"]
    assert main(["certs", "renew", "--pki", str(pki)]) == 0
    assert "export next" in capsys.readouterr().out
    found = listed(pki, capsys)
    assert found["own"] == before
    assert found["next"]["application_uri"] == before["application_uri"]
    assert found["next"]["fingerprint"] != before["fingerprint"]
    assert main(["certs", "export", "next", "--pki", str(pki)]) == 0
    assert load(capsys.readouterr().out.encode()) == load((pki / "own" / "next-certificate.der").read_bytes())
    assert main(["certs", "renew", "--finish", "--pki", str(pki)]) == 0
    after = listed(pki, capsys)
    assert after["own"]["fingerprint"] == found["next"]["fingerprint"]
    assert "next" not in after
    assert (pki / "own" / "key.pem").stat().st_mode & 0o777 == 0o600


def test_renew_begins_anew_where_a_power_cut_left_a_key_alone(pki: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed(pki, capsys)
    (pki / "own" / "next-key.pem").write_text("left behind")
    assert main(["certs", "renew", "--pki", str(pki)]) == 0
    assert (pki / "own" / "next-key.pem").read_text().startswith("-----BEGIN PRIVATE KEY")
    capsys.readouterr()
    assert "next" in listed(pki, capsys)


def test_what_root_makes_belongs_to_the_owner_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: set[str] = set()

    def chown(path: Path, user: int, group: int, *, follow_symlinks: bool) -> None:
        assert (user, group) == (tmp_path.stat().st_uid, tmp_path.stat().st_gid)
        assert not follow_symlinks
        given.add(Path(path).name.strip(".").removesuffix(f".{os.getpid()}"))

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", chown)
    assert main(["certs", "export", "-o", str(tmp_path / "c.der"), "--pki", str(tmp_path / "pki")]) == 0
    assert given == {"pki", "own", "certificate.der", "key.pem"}
