"""Write the results of the experiments as Markdown: the page `docs/results.md`, and the table of the README."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from typing import Any

from harness.comparison.experiments import Line, Section
from harness.comparison.tables import error_cell, markdown_table
from harness.config.files import describe, own_words, remarks
from harness.evaluation.published import WORSE
from harness.run.printable import markdown, markdown_code, printable
from models.catalogue import Published

COLUMNS = ("network", "command", "recipe", "seeds", "our error (%)", "published (%)", "verdict", "note")
TEST_COLUMNS = ("network", "other network", "seed", "only it right", "only the other", "p (Holm)")
SHORT_COLUMNS = ("network", "our error (%)")
HEAD = """# Results

What came out, beside what the papers say? Written by `python tools/results.py` from the records in
`benchmarks/results/experiments` and the files in `configs/experiment`; a record is the `result.json` of a run as it was
written. Change these and run it again.

Our error is the top-1 error of the last epoch on the test split: the mean over seeds ± their standard deviation, and in
brackets Wilson's 95% interval for this number of images. The verdict says where the published error lies: inside this
interval, or ours is better, or worse. Learning rates and the like were chosen on validation images; where a line says
so, the network was then trained on all training images."""


def page(
    sections: Sequence[Section],
    pictures: Mapping[str, tuple[str, str]],
    further: Mapping[str, Sequence[str]],
    records: str,
) -> str:
    """Return the page.

    Args:
        sections: its tables.
        pictures: what the picture of a section shows, and its path, relative to the page, by the section's title.
        further: paragraphs below the table of a section, by its title.
        records: path of the folder of the records, relative to the page.
    """
    parts = [HEAD]
    for section in sections:
        parts.append(f"## {markdown(section.title)}")
        if section.title in pictures:
            parts.append("![{}]({})".format(*pictures[section.title]))
        rows = [_row(line) for line in section.lines]
        rows += [_not_run(row) for row in section.not_run]
        parts.append(markdown_table(COLUMNS, rows))
        parts += further.get(section.title, ())
        parts += _experiments(section.lines, records)
        parts += _recipes(section.lines)
    return "\n\n".join(parts) + "\n"


def short_table(section: Section) -> str:
    """Return the table of a section for the README: what was measured here."""
    errors = [
        f"{_error(line)}, {line.state}" if line.records and line.state else _error(line) for line in section.lines
    ]
    labels = [line.label for line in section.lines]
    return markdown_table(SHORT_COLUMNS, list(zip(labels, errors, strict=True)))


def tests_table(text: str) -> str:
    """Return the paired tests of a `comparison_tests.csv` as a table, with a line above that says what they are."""
    rows = [
        (
            row["model"],
            row["other_model"],
            row["seed"],
            row["only_model_right"],
            row["only_other_right"],
            _p(row["p_holm"]),
        )
        for row in csv.DictReader(text.splitlines())
    ]
    return (
        f"McNemar's exact test of each pair, by seed, with Holm's correction:\n\n{markdown_table(TEST_COLUMNS, rows)}"
    )


def _p(text: str) -> str:
    return "below 0.0001" if float(text) < 0.0001 else f"{float(text):.4f}"


def _row(line: Line) -> tuple[str, ...]:
    published = line.published or {}
    notes = filter(None, (line.state if line.records else "", published.get("why"), published.get("note")))
    return (
        line.label,
        markdown_code(line.command),
        f"[{line.config.recipe.name}](../configs/recipe/{line.config.recipe.name}.yaml)",
        str(len(line.records) or "-"),
        _error(line),
        f"{_published(line)} [{published['source']}]" if published else "-",
        _verdict(line),
        "; ".join(notes) or "-",
    )


def _error(line: Line) -> str:
    row = line.row
    return error_cell(row.top1_error, row.top1_deviation, row.top1_interval) if row else line.state


def _published(line: Line) -> str:
    return _errors(line.published) if line.published else "-"


def _errors(published: Mapping[str, Any]) -> str:
    error = published["top1_error"]
    return "-" if error is None else f"{error:g}"


def _verdict(line: Line) -> str:
    if line.row is None or line.published is None:
        return "-"
    verdict = str(line.published["verdict"])
    return f"**{verdict}**" if verdict == WORSE else verdict


def _not_run(row: Published) -> tuple[str, ...]:
    source, _, network = row.source.partition(": ")
    return network, "-", "-", "-", "not run here", f"{_errors(vars(row))} [{source}]", "-", row.note or "-"


def _experiments(lines: Sequence[Line], records: str) -> list[str]:
    """What each experiment sets, in its own words, with links to its file and records."""
    parts = []
    for name in dict.fromkeys(line.experiment for line in lines):
        own = [line for line in lines if line.experiment == name]
        found = [record.path for line in own for record in line.records]
        links = " ".join(f"[{path.stem}]({records}/{name}/{path.name})" for path in found)
        said = remarks("experiment", name)
        item = [
            f"- **[{name}](../configs/experiment/{name}.yaml)**, {_prose(describe('experiment', name))}",
            f"Sets: {' '.join(map(markdown_code, own_words(name)))}",
            *(_sentence(text) for text in said.values()),
            f"Records: {links or 'none yet'}",
        ]
        parts.append("<br>\n  ".join(item))
    return ["Experiments:", "\n".join(parts)]


def _recipes(lines: Sequence[Line]) -> list[str]:
    """How each recipe differs from its paper, in its file's words."""
    names = dict.fromkeys(line.config.recipe.name for line in lines)
    items = []
    for name in names:
        head = f"- **[{name}](../configs/recipe/{name}.yaml)**, {_prose(describe('recipe', name))}"
        items.append("<br>\n  ".join([head, *map(_sentence, remarks("recipe", name).values())]))
    return ["Recipes:", "\n".join(items)]


def _sentence(text: str) -> str:
    return _prose(text[0].upper() + text[1:])


def _prose(text: str) -> str:
    """A file's own words, which may hold code; they steer neither a terminal nor a browser."""
    return printable(text).replace("<", "&lt;")


def between(text: str, name: str, content: str) -> str:
    """Return a page with new content between its comments `<!-- name -->` and `<!-- /name -->`."""
    before, begin, rest = text.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    if not begin or not end:
        raise LookupError(f"the page lacks <!-- {name} --> and <!-- /{name} -->")
    return f"{before}{begin}{content}\n{end}{after}"
