"""Local names: stable, valid, each used once; points found by name or tag."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract import ConfigError, PointConfig
from gateway.tables.naming import Names, find_point, local_name


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("PI-101", "PI-101"),
        ("TIC-301.PV", "TIC-301_PV"),
        ("1#锅炉 出口", "1_u9505u7089_u51FAu53E3"),
        ("Réacteur/Température", "Reacteur_Temperature"),
        ("ＴＩ－１０１", "TI-101"),
        ("...", "point"),
        ("", "point"),
        ("A" * 70, "A" * 55 + "_01d3a187"),
    ],
)
def test_rule(tag: str, name: str) -> None:
    assert local_name(tag) == name


@given(st.text())
def test_any_tag_gives_a_valid_name_and_always_the_same(tag: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", local_name(tag))
    assert local_name(tag) == local_name(tag)


@given(st.lists(st.text(alphabet="aA._é锅", max_size=3), max_size=30), st.sets(st.sampled_from(["a", "A_2", "point"])))
def test_no_name_is_given_twice(tags: list[str], taken: set[str]) -> None:
    names = Names(taken)
    given_names = [names.new(tag) for tag in tags]
    folded = [name.casefold() for name in [*taken, *given_names]]
    assert len(set(folded)) == len(folded) - (len(taken) - len({name.casefold() for name in taken}))
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in given_names)
    again = Names(taken)
    assert [again.new(tag) for tag in tags] == given_names


POINTS = [PointConfig(point="a", tag="PI-101"), PointConfig(point="b", tag="pi-102"), PointConfig(point="c", tag="X")]


def test_points_are_found_by_name_and_by_tag() -> None:
    assert find_point(POINTS, "a", "d").point == "a"
    assert find_point(POINTS, "PI-101", "d").point == "a"
    assert find_point(POINTS, "PI-102", "d").point == "b"


def test_a_name_goes_before_a_tag() -> None:
    points = [PointConfig(point="x", tag="y"), PointConfig(point="y", tag="x")]
    assert find_point(points, "x", "d").point == "x"


def test_what_is_not_found_or_not_one() -> None:
    with pytest.raises(ConfigError, match=r"device d has no point with the name or tag PI-103; did you mean PI-101\?"):
        find_point(POINTS, "PI-103", "d")
    twice = [*POINTS, PointConfig(point="e", tag="X")]
    with pytest.raises(ConfigError, match="device d: 2 points have the tag X; name one of them: c, e"):
        find_point(twice, "X", "d")
