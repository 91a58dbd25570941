"""Build the manual as a site: `sphinx-build -W docs docs/_build`, with the extra `docs`.

The pages are the Markdown that a reader of the repository sees, so nothing in them is Sphinx's. What a site needs
beside them is made here: the order of the pages from the map in `index.md`, and links out of this folder.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

project = "cnn-zoo"
html_title = "cnn-zoo"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_static_path = ["_static"]
html_js_files = ["sort.js"]
html_css_files = ["tables.css"]
html_show_sphinx = html_show_copyright = False
default_role = "literal"  # single backticks in docstrings
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar = True  # a named tuple describes its fields once
myst_heading_anchors = 3
copybutton_exclude = ".linenos, .gp, .go"

PLAYABLE = "lecture.html"  # one file with everything in it; Sphinx makes a page of this name from `lecture.md`
PLAYABLE_HERE = "lecture_to_play_with.html"
FILES = "files"  # folder of the site for the repository's files that pages link to

_linked: set[str] = set()


def _order(app: Sphinx, docname: str, source: list[str]) -> None:
    """Give the first page the order of all others, which is the order of its table."""
    if docname == "index":
        pages = dict.fromkeys(re.findall(r"\]\((\w[\w-]*)\.md\)", source[0]))
        names = "\n".join([*pages, "api"])
        source[0] += f"\n```{{toctree}}\n:hidden:\n\n{names}\n```\n"


def _links(app: Sphinx, docname: str, source: list[str]) -> None:
    """Turn links out of this folder into links to copies; a folder's become its name."""

    def outside(match: re.Match[str]) -> str:
        text, path = match.groups()
        if (ROOT / path).is_dir():
            return text if "`" in text else f"`{path}`"
        _linked.add(path)
        return f'<a href="{FILES}/{path}">{text.strip("`")}</a>'

    source[0] = re.sub(r"(?<!!)\[([^\]]+)\]\(\.\./([^)\s]+)\)", outside, source[0])
    source[0] = re.sub(r"\[([^\]]+)\]\(" + re.escape(PLAYABLE) + r"\)", rf'<a href="{PLAYABLE_HERE}">\1</a>', source[0])


def _as_written(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Show what stands at the top of a file, with its tables and programs, as it is written there."""
    if what == "module" and "" in lines[:-1]:
        lines[:] = [lines[0], "", ".. code-block:: text", "", *(f"   {line}" for line in lines[2:])]


def _copy(app: Sphinx, exception: Exception | None) -> None:
    """Copy the files that pages link to, and the lecture to play with, into the site."""
    if exception is not None:
        return
    lecture = (ROOT / "docs" / PLAYABLE).read_text(encoding="utf-8")
    lecture = re.sub(r'href="([\w-]+)\.md', r'href="\1.html', lecture)
    lecture = lecture.replace('href="../models"', 'href="api.html#the-networks"')
    (Path(app.outdir) / PLAYABLE_HERE).write_text(lecture, encoding="utf-8")
    for path in sorted(_linked):
        target = Path(app.outdir) / FILES / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, target)


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("source-read", _order)
    app.connect("source-read", _links)
    app.connect("autodoc-process-docstring", _as_written)
    app.connect("build-finished", _copy)
