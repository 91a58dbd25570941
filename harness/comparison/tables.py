"""Write a comparison as text: rounded cells for the terminal and Markdown, exact numbers for CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.comparison.records import Comparison, Row
from harness.run.console import show_table
from harness.run.files import csv_text
from harness.run.printable import harmless, printable, say
from harness.run.printable import latex as as_latex
from harness.run.printable import markdown as as_markdown
from harness.run.program import typed

MOST_TESTS = 40  # most tests in a table; `comparison_tests.csv` has all
ERROR_COLUMNS = ("model", "parameters", "images", "seeds")  # before the errors
EVALUATED_COLUMN = "evaluated on"  # where the rows differ in it: `cpu by 100`, device and images at once
PUBLISHED_COLUMN = "published top-1/top-5 (%)"
ERRORS = ("top1_error", "top5_error")  # keys of what was published
TEST_COLUMNS = ("model", "other model", "seed", "only it right", "only the other", "p", "p (Holm)")
CSV_COLUMNS = (
    *("data", "split", "protocol", "model", "settings", "parameters", "images", "seeds"),
    *(f"top{k}_{what}" for k in (1, 5) for what in ("error", "low_95", "high_95", "deviation")),
    *(
        "top1_published",
        "top5_published",
        "verdict",
        "why",
        "source",
        "multiply_adds",
        "images_per_second",
        "evaluated",
    ),
)
TESTS_CSV_COLUMNS = (
    *("data", "split", "protocol", "model", "other_model", "seed"),
    *("only_model_right", "only_other_right", "p", "p_holm"),
)


def error_cells(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return a row for each model: `0.61 ± 0.05 (0.47-0.78)` is mean, deviation over seeds, and 95% Wilson interval.

    Where rows differ in it, a column says on which device and in which batches they were evaluated. What was published
    follows in a last column if anything was for one of the models: errors, verdict and source.
    """

    any_published = any(row.published for row in comparison.rows)

    return [
        (
            row.model,
            f"{row.parameters:,}",
            f"{row.images:,}",
            str(len(row.seeds) or "-"),
            error_cell(row.top1_error, row.top1_deviation, row.top1_interval),
            *([error_cell(row.top5_error, row.top5_deviation, row.top5_interval)] if 5 in comparison.ks else []),
            *([] if comparison.evaluated_alike else [row.evaluated]),
            *([_published(row)] if any_published else []),
        )
        for row in comparison.rows
    ]


def error_cell(error: float, deviation: float | None, interval: tuple[float, float]) -> str:
    """Return mean, deviation over seeds and interval, in percent: `0.61 ± 0.05 (0.47-0.78)`."""
    spread = "" if deviation is None else f" ± {deviation:.2f}"
    return f"{error:.2f}{spread} ({interval[0]:.2f}-{interval[1]:.2f})"


def error_columns(comparison: Comparison) -> tuple[str, ...]:
    """Return the heads of what `error_cells` returns."""
    published = (PUBLISHED_COLUMN,) if any(row.published for row in comparison.rows) else ()
    evaluated = () if comparison.evaluated_alike else (EVALUATED_COLUMN,)
    return (*ERROR_COLUMNS, *(f"top-{k} error (%)" for k in comparison.ks), *evaluated, *published)


def _published(row: Row) -> str:
    if row.published is None:
        return "-"
    errors = "/".join("-" if row.published[key] is None else f"{row.published[key]:g}" for key in ERRORS)
    why = f": {row.published['why']}" if row.published["why"] else ""
    return f"{errors}, {row.published['verdict']}{why} [{row.published['source']}]"


