"""Run `cnn_lecture.py` and write its pages: `docs/lecture.md` with pictures, and `docs/lecture.html`, one file.

    python examples/render_lecture.py            # runs the lecture, about a minute, and writes
    python examples/render_lecture.py --check    # runs it, writes nothing; exit code 1 if a page is not what it says

Text and code have to be the same. Numbers that the program prints may differ as much as another machine can make them:
`TOLERANCE` has how much, by the tag of a cell. `lecture.html` has to be exactly what `lecture.md` and its pictures
make.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import html
import io
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lecture_figures
import lecture_pieces
from markdown_it import MarkdownIt  # it and Pygments come with rich
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

ROOT = Path(__file__).resolve().parent.parent
LECTURE, DOCS = ROOT / "examples" / "cnn_lecture.py", ROOT / "docs"
MARKDOWN, PAGE, IMAGES = "lecture.md", "lecture.html", "images/lecture"
NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?")
TOLERANCE = {  # of two numbers: absolute, and relative to the larger
    "": (0.011, 0.001),  # what is computed; the last digit may be rounded the other way
    "percent": (4.0, 0.1),  # errors of networks that are trained here
    "loss": (0.1, 0.7),  # losses and ratios of gradients, of networks that are trained here
}


@dataclass
class Cell:
    """A cell of the lecture, and what it gives when it runs.

    Attributes:
        line: where it starts in the file, from 0.
        markdown: whether it is text.
        tag: its tag, or nothing.
        source: text or code.
        output: what the code printed.
        figures: name and alternative text of each figure.
    """

    line: int
    markdown: bool
    tag: str
    source: str
    output: str = ""
    figures: list[tuple[str, str]] = field(default_factory=list)


def cells_of(text: str) -> list[Cell]:
    """The cells of a file in the percent format; its header is not one."""
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("# %%")]
    cells = []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        body, markdown = lines[start + 1 : end], "[markdown]" in lines[start]
        if markdown:
            body = [line.removeprefix("#").removeprefix(" ") for line in body]
        tag = re.search(r'tags=\["(\w+)"\]', lines[start])
        cells.append(Cell(start, markdown, tag[1] if tag else "", "\n".join(body).strip("\n")))
    return cells


def run(cells: list[Cell], path: Path) -> dict[str, bytes]:
    """Run the code; fills in outputs and figures, and returns the figures as PNG by name."""
    pictures: dict[str, bytes] = {}
    namespace: dict[str, Any] = {"__name__": "__main__", "__file__": str(path)}
    for cell in cells:
        if cell.markdown:
            continue

        def keep(name: str, alt: str, png: bytes, cell: Cell = cell) -> None:
            pictures[name] = png
            cell.figures.append((name, alt))

        lecture_figures.on_figure = keep
        printed = io.StringIO()
        padded = "\n" * (cell.line + 1) + cell.source  # so that an error names the line of the file
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile(padded, str(path), "exec"), namespace)
        finally:
            lecture_figures.on_figure = lecture_figures.display
        cell.output = printed.getvalue().rstrip()
    return pictures


def markdown_of(cells: list[Cell]) -> str:
    """The static page."""
    parts = []
    for cell in cells:
        if cell.markdown:
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        if cell.output:
            parts.append(f"```text {cell.tag}".rstrip() + f"\n{cell.output}\n```")
        parts += [f"![{alt}]({IMAGES}/{name}.png)" for name, alt in cell.figures]
    return "\n\n".join(parts) + "\n"


def differences(old: str, new: str) -> list[str]:
    """What a page says that the program does not, a line each; numbers in outputs may differ by their tolerance."""
    found, tag, inside = [], "", False
    old_lines, new_lines = old.splitlines(), new.splitlines()
    if len(old_lines) != len(new_lines):
        found.append(f"it has {len(old_lines)} lines, and should have {len(new_lines)}")
    for number, (was, now) in enumerate(zip(old_lines, new_lines, strict=False), start=1):
        if now.startswith("```"):
            inside, tag = now.startswith("```text"), now.removeprefix("```text").strip()
        if was != now and not (inside and close(was, now, tag)):
            found.append(f"line {number} has {was.strip()!r}, and should have {now.strip()!r}")
    return found


def close(was: str, now: str, tag: str) -> bool:
    """Whether two lines are the same but for numbers within the tolerance of the tag, and for spaces."""
    shapes = [" ".join(NUMBER.sub("0", line).split()) for line in (was, now)]
    if shapes[0] != shapes[1]:
        return False
    absolute, relative = TOLERANCE.get(tag, TOLERANCE[""])
    pairs = zip(*([float(text.replace(",", "")) for text in NUMBER.findall(line)] for line in (was, now)), strict=True)
    return all(abs(a - b) <= max(absolute, relative * max(abs(a), abs(b))) for a, b in pairs)


def html_of(markdown: str, pictures: dict[str, bytes], pieces: str) -> str:
    """The interactive page: the static one in a frame, with its pictures and the interactive pieces inside."""
    markdown = re.sub(r"\s+in\s+the\s+\[interactive\s+page\]\(lecture\.html\)", " below", markdown)
    for name, png in pictures.items():
        data = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        markdown = markdown.replace(f"]({IMAGES}/{name}.png)", f"]({data})")
    reader = MarkdownIt("commonmark", {"html": True, "highlight": _coloured})
    reader.validateLink = lambda url: True  # type: ignore[method-assign]  # it refuses long pictures
    tokens = reader.parse(markdown)
    contents = []
    for position, token in enumerate(tokens):
        if token.type == "heading_open" and token.tag == "h2":
            title = tokens[position + 1].content
            identity = re.sub(r"\W+", "-", title.lower()).strip("-")
            token.attrSet("id", identity)
            contents.append(f'<li><a href="#{identity}">{html.escape(title)}</a></li>')
    frame = (ROOT / "examples" / "lecture_frame.html").read_text(encoding="utf-8")
    parts = {
        "STYLE": HtmlFormatter(style="xcode").get_style_defs("pre"),
        "CONTENTS": "\n".join(contents),
        "BODY": reader.renderer.render(tokens, reader.options, {}),
        "PIECES": pieces,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], frame)


def _coloured(code: str, language: str, _: str) -> str:
    if language != "python":
        return f'<pre class="output">{html.escape(code)}</pre>'
    return f"<pre>{highlight(code, PythonLexer(), HtmlFormatter(nowrap=True))}</pre>"


def main() -> int:
    """Run the lecture, and write or compare its pages; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare and write nothing")
    check = parser.parse_args().check
    cells = cells_of(LECTURE.read_text(encoding="utf-8"))
    pictures = run(cells, LECTURE)
    markdown = markdown_of(cells)
    if check:
        found = checked(markdown, pictures, lecture_pieces.pieces())
        if found:
            print(f"{found[0]} ({len(found)} differences); run python examples/render_lecture.py")
        return 1 if found else 0
    (DOCS / IMAGES).mkdir(parents=True, exist_ok=True)
    for path in (DOCS / IMAGES).glob("*.png"):
        if path.stem not in pictures:
            path.unlink()
    for name, png in pictures.items():
        (DOCS / IMAGES / f"{name}.png").write_bytes(png)
    (DOCS / MARKDOWN).write_text(markdown, encoding="utf-8")
    (DOCS / PAGE).write_text(html_of(markdown, pictures, lecture_pieces.pieces()), encoding="utf-8")
    return 0


def checked(markdown: str, pictures: dict[str, bytes], pieces: str) -> list[str]:
    """What of the committed pages is not what the program gives, a line each."""
    committed = {path.stem: path.read_bytes() for path in (DOCS / IMAGES).glob("*.png")}
    old = (DOCS / MARKDOWN).read_text(encoding="utf-8")
    found = [f"docs/{MARKDOWN}: {line}" for line in differences(old, markdown)]
    found += [f"docs/{IMAGES}/{name}.png: missing or left over" for name in sorted(committed.keys() ^ pictures.keys())]
    if (DOCS / PAGE).read_text(encoding="utf-8") != html_of(old, committed, pieces):
        found.append(f"docs/{PAGE}: not what docs/{MARKDOWN} and its pictures make")
    return found


if __name__ == "__main__":
    sys.exit(main())
