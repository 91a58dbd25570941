"""The tests themselves: every planted fault is caught by one."""

from __future__ import annotations

import ast

import pytest
from conftest import ROOT, run_script
from faults import FAULTS, Fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_a_fault_can_be_planted_and_its_tests_are_there(fault: Fault) -> None:
    text = (ROOT / fault.file).read_text(encoding="utf-8")
    assert text.count(fault.old) == 1, "mend the table in tests/faults.py"
    if fault.file.endswith(".py"):
        ast.parse(text.replace(fault.old, fault.new))
    for name in fault.tests.split():
        file, _, test = name.partition("::")
        assert f"def {test}" in (ROOT / "tests" / file).read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_fault_is_caught() -> None:
    done = run_script("tests/plant_faults.py", timeout=3600)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, "\n".join(line for line in lines if ": caught by " not in line) + done.stderr
    assert len(lines) == len(FAULTS) + 1 and lines[-1] == f"{len(FAULTS)} of {len(FAULTS)} faults caught"
