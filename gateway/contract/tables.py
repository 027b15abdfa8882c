"""What an adapter offers to `edge-gateway points import`: its addresses as people write them in point tables.

An adapter type whose addresses have many spellings implements `HasTables`; the command knows nothing of the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


class CellRefused(ValueError):
    """A cell cannot be understood. `column` is its key in `cells`."""

    def __init__(self, column: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.column = column
        self.message = message
        """what was expected and found"""
        self.hint = hint
        """the next step"""


@runtime_checkable
class HasTables(Protocol):
    """An adapter type that understands addresses as point tables write them."""

    def table_keys(self, cells: Mapping[str, str], base: int) -> dict[str, Any]:
        """Keys of a point that say where it is and what it holds.

        `cells` holds what a row says of them: `address`, and where the row has it `function` as written, `type` and
        `order` as the config writes them. `base` is 0 or 1: from where a number counts that names its table by a
        function code. The keys are as a device file has them. Raises CellRefused.
        """
        ...
