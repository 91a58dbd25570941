"""The table of a sweep: the row with the lowest validation error is chosen, and its test error alone is shown.

Model selection never touches the reported split: whoever looks at the test errors of twenty settings and takes the
best reports an error that is too low. So the rows stand in the order of their validation errors, means over seeds, and
the test errors of the others stay in their records, as do paired tests between rows.

The validation error of a run is that of the epoch that it reports: the last, or with `recipe.patience` the best.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.comparison.records import Comparison, Record, Row
from harness.comparison.tables import PUBLISHED_COLUMN, error_cells, error_columns, show, with_column
from harness.errors import UserError
from harness.run.console import show_table
from harness.run.files import read_table
from harness.run.history import METRICS_FILE
from harness.run.printable import say

COLUMN = "validation top-1 error (%)"
NOT_SHOWN = "not shown"


@dataclass(frozen=True)
class Validated:
    """The validation error of a row.

    Attributes:
        top1_error: mean over its runs, in percent.
        deviation: standard deviation over its runs; None for one.
        images: what tells whether two rows were validated on the same images.
    """

    top1_error: float
    deviation: float | None
    images: frozenset[Any]


@dataclass(frozen=True)
class Choice:
    """What a comparison of a sweep's runs chooses.

    Attributes:
        validated: the validation error of each row; None for a row without one.
        row: the chosen one; None where there is no choice to make.
        why: a line: how it was chosen, or why there is no choice; empty if there is a single row.
    """

    validated: tuple[Validated | None, ...]
    row: Row | None
    why: str

    @property
    def folder(self) -> str | None:
        """Folder of the chosen row's run with the smallest seed; None where there is no choice to make."""
        return None if self.row is None else str(self.row.runs[0].path.parent)


def validation_error(record: Record) -> float | None:
    """Return the validation error (percent) of the epoch that a run reports; None if its folder does not tell one."""
    try:
        rows = read_table(record.path.with_name(METRICS_FILE), ("epoch", "validation_top1_error"))
        errors = {int(row["epoch"]): row["validation_top1_error"] for row in rows}
        return float(errors[record.content["weights"]["epoch"]])
    except (OSError, ValueError, LookupError):  # an evaluation has no such file, and without a split a cell is empty
        return None


def validated(row: Row) -> Validated | None:
    """Return the validation error of a row; None unless each of its runs has one."""
    errors = [error for run in row.runs if (error := validation_error(run)) is not None]
    if not row.runs or len(errors) < len(row.runs):
        return None
    trainings = [run.content["training"] for run in row.runs]
    images = frozenset(
        (run.fold, t.get("images"), t.get("fingerprint")) for run, t in zip(row.runs, trainings, strict=True)
    )
    return Validated(statistics.mean(errors), statistics.stdev(errors) if len(errors) > 1 else None, images)


def choose(comparison: Comparison) -> Choice:
    """Choose the row with the lowest mean validation error; of equal ones, the first by its label."""
    each = tuple(validated(row) for row in comparison.rows)
    known = [(it.top1_error, row.model, row) for row, it in zip(comparison.rows, each, strict=True) if it is not None]
    if not known:
        return Choice(each, None, "no validation split, so there is nothing to choose by: these are test errors")
    if len({it.images for it in each if it is not None}) > 1:
        why = "validated on different images, so there is nothing to choose by: these are test errors"
        return Choice(each, None, why)
    best = min(known, key=lambda it: it[:2])[-1]
    lacking = f" among the {len(known)} of {len(each)} rows that have one" if len(known) < len(each) else ""
    seeds = "; not all rows have the same seeds" if len({row.seeds for *_, row in known}) > 1 else ""
    why = f"chosen by the validation error{lacking}: {best.model}{seeds}" if len(each) > 1 else ""
    return Choice(each, best, why)


def show_choices(comparisons: Sequence[Comparison], everything: bool) -> list[Choice]:
    """Print a table of each comparison of a sweep's runs, with validation errors; return what each chooses.

    Args:
        comparisons: of the runs of one sweep.
        everything: whether to show the test errors of all rows, and the paired tests between them.
    """
    choices = [choose(comparison) for comparison in comparisons]
    for comparison, choice in zip(comparisons, choices, strict=True):
        one = len(comparison.rows) == 1
        if everything or one or choice.row is None:
            show([comparison], (COLUMN, _cells(comparison, choice)) if any(choice.validated) else None)
        else:
            _show_the_chosen(comparison, choice)
        if choice.why and not (one and choice.row is not None):
            say(choice.why)
    return choices


def _cells(comparison: Comparison, choice: Choice) -> list[str]:
    cells = []
    for row, it in zip(comparison.rows, choice.validated, strict=True):
        spread = "" if it is None or it.deviation is None else f" ± {it.deviation:.2f}"
        mark = ", the best" if row is choice.row and len(comparison.rows) > 1 else ""
        cells.append("-" if it is None else f"{it.top1_error:.2f}{spread}{mark}")
    return cells


def _show_the_chosen(comparison: Comparison, choice: Choice) -> None:
    """Print the rows in the order of their validation errors, with the test error of the chosen one."""
    columns = error_columns(comparison)
    hidden = [head.endswith("error (%)") or head == PUBLISHED_COLUMN for head in columns]
    lines = []
    for row, it, cell, cells in zip(
        comparison.rows, choice.validated, _cells(comparison, choice), error_cells(comparison), strict=True
    ):
        if row is not choice.row:
            cells = tuple(NOT_SHOWN if hide else text for text, hide in zip(cells, hidden, strict=True))
        rank = (it is None, it.top1_error if it else 0.0, row is not choice.row, row.model)
        lines.append((rank, with_column(cells, cell)))
    ordered = [(str(number), *line) for number, (_, line) in enumerate(sorted(lines), 1)]
    show_table(comparison.title, ("#", *with_column(columns, COLUMN)), ordered)
    for line in comparison.left_out:
        say(f"left out: {line}")
    say("the other test errors are in their records; show=all shows them, and paired tests")


def the_folder(choices: Sequence[Choice]) -> str:
    """Return the folder of the one run that a sweep chose.

    Raises:
        UserError: there is no choice to make, or more than one.
    """
    if not choices:
        raise UserError("choose=validation: no run left a record to choose among")
    if len(choices) > 1:
        raise UserError(
            "choose=validation: the runs report on different images or by different protocols; sweep over neither"
        )
    folder = choices[0].folder
    if folder is None:
        raise UserError(f"choose=validation: {choices[0].why}")
    return folder
