"""One comparison of the records of runs, from its config to its tables and chart, or to why two runs differ."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from harness.comparison.chart import draw_comparisons
from harness.comparison.records import compare, find_records
from harness.comparison.tables import show, write_tables
from harness.comparison.why import disagreements_csv, why
from harness.config.commands import CompareConfig
from harness.errors import UserError
from harness.run.console import show_table
from harness.run.files import new_folder, write_text
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


def explain(config: CompareConfig) -> None:
    """Say in what two runs differ, and write the images on which they disagree.

    Raises:
        UserError: there are not two of them, or one has no record.
    """
    folders = _places(str(config.why))
    if len(folders) != 2:
        raise UserError(f"why={config.why}: name two folders of runs, separated by a comma")
    found = why(*(Path(folder).expanduser() for folder in folders))
    for name, place in zip(found.names, ("first", "second"), strict=True):
        say(f"{place}: {name}")
    for heading, rows in found.differing.items():
        if rows:
            show_table(heading, ("", "first", "second"), rows)
        else:
            say(f"{heading}: the same")
    say(f"metrics: {found.metrics}")
    say(found.counts)
    folder = new_folder(Path(config.out) / datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
    write_text(folder / "disagreements.csv", disagreements_csv(found))
    say(f"written: {folder}/disagreements.csv")


def _places(runs: str) -> list[str]:
    """The folders and patterns that commas separate; a folder's own name may have commas."""
    pieces, places = runs.split(","), []
    while pieces:
        joined = [",".join(pieces[:end]) for end in range(len(pieces), 0, -1)]
        places.append(next((place for place in joined if Path(place).exists()), pieces[0]))
        del pieces[: places[-1].count(",") + 1]
    return places
