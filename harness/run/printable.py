"""Text out of files made fit to print: a record, a class or a file may be called anything."""

from __future__ import annotations

import html
import json
import re
import sys
from typing import Any, TextIO


def printable(text: str) -> str:
    """Return text as one line without control characters, which would steer a terminal; they stand as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(line: object, file: TextIO | None = None) -> None:
    """Print a line, on standard output unless another file is given, at once."""
    print(printable(str(line)), file=file or sys.stdout, flush=True)


def markdown(text: str) -> str:
    """Return text for a line or a cell of Markdown, where `|` and `<` would end the cell and begin HTML."""
    return printable(text).replace("|", "\\|").replace("<", "&lt;")


def markdown_code(text: str) -> str:
    """Return text as code in a line of Markdown; the backticks around it are more than any in it."""
    text = printable(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}"


LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "±": "$\\pm$"},
    **{"<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}"},
}


def latex(text: str) -> str:
    """Return text for LaTeX, outside of formulas."""
    return "".join(LATEX.get(sign, sign) for sign in printable(text))


def markup(text: str) -> str:
    """Return text for HTML, inside an element or an attribute."""
    return html.escape(printable(text))


def json_line(value: Any) -> str:
    """Return a value as one line of JSON, the same value when it is read; what would steer a terminal is escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def harmless(cell: str) -> str:
    """Return text for a table that a spreadsheet opens; an apostrophe keeps it from being computed as a formula."""
    text = printable(cell)
    return f"'{text}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else text
