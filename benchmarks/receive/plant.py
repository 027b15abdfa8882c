"""What the readings of a plant must be: type, value and status, from nothing but their item and their time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.load.kinds import (
    FIELDS,
    KINDS,
    PLANT,
    STATUSES,
    STRING_DIGITS,
    TICKS,
    WITHOUT_VALUE,
    Ints,
    Kind,
    element_items,
    numbers,
    states,
    ticks_of,
)

ROUND: Final = 5
"""ticks in which each item changes once"""
ROUNDS: Final = TICKS // ROUND
"""after which they begin anew"""
_NAMES: Final = tuple(KINDS)
_KINDS: Final = np.array([_NAMES.index(name) for name in PLANT])
"""by item: an index of _NAMES"""


def wrong_readings(
    items: Ints, times: Ints, values: Sequence[Any], statuses: npt.NDArray[np.uint32]
) -> npt.NDArray[np.bool_]:
    """bool[n]: which readings are not what the load server sent, as JSON shows it.

    `times`: int64[n], ns since the epoch.
    """
    ticks = ticks_of(times)
    state = states(ticks, items)
    wrong: npt.NDArray[np.bool_] = statuses != STATUSES[state]
    of = _KINDS[items % len(_KINDS)]
    of[state == WITHOUT_VALUE] = len(_NAMES)
    for kind in np.unique(of).tolist():
        rows = np.flatnonzero(of == kind)
        found = [values[row] for row in rows.tolist()]
        if kind == len(_NAMES):
            wrong[rows] |= [value is not None for value in found]
        else:
            wrong[rows] |= _differ(KINDS[_NAMES[kind]], found, ticks[rows], items[rows])
    return wrong


def rounds_of(times: Ints) -> Ints:
    """int64[n]: the round in which each reading's item changed; `times` as in `wrong_readings`."""
    return (ticks_of(times) - 1) // ROUND % ROUNDS


def _differ(kind: Kind, found: list[Any], ticks: Ints, items: Ints) -> npt.NDArray[np.bool_]:
    if kind.element:
        return _arrays_differ(kind, found, ticks, items)
    if kind.name == "structure":
        return _structures_differ(found, ticks, items)
    expected = numbers(kind.name, ticks, items)
    if expected.dtype.kind != "f":
        wanted = expected.tolist()
        if kind.name == "string":
            wanted = [f"{whole:0{STRING_DIGITS}}" for whole in wanted]
        # True is 1 to Python
        unlike = [
            one.__class__ is not other.__class__ or one != other for one, other in zip(found, wanted, strict=True)
        ]
        return np.array(unlike, np.bool_)
    sound = np.array([value if value.__class__ is float else np.nan for value in found])
    with np.errstate(over="ignore"):
        # What JSON says of a float32 is the shortest text that reads back as it, not its exact value
        differ: npt.NDArray[np.bool_] = sound.astype(expected.dtype) != expected
    return differ


def _arrays_differ(kind: Kind, found: list[Any], ticks: Ints, items: Ints) -> npt.NDArray[np.bool_]:
    whole = [
        value if isinstance(value, list) and len(value) == kind.length else [None] * kind.length for value in found
    ]
    elements = _differ(
        KINDS[kind.element],
        list(chain.from_iterable(whole)),
        ticks.repeat(kind.length),
        element_items(kind, items).ravel(),
    )
    differ: npt.NDArray[np.bool_] = np.any(elements.reshape(len(found), kind.length), axis=1)
    return differ


def _structures_differ(found: list[Any], ticks: Ints, items: Ints) -> npt.NDArray[np.bool_]:
    names = [name for name, _ in FIELDS]
    whole = [value if isinstance(value, dict) and list(value) == names else dict.fromkeys(names) for value in found]
    fields = [_differ(KINDS[kind], [value[name] for value in whole], ticks, items) for name, kind in FIELDS]
    differ: npt.NDArray[np.bool_] = np.any(fields, axis=0)
    return differ
