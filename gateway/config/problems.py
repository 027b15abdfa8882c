"""What is wrong with a config: one `Problem` per fault, with its place and the next step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

from gateway.contract import ConfigError

Path = tuple[str | int, ...]
"""way into a YAML document: keys and list indexes"""

_SHOWN = 3
"""devices that are named where a template has a problem"""


class Place(NamedTuple):
    """A spot in a config file; line and column count from 1 (0 = the file as a whole)."""

    file: str
    line: int = 0
    column: int = 0
    path: Path = ()
    used_by: str = ""
    """in a template: the device that uses it, with its parameters"""


def path_text(path: Path) -> str:
    """("points", 3, "order") as points[3].order."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of the config. Never holds a secret's value."""

    file: str
    line: int
    """from 1; 0 = the file as a whole"""
    column: int
    path: str
    """such as "points[3].order"; empty for the whole file"""
    severity: Literal["error", "warning"]
    message: str
    """what is wrong: expected, found"""
    hint: str = ""
    """the next step"""
    used_by: tuple[str, ...] = ()
    """in a template: the devices that use it, each with its parameters"""

    @classmethod
    def at(cls, place: Place, message: str, hint: str = "", severity: Literal["error", "warning"] = "error") -> Problem:
        """A problem at a place."""
        used_by = (place.used_by,) if place.used_by else ()
        return cls(place.file, place.line, place.column, path_text(place.path), severity, message, hint, used_by)

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        lines = [f"{where}: {self.severity}: {self.message}"]
        if self.hint:
            lines.append(self.hint)
        if self.used_by:
            more = len(self.used_by) - _SHOWN
            lines.append("used by " + ", ".join(self.used_by[:_SHOWN]) + (f" and {more} more" if more > 0 else ""))
        return "\n    ".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """For JSON output."""
        return asdict(self)


class ConfigProblems(ConfigError):
    """The config is refused; `problems` holds everything that was found, warnings included."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def tidy(problems: Iterable[Problem]) -> list[Problem]:
    """In the order of files and lines, each once: what devices find in the same template becomes one problem."""
    users: dict[Problem, list[str]] = {}
    for problem in problems:
        users.setdefault(replace(problem, used_by=()), []).extend(problem.used_by)
    found = [replace(problem, used_by=tuple(dict.fromkeys(names))) for problem, names in users.items()]
    return sorted(found, key=lambda p: (p.file, p.line, p.column, p.severity))
