"""Arguments of browse and read, refused before anything is connected."""

from pathlib import Path

import pytest

from gateway.commands.equipment import finite, value_text
from gateway.commands.main import main

URL = "opc.tcp://127.0.0.1:1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["browse", "http://host"], "opc.tcp://host:port"),
        (["browse", "host:4840"], "opc.tcp://host:port"),
        (["browse"], "URL"),
        (["read", URL, "Temp"], "expected a node id"),
        (["read", URL], "NODE"),
        (["browse", URL, "--root", "Temp"], "expected a node id"),
        (["browse", URL, "--to-config", "my device.yaml"], "named for its device"),
        (["browse", URL, "--to-config", "device.json"], "named for its device"),
        (["browse", URL, "--to-config", "/nowhere/device.yaml"], "there is no folder"),
        (["browse", URL, "--security", "Best"], "expected None or"),
        (["browse", URL, "--rate", "0"], "rate"),
        (["browse", URL, "--user", "engineer"], "--password-env"),
        (["browse", URL, "--user", "engineer", "--password-env", "NOT_SET"], "NOT_SET: this environment variable"),
        (["browse", URL, "--password-env", "PLANT_PASSWORD"], "needs --user"),
        (
            ["browse", URL, "--user", "engineer", "--password-env", "PLANT_PASSWORD"],
            "accept that with --allow-insecure-password",
        ),
    ],
)
def test_wrong_arguments(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PLANT_PASSWORD", "geheim")
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert "geheim" not in said.err
    assert "Traceback" not in said.err


def test_a_file_that_exists_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "boiler-1.yaml"
    file.write_text("device: boiler-1")
    assert main(["browse", URL, "--to-config", str(file)]) == 2
    assert "the file exists; choose another name, or add --force" in capsys.readouterr().err
    assert file.read_text() == "device: boiler-1"


def test_values_that_json_does_not_know() -> None:
    values = [1.5, float("nan"), {"a": float("-inf")}]
    assert finite(values) == [1.5, "NaN", {"a": "-Infinity"}]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0.1 + 0.2, "0.3"),
        (True, "true"),
        (7, "7"),
        ("a\x1b[31m\nb", "a [31m b"),
        ([1, 2.5, "x"], '[1,2.5,"x"]'),
        (float("inf"), "inf"),
    ],
)
def test_values_on_one_line(value: object, text: str) -> None:
    assert value_text(value) == text
