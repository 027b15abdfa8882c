"""What `edge-gateway points import` says: for people, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from gateway.config import Problem
from gateway.tables.changes import Changes, PointChange
from gateway.tables.convert import TableProblem
from gateway.tables.edit import flow, ordered

MOST = 20
"""changes of one kind that are shown without --all"""
MOST_STAYING = 5
"""points that are not in the table and are named without --all"""
_STATES = {
    "wrong": "nothing is written: correct the table, then import it again",
    "same": "nothing to do: the config says what the table says",
    "shown": "nothing is written yet; --apply writes it",
    "written": "written; what was there before lies beside it as .bak",
}


def changes_text(
    changes: Sequence[Changes],
    problems: Sequence[TableProblem],
    config_problems: Sequence[Problem],
    notes: Sequence[str],
    state: str,
    *,
    remove: bool,
    all: bool,
) -> Iterator[str]:
    """The report line by line: notes, changes, problems, and what was done."""
    for note in [*notes, *(note for each in changes for note in each.notes)]:
        yield f"note: {note}"
    for each in changes:
        yield (
            f"{each.device}: {len(each.new):,} new, {len(each.changed):,} changed, {len(each.gone):,} gone, "
            f"{each.unchanged:,} unchanged"
        )
        yield from _some(each.new, _new, all)
        yield from _some(each.changed, _changed, all)
        if remove:
            yield from _some(each.gone, _removed, all)
        elif each.gone:
            yield _stay(each.gone, all)
    hint = ""
    for problem in problems:
        # A column that is wrong all the way down needs its advice once.
        yield str(replace(problem, hint="") if problem.hint == hint else problem)
        hint = problem.hint
    for wrong in config_problems:
        yield str(wrong)
    count = len(problems) + sum(problem.severity == "error" for problem in config_problems)
    yield (f"{count:,} problem{'s' * (count != 1)}; " if count else "") + _STATES[state]


def changes_json(
    changes: Sequence[Changes],
    problems: Sequence[TableProblem],
    config_problems: Sequence[Problem],
    notes: Sequence[str],
    state: str,
) -> dict[str, Any]:
    """The same for programs."""
    return {
        "state": state,
        "notes": [*notes, *(note for each in changes for note in each.notes)],
        "devices": [
            {
                "device": each.device,
                "new": [{"row": change.row, "keys": change.values} for change in each.new],
                "changed": [
                    {
                        "point": change.point,
                        "row": change.row,
                        "keys": {key.key: {"from": key.old, "to": key.new} for key in change.keys},
                    }
                    for change in each.changed
                ],
                "gone": [change.point for change in each.gone],
                "unchanged": each.unchanged,
            }
            for each in changes
        ],
        "problems": [
            {
                "sheet": problem.sheet,
                "row": problem.row,
                "column": problem.column,
                "message": problem.message,
                "hint": problem.hint,
            }
            for problem in problems
        ],
        "config_problems": [problem.as_dict() for problem in config_problems],
    }


def _some(changes: Sequence[PointChange], line: Callable[[PointChange], str], all: bool) -> Iterator[str]:
    shown = len(changes) if all or len(changes) <= MOST + 1 else MOST
    yield from map(line, changes[:shown])
    if shown < len(changes):
        yield f"  ... and {len(changes) - shown:,} more like these (--all shows them)"


def _new(change: PointChange) -> str:
    return f"  + {flow(ordered(change.values))}"


def _changed(change: PointChange) -> str:
    parts = [
        f"{key.key}: {'(none)' if key.old is None else flow(key.old)} -> "
        f"{'(none)' if key.new is None else flow(key.new)}"
        for key in change.keys
    ]
    return f"  ~ {_called(change)}, row {change.row}: {'; '.join(parts)}"


def _stay(gone: Sequence[PointChange], all: bool) -> str:
    """Many a table is of a part of a device: one line for what it does not speak of."""
    shown = gone if all else gone[:MOST_STAYING]
    names = ", ".join(map(_called, shown)) + (" ..." if len(shown) < len(gone) else "")
    return f"  - not in the table, these stay (--remove takes them out): {names}"


def _removed(change: PointChange) -> str:
    return f"  - {_called(change)} is taken out"


def _called(change: PointChange) -> str:
    return f"{change.point} ({change.tag})" if change.tag else change.point
