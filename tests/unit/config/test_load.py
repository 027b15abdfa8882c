import json
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config import ConfigProblems, load_config, storage
from gateway.config.schema import FOLDER, schemas
from gateway.log.records import Labels
from tests.unit.config.plant import DEVICE, GATEWAY, write

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def on_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "kind_of", lambda path: "ssd")


def problems_of(folder: Path, **options: object) -> str:
    with pytest.raises(ConfigProblems) as raised:
        load_config(folder, **options)  # type: ignore[arg-type]
    return str(raised.value)


def test_labels_are_inherited_and_identifiers_expanded(tmp_path: Path) -> None:
    device = DEVICE.replace("adapter:", "governance: {grade: 2}\nadapter:")
    device = device.replace("coil 0", "coil 0, governance: {class: important}")
    device += "  - point: level\n    address: input 4\n    type: int16\n    id: 88.118.8/own\n"
    device += "    governance: {grade: 3, domain: operation}\n"
    config = load_config(write(tmp_path, **{"devices__boiler-1": device}))
    (loaded,) = config.devices
    assert loaded.name == "boiler-1"
    assert loaded.labels == (
        Labels("production", 2, "general"),
        Labels("production", 2, "important"),
        Labels("operation", 3, "general"),
    )
    assert loaded.identifiers == ("88.118.8/boiler-1.pressure", "88.118.8/boiler-1.running", "88.118.8/own")
    assert config.gateway.log.path == tmp_path / "log"
    (warning,) = config.warnings
    assert "no destination may carry operation, grade 3, general: boiler-1/level stays on this box" in warning.message


def test_without_identifiers_points_have_none(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GATEWAY.replace('identifiers: {prefix: "88.118.8"}\n', "")))
    assert config.devices[0].identifiers == (None, None)


def test_a_device_may_have_its_own_prefix_and_pattern(tmp_path: Path) -> None:
    device = DEVICE.replace(
        "points:", 'identifiers: {prefix: "88.1.2", pattern: "{prefix}/{gateway}:{point}"}\npoints:'
    )
    config = load_config(write(tmp_path, **{"devices__boiler-1": device}))
    assert config.devices[0].identifiers[0] == "88.1.2/qd-chem-01:pressure"


def test_a_template_is_filled_in_by_the_device(tmp_path: Path) -> None:
    template = DEVICE.replace("device: boiler-1\n", "").replace('{url: "tcp://192.168.1.20:502"}', "{station: 7}")
    device = """\
device: boiler-1
template: boiler
connection: {url: "tcp://10.0.0.1"}
points:
  - {point: running, unit: "1"}
  - {point: level, address: input 4, type: int16}
"""
    config = load_config(write(tmp_path, **{"devices__boiler-1": device, "templates__boiler": template}))
    loaded = config.devices[0].config
    assert [(point.point, point.unit) for point in loaded.points] == [
        ("pressure", "MPa"),
        ("running", "1"),
        ("level", None),
    ]
    assert (loaded.connection.url, loaded.connection.station) == ("tcp://10.0.0.1", 7)


def test_secrets_come_from_environment_and_files(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    gateway = GATEWAY.replace("max_grade: 2", 'max_grade: 2, user: {name: "${env:BOX}", password: "${file:password}"}')
    config = load_config(write(tmp_path, gateway), environment={"BOX": "box-7"})
    user = config.gateway.destinations[0].user
    assert user
    assert user.password
    assert (user.name, user.password.get_secret_value()) == ("box-7", "hunter2")
    assert "hunter2" not in repr(config)


@pytest.mark.parametrize("secret", ["hunter2", "it's\\a\"secret\n", "tcp://me:pa%ss@host/x", "密码"])
@pytest.mark.parametrize("key", ["url", "format", "name", "max_grade", "topic", "zzz"])
def test_a_secret_never_shows_in_a_message(tmp_path: Path, secret: str, key: str) -> None:
    keys = {"name": "other", "url": "mqtt://x", "max_grade": 1, key: "/${env:S}/"}
    gateway = f"{GATEWAY}  - {json.dumps(keys)}\n"
    said = problems_of(write(tmp_path, gateway), environment={"S": secret})
    assert secret.strip() not in said
    assert repr(secret)[1:-1] not in said


def test_an_unwritable_log_is_a_warning_in_check_and_an_error_in_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    (warning,) = load_config(write(tmp_path)).warnings
    assert "is not writable" in warning.message
    assert "error: log.path" in problems_of(tmp_path, for_run=True)


def test_a_log_in_memory_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "kind_of", lambda path: "tmpfs")
    (warning,) = load_config(write(tmp_path)).warnings
    assert "lost at power-off" in warning.message


def test_a_log_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("")
    assert "is not a folder" in problems_of(write(tmp_path), for_run=True)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert "there is no such folder" in problems_of(tmp_path / "nowhere")


def test_ten_thousand_points_load_within_two_seconds(tmp_path: Path) -> None:
    points = "".join(
        f"  - {{point: p{i}, tag: PI-{i}, address: holding {2 * i}, type: float32, order: CDAB, unit: MPa}}\n"
        for i in range(10_000)
    )
    write(tmp_path, **{"devices__boiler-1": DEVICE + points})
    began = time.process_time()
    config = load_config(tmp_path)
    assert time.process_time() - began < 2
    assert len(config.devices[0].identifiers) == 10_002


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.data())
def test_a_damaged_file_is_a_problem_and_never_a_crash(tmp_path: Path, data: st.DataObject) -> None:
    gateway, device = GATEWAY, DEVICE.replace("points:", "template: t\npoints:")
    texts = [gateway, device, DEVICE]
    which = data.draw(st.integers(0, 2))
    text = texts[which]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 30)))
    instead = data.draw(st.text("{}[]:,-&*|>'\"#a1.~$ \n\t", max_size=4))
    texts[which] = text[:start] + instead + text[end:]
    write(tmp_path, texts[0], **{"devices__boiler-1": texts[1], "templates__t": texts[2]})
    try:
        load_config(tmp_path)
    except ConfigProblems as error:
        for problem in error.problems:
            assert problem.message
            assert "Value error" not in str(problem)
            assert "pydantic" not in str(problem)


def test_the_schemas_are_current() -> None:
    for name, text in schemas().items():
        stored = (ROOT / FOLDER / name).read_text(encoding="utf-8")
        assert stored == text, f"{name} is not current: run python -m gateway.config.schema --write"


def test_the_example_config_is_right() -> None:
    load_config(ROOT / "config")
