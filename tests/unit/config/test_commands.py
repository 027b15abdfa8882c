import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.commands.main import main
from tests.unit.config.plant import GATEWAY, write


def test_check_of_a_right_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(write(tmp_path))]) == 0
    said = capsys.readouterr().out
    assert "modbus: 1 device, 2 points" in said
    assert "stream (production, grade 1, general): 2 points, to centre" in said


def test_check_of_a_wrong_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(write(tmp_path, GATEWAY.replace("max_grade", "max_grad")))]) == 2
    said = capsys.readouterr().out
    assert f'{tmp_path}/gateway.yaml:6:56: error: destinations[0] (centre): unknown key "max_grad"' in said
    assert said.endswith("1 error\n")


def test_check_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json", str(write(tmp_path))]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert report["summary"]["adapters"] == {"modbus": {"devices": 1, "points": 2}}
    assert main(["check", "--json", str(write(tmp_path, GATEWAY.replace("C26", "C")))]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    (problem,) = (each for each in report["problems"] if each["severity"] == "error")
    assert (problem["line"], problem["path"]) == (1, "gateway.industry")


@pytest.mark.parametrize(
    "arguments", [["--nonsense"], ["check"], ["frobnicate"], ["check", "x", "--nonsense"], ["run"]]
)
def test_wrong_arguments_are_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("edge-gateway ")


def test_run_refuses_a_wrong_config_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(write(tmp_path, GATEWAY.replace("C26", "C")))]) == 2
    said = capsys.readouterr().err
    assert "error: gateway.industry: expected" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("from gateway.commands import run", ("typer", "click", "rich", "pymodbus", "asyncua")),
        ("from gateway.config import load_config", ("typer", "click", "rich", "pymodbus", "asyncua", "paho")),
    ],
)
def test_memory_is_spent_on_what_is_used(statement: str, unwanted: tuple[str, ...]) -> None:
    code = (
        f"import sys; {statement}; from gateway.config import load_config; from pathlib import Path;"
        f"load_config(Path('config')); print([name for name in {unwanted} if name in sys.modules])"
    )
    root = Path(__file__).parents[3]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
