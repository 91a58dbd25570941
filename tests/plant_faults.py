"""Plants the faults of `faults.py`, one at a time, and shows that tests catch each: `python tests/plant_faults.py`.

A fault is planted in a copy of the working tree, where the tests that should catch it are run; they must pass without
it and fail with it. One that cannot be planted, or breaks the program so that any test would notice, is a mistake in
the table.

`python tests/plant_faults.py WORD` plants those alone whose description or file holds the word.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from faults import FAULTS, Fault

os.environ |= {
    "OMP_NUM_THREADS": "1",
    "COLUMNS": "1000",
}  # before torch is loaded; the whole line of a test that failed
sys.dont_write_bytecode = True  # what is compiled of a fault could outlive it
if __name__ == "__main__":  # and not in a worker of a test
    sys.path.pop(0)  # the tests of this tree; those of the copy are wanted

import hydra  # noqa: E402, F401  # loaded once, for every copy of this process
import lightning  # noqa: E402, F401
import pytest  # noqa: E402
import scipy.stats  # noqa: E402, F401
import torchvision  # noqa: E402, F401

ROOT = Path(__file__).parent.parent
LONGEST = 300  # seconds of tests, which a fault may make go on for ever
SHOWN = 100  # letters of what a test says
FAILED = 1  # pytest's exit code when tests ran and failed
BROKEN = ("NameError", "SyntaxError", "IndentationError", "ImportError", "ModuleNotFoundError", "UnboundLocalError")


def copy_of_the_tree(place: Path) -> None:
    """The files that git knows, and those that it does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, place / name)


def run_tests(tree: Path, names: Sequence[str]) -> tuple[int, str]:
    """Run tests of a tree in a process of their own: pytest's exit code, and what it printed.

    It is a copy of this process, which has loaded torch and the like, but nothing of the project.
    """
    options = ["-n", "0", "-x", "-q", "-rfE", "--tb=line", "-p", "no:cacheprovider"]
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if child == 0:
            code = 70  # whatever happens, the copy must not go on as this process does
            signal.alarm(LONGEST)
            try:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                os.chdir(tree)
                code = int(pytest.main([*options, *(f"tests/{name}" for name in names)]))
                sys.stdout.flush()
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        return code, output.read()


def plant(tree: Path, fault: Fault) -> str:
    """Plant a fault, run its tests, and take it out again: how that ended."""
    file = tree / fault.file
    text = file.read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        return f"NOT PLANTED: its text stands {text.count(fault.old)} times in {fault.file}"
    file.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    try:
        code, output = run_tests(tree, fault.tests.split())
    finally:
        file.write_text(text, encoding="utf-8")
    if code == 0:
        return "SURVIVED"
    failed = re.search(r"^FAILED tests/(.*?)( - .*)?$", output, re.MULTILINE)
    if code != FAILED or failed is None or any(error in (failed[2] or "") for error in BROKEN):
        return f"BROKEN: {' '.join(output.splitlines()[-3:])}"
    return f"caught by {failed[1]}{(failed[2] or '')[:SHOWN]}"


def plant_all(faults: Sequence[Fault]) -> Iterator[tuple[Fault, str]]:
    """Each fault and how it ended; before them, all tests without any.

    Raises:
        RuntimeError: a test fails without a fault.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copy_of_the_tree(tree)
        code, output = run_tests(tree, sorted({name for fault in faults for name in fault.tests.split()}))
        if code != 0:
            raise RuntimeError(f"the tests fail without a fault:\n{output}")
        for fault in faults:
            yield fault, plant(tree, fault)


def main() -> int:
    """Plant those that the command line chooses, or all; 1 if one was not caught."""
    word = " ".join(sys.argv[1:])
    chosen = [fault for fault in FAULTS if word in fault.what or word in fault.file]
    if not chosen:
        print(f"no fault holds the word {word}")
        return 1
    missed = 0
    for fault, ended in plant_all(chosen):
        missed += not ended.startswith("caught")
        print(f"{fault.what} ({fault.file}): {ended}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} faults caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
