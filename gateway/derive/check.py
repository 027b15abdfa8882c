"""What is wrong with the derived points of one device, before it runs. Pure; loads no library."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from gateway.contract.config import AnyPointConfig, DerivedPointConfig
from gateway.derive.expression import Expression, ExpressionError, nearest
from gateway.log.records import Labels

_CLASSES = ("general", "important", "core")


class Finding(NamedTuple):
    """Something wrong or doubtful in a device file."""

    path: tuple[str | int, ...]
    message: str
    hint: str
    severity: Literal["error", "warning"] = "error"


def operands(point: DerivedPointConfig) -> tuple[str, ...]:
    """Names of the points that it is computed from. Raises `ExpressionError`."""
    return (point.window.of,) if point.window else Expression(point.expression or "").names


def in_order(derived: Sequence[DerivedPointConfig]) -> list[int]:
    """Their places in the order in which they are computed, operands first; without those that wait for themselves.

    Raises `ExpressionError`.
    """
    needs = {point.point: set(operands(point)) for point in derived}
    order: list[int] = []
    waiting = dict(enumerate(derived))
    while waiting:
        names = {point.point for point in waiting.values()}
        ready = [place for place, point in waiting.items() if needs[point.point].isdisjoint(names)]
        if not ready:
            break
        order += ready
        for place in ready:
            del waiting[place]
    return order


def check_derived(points: Sequence[AnyPointConfig], derived: Sequence[DerivedPointConfig]) -> list[Finding]:
    """Expressions that are refused, operands that are no points of the device, and circles."""
    findings: list[Finding] = []
    names = {point.point for point in (*points, *derived)}
    sound = []
    for place, point in enumerate(derived):
        if point.window is not None:
            if (of := point.window.of) in names:
                sound.append(place)
            else:
                hint = nearest(of, names) or "a window is over a point of its own device"
                findings.append(Finding(("derived", place, "window", "of"), f"this device has no point {of}", hint))
            continue
        path = ("derived", place, "expression")
        try:
            expression = Expression(point.expression or "")
        except ExpressionError as error:
            findings.append(Finding(path, f"{error}, in {_shown(point.expression or '', error.character)}", error.hint))
            continue
        unknown = [name for name in expression.names if name not in names]
        for name in unknown:
            message = f"at character {expression.characters[name]}: this device has no point {name}"
            hint = nearest(name, names) or "an expression knows the points of its own device"
            findings.append(Finding(path, message, hint))
        if not unknown:
            sound.append(place)
    if len(sound) == len(derived):
        findings += _circles(derived)
    return findings


def _circles(derived: Sequence[DerivedPointConfig]) -> Iterator[Finding]:
    left = sorted(set(range(len(derived))) - set(in_order(derived)))
    needs = {derived[place].point: operands(derived[place]) for place in left}
    told: set[str] = set()
    for place in left:
        way = [derived[place].point]
        while (following := next((name for name in needs[way[-1]] if name in needs), None)) and following not in way:
            way.append(following)
        if following != way[0] or told & set(way):
            continue  # it only leads to a circle, or its circle was told of
        told |= set(way)
        text = " needs ".join((*way, way[0]))
        key = "window" if derived[place].window else "expression"
        yield Finding(("derived", place, key), f"a circle: {text}", "no point can be computed from itself")


def labels_of_derived(
    known: dict[str, Labels], derived: Sequence[DerivedPointConfig], inherited: Sequence[Labels]
) -> tuple[list[Labels], list[Finding]]:
    """The highest grade and class of the operands, or what the point itself has where that is higher.

    `known`: labels of the points that are read, by name; `inherited`: of each derived point, as if it were read. A
    label of the point's own that is lower than its operands' is an error.
    """
    labels = list(inherited)
    findings: list[Finding] = []
    found = dict(known)
    for place in in_order(derived):
        point, own = derived[place], derived[place].governance
        of = [found[name] for name in operands(point)]
        grade = max(each.grade for each in (*of, labels[place]))
        data_class = max((each.data_class for each in (*of, labels[place])), key=_CLASSES.index)
        given = (("grade", own and own.grade, grade), ("class", own and own.data_class, data_class))
        for key, value, least in given:
            if value is not None and value != least:
                message = f"{value} is lower than that of what it is computed from, which is {least}"
                findings.append(
                    Finding(("derived", place, "governance", key), message, f"leave it out, or raise it to {least}")
                )
        labels[place] = found[point.point] = Labels(labels[place].domain, grade, data_class)
    return labels, findings


def _shown(text: str, character: int) -> str:
    """The part of a text around a character, on one line."""
    start = max(character - 20, 0)
    part = " ".join(text[start : character + 20].split())
    return f'"{"..." * (start > 0)}{part}{"..." * (character + 20 < len(text))}"'
