"""How far the work is: a bar on a terminal, and nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import TaskID


class Progress:
    """Is told what is done and how far it is.

    Args:
        bar: shows it; None for nothing.
    """

    def __init__(self, bar: Bar | None = None) -> None:
        self.bar = bar
        self.task = TaskID(0)

    def begin(self, what: str, steps: int) -> None:
        """Begin something of so many steps."""
        if self.bar is not None:
            self.task = self.bar.add_task(what, total=steps)

    def advance(self, steps: int) -> None:
        """So many more steps are done."""
        if self.bar is not None:
            self.bar.advance(self.task, steps)


@contextmanager
def shown() -> Iterator[Progress]:
    """Show a bar on standard error, if that is a terminal, until the work is done."""
    if not sys.stderr.isatty():
        yield Progress()
        return
    with Bar(console=Console(stderr=True), transient=True) as bar:
        yield Progress(bar)
