"""A bar for a long task: one line of a terminal, or plain lines where the output is no terminal. No torch."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich import get_console
from rich.console import Console, OverflowMethod
from rich.progress import Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text

from harness.run.log import log, print_by, speaks

REDRAW = 0.2  # seconds between two updates of the bar
WIDTH, LEAST = 24, 4  # longest and shortest bar, in characters
LINE = 30.0  # seconds between two lines if there is no terminal
SOON = 1.0  # seconds; a task that is done by then shows nothing


class _Line(ProgressColumn):
    """What is done, a bar, facts and the time left, in one line of any terminal.

    Where it is narrow the bar yields first, then the end of the facts, and the time left never.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self.left = TimeRemainingColumn()

    def render(self, task: Task) -> Text:
        left = self.left.render(task)
        what, facts = Text(task.description), Text(task.fields["facts"])
        room = self.console.width - 1 - len(left) - 1  # a terminal may break a line that fills it
        overflow: OverflowMethod = "crop" if self.console.options.ascii_only else "ellipsis"
        what.truncate(room, overflow=overflow)
        facts.truncate(max(1, room - len(what) - 1), overflow=overflow)
        words = [what, facts] if facts and len(what) + 1 < room else [what]
        length = min(WIDTH, room - sum(len(part) + 1 for part in words))
        if length >= LEAST:
            words.insert(1, self._bar(length, task.percentage / 100))
        return Text(" ").join([*words, left])

    def _bar(self, length: int, share: float) -> Text:
        done, rest = ("━", "━") if self.console.color_system else ("━", " ")
        if self.console.options.ascii_only:
            done, rest = "#", "-"
        filled = min(length, int(length * share))
        return Text.assemble((done * filled, "bar.complete"), (rest * (length - filled), "bar.back"))


def line_of_progress(console: Console) -> Progress:
    """Return the display of a run: one line, which is removed at the end."""
    return Progress(_Line(console), console=console, auto_refresh=False, transient=True)


@contextmanager
def counted(what: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show how much of a task is done, if it takes more than a second and log lines go to the terminal.

    Args:
        what: is done, such as `indexing photos`.
        total: of its parts.
        unit: of the parts, such as `pictures`.

    Yields:
        A function to call with the number of parts that were done since its last call.
    """
    shown, terminal = speaks(), speaks() and sys.stdout.isatty()
    begun = drawn = time.monotonic()
    done, bar = 0, line_of_progress(get_console()) if terminal else None
    task = bar.add_task(what, total=total, facts="") if bar else None

    def count(parts: int) -> None:
        nonlocal done, drawn
        done, now = done + parts, time.monotonic()
        if not shown or now - drawn < (SOON if drawn == begun else REDRAW if terminal else LINE):
            return
        facts = f"{done:,} of {total:,} {unit}"
        if bar is None or task is None:
            log.info(f"{what}: {facts}")
        else:
            if drawn == begun:
                bar.start()
                print_by(partial(bar.console.print, soft_wrap=True, markup=False, highlight=False, emoji=False))
            bar.update(task, completed=done, facts=facts, refresh=True)
        drawn = now

    try:
        yield count
    finally:
        if bar is not None and drawn != begun:
            print_by(None)
            bar.stop()
