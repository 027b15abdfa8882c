"""What is wrong with a config: one `Problem` per fault, with its place and the next step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

from gateway.contract import ConfigError

Path = tuple[str | int, ...]
"""way into a YAML document: keys and list indexes"""


class Place(NamedTuple):
    """A spot in a config file; line and column count from 1 (0 = the file as a whole)."""

    file: str
    line: int = 0
    column: int = 0
    path: Path = ()


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

    @classmethod
    def at(cls, place: Place, message: str, hint: str = "", severity: Literal["error", "warning"] = "error") -> Problem:
        """A problem at a place."""
        return cls(place.file, place.line, place.column, path_text(place.path), severity, message, hint)

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        text = f"{where}: {self.severity}: {self.message}"
        return f"{text}\n    {self.hint}" if self.hint else text

    def as_dict(self) -> dict[str, str | int]:
        """For JSON output."""
        return asdict(self)


class ConfigProblems(ConfigError):
    """The config is refused; `problems` holds everything that was found, warnings included."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def tidy(problems: Iterable[Problem]) -> list[Problem]:
    """Without repetitions (many devices share a template), in the order of files and lines."""
    return sorted(dict.fromkeys(problems), key=lambda p: (p.file, p.line, p.column, p.severity))
