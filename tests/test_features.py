"""docs/features.md: its programs run and print what stands below them."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
from conftest import ROOT

PROGRAMS = re.findall(
    r"```python\n(.*?)```\n\n```\n(.*?)```", (ROOT / "docs" / "features.md").read_text(encoding="utf-8"), re.DOTALL
)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_programs_print_what_stands_below_them(number: int, request: pytest.FixtureRequest) -> None:
    program, printed = (part for part in PROGRAMS[number])
    if ".th" in program:
        checkpoint: Path = request.getfixturevalue("akamasters_resnet20")
        program = program.replace(checkpoint.name, str(checkpoint))
    before = "".join(line for line in PROGRAMS[0][0].splitlines(keepends=True) if "import" in line)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(before + program, {})
    assert said.getvalue() == printed


def test_both_programs_were_found() -> None:
    assert len(PROGRAMS) == 2
