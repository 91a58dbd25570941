"""Text out of files made fit to print: a record, a class or a file may be called anything."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return text as one line without control characters, which would steer a terminal; they stand as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def markdown_cell(text: str) -> str:
    """Return text for a cell of a Markdown table, in which `|` and `<` would end the cell and begin HTML."""
    return printable(text).replace("|", "\\|").replace("<", "&lt;")


def harmless(cell: str) -> str:
    """Return text for a table that a spreadsheet opens; an apostrophe keeps it from being computed as a formula."""
    text = printable(cell)
    return f"'{text}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else text
