"""One comparison of the records of runs, from its config to its tables and chart."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from harness.comparison.chart import draw_comparisons
from harness.comparison.records import compare, find_records
from harness.comparison.tables import show, write_tables
from harness.config.commands import CompareConfig
from harness.errors import UserError
from harness.run.files import new_folder
from harness.run.printable import say
from harness.run.program import typed


def compare_records(config: CompareConfig) -> None:
    """Write one table and one row of panels for each data set, split and protocol.

    Raises:
        UserError: no record was found.
    """
    records, passed_over = find_records(_places(config.runs))
    if not records:
        instead = f"; {len(passed_over):,} passed over, such as {passed_over[0]}" if passed_over else ""
        raise UserError(
            f"runs={config.runs}: no record found{instead}; "
            + typed("train.py and eval.py write result.json into run folders")
        )
    comparisons = compare(records)
    show(comparisons)
    for line in passed_over:
        say(f"passed over: {line}")
    folder = new_folder(Path(config.out) / datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
    written = [*draw_comparisons(folder, comparisons), *write_tables(folder, comparisons)]
    say(f"written: {folder}/{', '.join(written)}")


def _places(runs: str) -> list[str]:
    """The folders and patterns that commas separate; a folder's own name may have commas."""
    pieces, places = runs.split(","), []
    while pieces:
        joined = [",".join(pieces[:end]) for end in range(len(pieces), 0, -1)]
        places.append(next((place for place in joined if Path(place).exists()), pieces[0]))
        del pieces[: places[-1].count(",") + 1]
    return places
