"""Templates: one point table for many equal machines, with parameters; `check --effective` shows what comes of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.commands.main import main
from gateway.config import ConfigProblems, LoadedConfig, load, load_config, storage
from gateway.config.effective import effective_device
from gateway.config.templates import Template
from gateway.config.yaml import parse
from tests.unit.config.plant import write

TEMPLATE = """\
parameters: {base: {description: first register}, unit: 1, prefix: {default: ""}, factor: 0.1, url: {default: tcp://x}}
adapter: modbus
every: 2s
connection: {station: "{unit}", url: "{url}"}
points:
  - {point: pressure, tag: "{prefix}PI-101", address: "holding {base}", type: float32, scale: "{factor}", unit: MPa}
  - {point: level, name: "{device} {{L}}", address: "holding {base+2}", type: uint16, unit: mm}
  - {point: spare, address: "holding {base + 2*unit - 1}", type: uint16}
"""


def device(number: int, parameters: str, more: str = "") -> str:
    return f"device: boiler-{number}\ntemplate: boiler\nparameters: {{{parameters}}}\n{more}"


def plant(folder: Path, *devices: str, template: str = TEMPLATE) -> Path:
    files = {f"devices__boiler-{number}": text for number, text in enumerate(devices, 1)}
    return write(folder, **files, templates__boiler=template)


@pytest.fixture(autouse=True)
def on_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "kind_of", lambda path: "ssd")


def table(config: LoadedConfig, number: int) -> list[tuple[str, str, float | None]]:
    return [(point.point, str(point.address), point.scale) for point in config.devices[number].config.points]


def test_each_device_has_its_own_values(tmp_path: Path) -> None:
    config = load_config(
        plant(
            tmp_path,
            device(1, "base: 100"),
            device(2, 'base: 0, unit: 7, factor: 2, prefix: "2#", url: "tcp://10.0.0.2:503"'),
        )
    )
    assert table(config, 0) == [
        ("pressure", "holding 100", 0.1),
        ("level", "holding 102", None),
        ("spare", "holding 101", None),
    ]
    assert table(config, 1) == [
        ("pressure", "holding 0", 2.0),
        ("level", "holding 2", None),
        ("spare", "holding 13", None),
    ]
    first, second = (each.config for each in config.devices)
    assert (first.connection.station, second.connection.station, second.connection.url) == (1, 7, "tcp://10.0.0.2:503")
    assert (first.points[0].tag, second.points[0].tag) == ("PI-101", "2#PI-101")
    assert (first.points[1].name, second.points[1].name) == ("boiler-1 {L}", "boiler-2 {L}")


def test_a_device_changes_leaves_out_and_adds_points(tmp_path: Path) -> None:
    more = "without: [spare]\nevery: 5s\npoints:\n  - {point: level, unit: m}\n  - {point: on, address: coil 3}\n"
    config = load_config(plant(tmp_path, device(1, "base: 1", more))).devices[0].config
    assert [(point.point, point.unit) for point in config.points] == [("pressure", "MPa"), ("level", "m"), ("on", None)]
    assert str(config.points[1].address) == "holding 3"
    assert config.every == 5


def test_derived_points_of_a_template_keep_the_braces_of_their_expressions(tmp_path: Path) -> None:
    derived = """\
derived:
  - {point: head, expression: "{pressure} * {factor} + level"}
  - {point: half, expression: "{spare} / 2"}
"""
    more = "without: [half]\nderived:\n  - {point: head, unit: m}\n"
    folder = plant(tmp_path, device(1, "base: 1", more), template=TEMPLATE + derived)
    (head,) = load_config(folder).devices[0].config.derived
    assert (head.expression, head.unit) == ("{pressure} * 0.1 + level", "m")
    plant(tmp_path, device(1, "base: 1, factor: -2", more), template=TEMPLATE + derived)
    (head,) = load_config(folder).devices[0].config.derived
    assert head.expression == "{pressure} * (-2) + level"


def test_derived_points_may_stand_among_the_others_in_a_template_and_in_a_device(tmp_path: Path) -> None:
    template = TEMPLATE + '  - {point: high, expression: "level > {base}", max_age: 10s}\n'
    own = (
        "points:\n"
        "  - {point: high, max_age: 1min}\n"
        '  - {point: level, unit: "${env:UNIT}"}\n'
        '  - {point: twice, expression: "level * 2", unit: "${env:UNIT}"}\n'
        "  - {point: extra, address: coil 900}\n"
        "derived: [{point: low, expression: not high}]\n"
    )
    folder = plant(tmp_path, device(1, "base: 100", own), template=template)
    config = load_config(folder, environment={"UNIT": "cm"})
    loaded = config.devices[0].config
    assert [point.point for point in loaded.points] == ["pressure", "level", "spare", "extra"]
    assert [(each.point, each.expression, each.max_age) for each in loaded.derived] == [
        ("high", "level > 100", 60.0),
        ("low", "not high", None),
        ("twice", "level * 2", None),
    ]
    assert (loaded.points[1].unit, loaded.derived[2].unit) == ("cm", "cm")
    text = effective_device(folder, "boiler-1", environment={"UNIT": "cm"})
    assert text.count("${env:UNIT}") == 2
    assert "cm" not in text


def test_the_templates_in_use_are_among_the_files(tmp_path: Path) -> None:
    folder = plant(tmp_path, device(1, "base: 1"))
    (folder / "templates" / "other.yaml").write_text("points: []\n")
    config = load_config(folder)
    assert [file.relative_to(folder).as_posix() for file in config.files] == [
        "devices/boiler-1.yaml",
        "gateway.yaml",
        "templates/boiler.yaml",
    ]
    (warning,) = config.warnings
    assert "no device uses this template" in str(warning)


def test_patterns_of_identifiers_keep_their_braces(tmp_path: Path) -> None:
    template = 'identifiers: {prefix: "88.118.8", pattern: "{prefix}/x-{device}-{point}"}\n' + TEMPLATE
    config = load_config(plant(tmp_path, device(1, "base: 1"), template=template))
    assert config.devices[0].identifiers[0] == "88.118.8/x-boiler-1-pressure"


@pytest.mark.parametrize("secret", ["hunter2" * 30, "{base}", "a}b"])
def test_a_secret_is_never_taken_for_a_placeholder_nor_shown(tmp_path: Path, secret: str) -> None:
    template = TEMPLATE.replace("every: 2s", 'name: "${env:S}"')
    folder = plant(tmp_path, device(1, 'base: 1, prefix: "${env:S}"'), template=template)
    config = load_config(folder, environment={"S": secret})
    assert config.devices[0].config.name == secret
    assert config.devices[0].config.points[0].tag == f"{secret}PI-101"
    shown = effective_device(folder, "boiler-1", environment={"S": secret})
    assert secret not in shown.replace("{base}", "") if secret != "{base}" else "${env:S}" in shown
    wrong = plant(tmp_path, device(1, 'base: 1, url: "${env:S}"'), template=template)
    with pytest.raises(ConfigProblems) as raised:
        load_config(wrong, environment={"S": secret})
    assert secret not in str(raised.value)


@pytest.mark.parametrize("number", [1, 2])
def test_the_effective_config_is_a_device_file_that_says_the_same(tmp_path: Path, number: int) -> None:
    more = "without: [spare]\npoints:\n  - {point: level, unit: m}\n  - {point: on, address: coil 3}\n"
    folder = plant(tmp_path / "with", device(1, "base: 1", more), device(2, 'base: 9, unit: 2, prefix: "#: {"'))
    text = effective_device(folder, f"boiler-{number}")
    again = load_config(write(tmp_path / "plain", **{f"devices__boiler-{number}": text}))
    loaded = load_config(folder).devices[number - 1]
    plain = again.devices[0]
    left_out = {"template", "parameters", "without"}
    assert plain.config.model_dump(exclude=left_out) == loaded.config.model_dump(exclude=left_out)
    assert plain.identifiers == loaded.identifiers


def test_effective_says_where_each_point_comes_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = "without: [spare]\npoints:\n  - {point: level, unit: m}\n  - {point: on, address: coil 3}\n"
    folder = plant(tmp_path, device(1, "base: 1", more))
    assert main(["check", str(folder), "--effective", "boiler-1"]) == 0
    said = capsys.readouterr().out.replace(f"{folder}/", "")
    assert [line.split(";")[0] for line in said.splitlines() if line.startswith("  # ")] == [
        "  # templates/boiler.yaml:6",
        "  # templates/boiler.yaml:7, changed at devices/boiler-1.yaml:6 (unit)",
        "  # devices/boiler-1.yaml:7",
    ]
    assert main(["check", str(folder), "--effective", "boiler-1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["file"].replace(f"{folder}/", "") == said
    assert main(["check", str(folder), "--effective", "boilr-1"]) == 2
    assert 'did you mean "boiler-1"?' in capsys.readouterr().err


NUMBERS = st.integers(0, 999_999_999)


@given(
    st.lists(st.tuples(st.sampled_from(["+", "-", "*", " + ", " - "]), NUMBERS | st.sampled_from(["a", "b"]))), NUMBERS
)
def test_arithmetic_is_that_of_school(steps: list[tuple[str, int | str]], start: int) -> None:
    text = str(start) + "".join(f"{sign}{operand}" for sign, operand in steps)
    document, problems = parse("t.yaml", f'parameters: {{a: 3, b: -4}}\nx: "{{{text}}}"\n'.encode())
    assert document
    assert not problems
    template = Template(document)
    assert not template.problems
    values = {"a": 3, "b": -4}
    expected = eval(re.sub(r"[ab]", lambda name: f"({values[name[0]]})", text))
    assert template.fill({**values, "device": "d"}).data["x"] == expected


@given(st.text("{}ab+*- 1é\n\"'", max_size=20))
def test_any_text_of_a_template_is_filled_in_or_told(text: str) -> None:
    document, _ = parse("t.yaml", json.dumps({"parameters": {"a": 1}, "x": [text]}).encode())
    assert document
    template = Template(document)
    filled = template.fill({"a": 1, "device": "d"})
    if not template.problems and "{" not in text.replace("{{", ""):
        assert filled.data["x"] == [text.replace("{{", "{").replace("}}", "}")]


def test_a_template_is_read_once_for_all_its_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files: list[str] = []

    def counting(file: str, content: bytes) -> Any:
        files.append(Path(file).name)
        return parse(file, content)

    monkeypatch.setattr(load, "parse", counting)
    points = "".join(
        f'  - {{point: p{i}, tag: "{{prefix}}-{i}", address: "holding {{base+{2 * i}}}", type: float32, unit: MPa}}\n'
        for i in range(500)
    )
    template = f"parameters: {{base: {{}}, prefix: {{}}}}\nadapter: modbus\npoints:\n{points}"
    text = "device: d{0}\ntemplate: t\nparameters: {{base: {0}, prefix: T{0}}}\nconnection: {{url: tcp://10.0.0.{0}}}\n"
    devices = {f"devices__d{number}": text.format(number) for number in range(1, 21)}
    config = load_config(write(tmp_path, **devices, templates__t=template))
    assert files.count("t.yaml") == 1
    assert len(files) == 22
    addresses = {loaded.name: str(loaded.config.points[-1].address) for loaded in config.devices}
    assert addresses == {f"d{number}": f"holding {number + 998}" for number in range(1, 21)}