def test_cells(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return a row for each pair of models and seed."""
    return [
        (t.first, t.second, seed, str(t.only_first), str(t.only_second), f"{t.p:.2g}", f"{t.p_holm:.2g}")
        for t in comparison.tests
        for seed in ["-" if t.seed is None else str(t.seed)]
    ]


def with_column(cells: Sequence[str], cell: str) -> tuple[str, ...]:
    """Return a line of a table of errors, or its heads, with one more cell before the errors."""
    place = len(ERROR_COLUMNS)
    return (*cells[:place], cell, *cells[place:])


def show(comparisons: Sequence[Comparison], column: tuple[str, Sequence[str]] | None = None) -> None:
    """Print every comparison with numbered rows, and its paired tests, which refer to rows by these numbers.

    Args:
        comparisons: what to print.
        column: head and cells of one more column, of the only comparison.
    """
    for comparison in comparisons:
        number = {row.model: str(place) for place, row in enumerate(comparison.rows, 1)}
        columns, rows = error_columns(comparison), error_cells(comparison)
        if column is not None:
            columns = with_column(columns, column[0])
            rows = [with_column(row, cell) for row, cell in zip(rows, column[1], strict=True)]
        show_table(comparison.title, ("#", *columns), [(number[cells[0]], *cells) for cells in rows])
        tests = [(number[first], number[second], *rest) for first, second, *rest in test_cells(comparison)]
        if tests:
            columns = ("#", "other #", *TEST_COLUMNS[2:])
            show_table("McNemar's exact test, paired by seed", columns, tests[:MOST_TESTS])
        if len(tests) > MOST_TESTS:
            more = f"and {len(tests) - MOST_TESTS:,} more tests"
            say(f"{more}; {typed('python compare.py')} writes all to comparison_tests.csv")
        for line in comparison.left_out:
            say(f"left out: {line}")


def markdown(comparisons: Sequence[Comparison]) -> str:
    """Return every comparison and its paired tests as Markdown."""
    parts = []
    for comparison in comparisons:
        table = markdown_table(error_columns(comparison), error_cells(comparison))
        parts.append(f"## {as_markdown(comparison.title)}\n\n{table}")
        if comparison.tests:
            tests = test_cells(comparison)
            table = markdown_table(TEST_COLUMNS, tests[:MOST_TESTS])
            more = f"\n\nAnd {len(tests) - MOST_TESTS:,} more in `comparison_tests.csv`." if tests[MOST_TESTS:] else ""
            parts.append(f"McNemar's exact test on the same images, paired by seed:\n\n{table}{more}")
        parts += [f"Left out: {as_markdown(line)}" for line in comparison.left_out]
    return "\n\n".join(parts) + "\n"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *([as_markdown(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def comparison_csv(comparisons: Sequence[Comparison]) -> str:
    """Return every row of every comparison as CSV, unrounded."""
    rows: list[tuple[object, ...]] = []
    for c in comparisons:
        for row in c.rows:
            seeds = " ".join(map(str, row.seeds))
            top1 = (row.top1_error, *row.top1_interval, row.top1_deviation)
            top5 = (row.top5_error, *row.top5_interval, row.top5_deviation)
            rows.append(
                (
                    c.data,
                    c.split,
                    c.protocol,
                    row.model,
                    row.settings,
                    row.parameters,
                    row.images,
                    seeds,
                    *top1,
                    *top5,
                    *((row.published or {}).get(key, "") for key in (*ERRORS, "verdict", "why", "source")),
                    row.multiply_adds,
                    row.images_per_second,
                    row.evaluated,
                )
            )
    return csv_text(CSV_COLUMNS, map(_harmless, rows))


def tests_csv(comparisons: Sequence[Comparison]) -> str:
    """Return every paired test of every comparison as CSV, unrounded."""
    rows = [
        (c.data, c.split, c.protocol, t.first, t.second, t.seed, t.only_first, t.only_second, t.p, t.p_holm)
        for c in comparisons
        for t in c.tests
    ]
    return csv_text(TESTS_CSV_COLUMNS, map(_harmless, rows))


def _harmless(row: Sequence[object]) -> list[object]:
    return [harmless(cell) if isinstance(cell, str) else cell for cell in row]


def latex(comparisons: Sequence[Comparison]) -> str:
    """Return the errors of every comparison as LaTeX tables, which need the package booktabs."""
    parts = []
    for comparison in comparisons:
        columns = error_columns(comparison)
        lines = [
            f"\\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
            "\\toprule",
            *(f"{' & '.join(map(as_latex, row))} \\\\" for row in (columns, *error_cells(comparison))),
            "\\bottomrule",
            "\\end{tabular}",
        ]
        lines.insert(3, "\\midrule")
        parts.append("\n".join([f"% {printable(comparison.title)}", *lines]))
    return "\n\n".join(parts) + "\n"


def write_tables(folder: Path, comparisons: Sequence[Comparison]) -> list[str]:
    """Write the comparisons as CSV, Markdown and LaTeX into a folder and return the names of the files."""
    texts = {
        "comparison.csv": comparison_csv(comparisons),
        "comparison_tests.csv": tests_csv(comparisons),
        "comparison.md": markdown(comparisons),
        "comparison.tex": latex(comparisons),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return list(texts)
