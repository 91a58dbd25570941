"""Tables for people: as wide as a terminal, and folded nowhere where the output goes to a file or a program."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from harness.run.printable import printable
from harness.run.streams import fitting

WIDE = 1_000_000  # characters of a line that goes to a file or a program


Cell = str | Sequence[str]
"""The text of a cell: one line, or a list of lines."""


def show_table(
    title: str | None, columns: Sequence[str], rows: Sequence[Sequence[Cell]], right: Sequence[str] = ()
) -> None:
    """Print a table on standard output, whatever its cells say.

    Args:
        title: above it; None for none.
        columns: their heads.
        rows: their cells.
        right: heads of the columns whose cells stand at the right.
    """
    made = (Column(name, overflow="fold", justify="right" if name in right else "left") for name in columns)
    table = Table(*made, title=title and _text(title))
    for row in rows:
        table.add_row(*map(_text, row))
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def _text(cell: Cell) -> str:
    lines = [cell] if isinstance(cell, str) else cell
    return escape("\n".join(fitting(printable(line), sys.stdout) for line in lines))
