"""Text edits of device files: the data is what was asked for, the rest of the text is what it was."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract import ConfigError
from gateway.tables.edit import DeviceText

FLOW = """\
device: d
points:
- {point: a, unit: "℃", scale: 0.1}   # 一
- { point: b , invalid: [1, 2], governance: {grade: 2} }
- {point: c}
every: 1s # after the points
"""
BLOCK = """\
points:
    -   point: a      # 一
        unit: "℃"
        scale: 0.1
    # between
    -   point: b
        invalid:
          - 1
        governance: {grade: 2}

    -   point: c
"""
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**31), 2**31),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.text(max_size=8).filter(lambda text: "${" not in text and "\x00" not in text),
)


def points(text: str) -> dict[str, dict[str, object]]:
    return {point["point"]: point for point in yaml.safe_load(text)["points"]}


@pytest.mark.parametrize("text", [FLOW, BLOCK])
@settings(max_examples=50)
@given(
    changes=st.dictionaries(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["unit", "name", "scale", "id", "description"])), VALUES
    ),
    new=st.lists(VALUES, max_size=3),
)
def test_any_changes_read_back(text: str, changes: dict[tuple[str, str], object], new: list[object]) -> None:
    edited, wanted = DeviceText("d.yaml", text), points(text)
    for (point, key), value in changes.items():
        edited.set(point, key, value)
        wanted[point][key] = value
    for number, value in enumerate(new):
        edited.append({"point": f"n{number}", "name": value})
        wanted[f"n{number}"] = {"point": f"n{number}", "name": value}
    assert points(edited.text) == wanted
    for comment in ("# 一", "# between", "# after the points"):
        assert (comment in text) == (comment in edited.text)


@pytest.mark.parametrize("text", [FLOW, BLOCK])
def test_no_change_changes_nothing(text: str) -> None:
    assert DeviceText("d.yaml", text).text == text


@pytest.mark.parametrize("text", [FLOW, BLOCK])
def test_what_is_taken_out(text: str) -> None:
    edited, wanted = DeviceText("d.yaml", text), points(text)
    edited.remove_key("a", "unit")
    del wanted["a"]["unit"]
    edited.remove_point("b")
    del wanted["b"]
    edited.append({"point": "e"})
    wanted["e"] = {"point": "e"}
    assert points(edited.text) == wanted
    assert "# 一" in edited.text


def test_the_first_key_of_a_flow_point() -> None:
    edited = DeviceText("d.yaml", "points:\n  - {unit: m, point: a}\n")
    edited.remove_key("a", "unit")
    assert edited.text == "points:\n  - {point: a}\n"


@pytest.mark.parametrize("head", ["", "every: 1s", "every: 1s\n", "every: 1s\n# end\n"])
def test_the_first_point_of_a_file_with_a_template(head: str) -> None:
    edited = DeviceText("d.yaml", f"device: d\n{head}")
    edited.append({"point": "a", "unit": "m"})
    assert points(edited.text) == {"a": {"point": "a", "unit": "m"}}
    assert edited.text.startswith(f"device: d\n{head}")


def test_what_is_not_changed_by_rule_is_refused_with_its_line() -> None:
    brackets = DeviceText("d.yaml", "device: d\npoints: [{point: a}]\n")
    with pytest.raises(ConfigError, match=r"d\.yaml: `points` is written in brackets; write one point a line"):
        brackets.append({"point": "b"})
    with pytest.raises(ConfigError, match=r"d\.yaml:2: this point is written in a way that is not changed here"):
        brackets.remove_point("a")
    block = DeviceText("d.yaml", "points:\n  - point: a\n    description: |\n      long\n")
    with pytest.raises(ConfigError, match=r"d\.yaml:2: .*; change description of point a to short"):
        block.set("a", "description", "short")


def test_anchors_and_merged_keys_are_overridden_in_place() -> None:
    text = "x: &x {unit: m}\npoints:\n  - {<<: *x, point: a}\n  - {point: b, unit: &u kg}\n  - {point: c, unit: *u}\n"
    edited = DeviceText("d.yaml", text)
    edited.set("a", "unit", "cm")
    edited.set("c", "unit", "g")
    assert {name: point["unit"] for name, point in points(edited.text).items()} == {"a": "cm", "b": "kg", "c": "g"}
