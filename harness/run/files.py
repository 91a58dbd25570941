"""Write files and folders so that nothing is lost: a killed process leaves the old file or the new one."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from harness.errors import UserError

RESULT_FILE = "result.json"  # the record of a run, written last: a run that has one is finished
PARTIAL = ".partial"  # ends the name of a file that is being written
FOLDERS_VARIABLE = "CNN_ZOO_FOLDERS"  # environment variable: the file in which the job of a sweep lists its folders
CHOOSING_VARIABLE = (
    "CNN_ZOO_CHOOSING"  # environment variable: set where a choice will be made among this and other runs
)


@contextmanager
def atomic(path: Path, keep: Path | None = None) -> Iterator[IO[bytes]]:
    """Open a file for writing that replaces `path` only once everything is on the disk.

    Args:
        path: path of the file.
        keep: new name for an older file at `path`, which is otherwise replaced.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            path.replace(keep)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8."""
    with atomic(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a dictionary of plain values as JSON, one key a line."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote; raises `UserError` for a damaged file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged, not JSON that can be read ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: damaged, not a record of keys and values")
    return content


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a table of text with a line of names of columns, and at least these in each row.

    Raises:
        UserError: the file is damaged or lacks a column.
        OSError: the file cannot be read.
    """
    header, *lines = read_rows(path) or [[]]
    rows = [dict(zip(header, line, strict=False)) for line in lines if line]
    for number, row in enumerate(rows, 1):
        lacking = next((column for column in columns if column not in row), None)
        if lacking is not None:
            raise UserError(f"{path}: damaged: row {number} has no {lacking}")
    return rows


def read_rows(path: Path) -> list[list[str]]:
    """Read a table of text as it is; raises as `read_table` does."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.reader(file))
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}: damaged, not a table that can be read ({error})") from error


def csv_text(columns: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as text: a line with the names of the columns, then one line for each row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits; the file is read piece by piece."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def new_folder(wanted: Path) -> Path:
    """Make a new folder: `wanted`, or `wanted_2`, `wanted_3`, ... if it exists."""
    wanted.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def announce(folder: Path) -> None:
    """Tell the sweep that started this process which folder it writes to; without a sweep do nothing."""
    if FOLDERS_VARIABLE in os.environ:
        with Path(os.environ[FOLDERS_VARIABLE]).open("a", encoding="ascii") as file:
            file.write(json.dumps(str(folder)) + "\n")


def announced(file: Path) -> list[str]:
    """Return the folders that the jobs of a sweep announced in a file, each once."""
    lines = file.read_text(encoding="ascii").splitlines() if file.exists() else []
    return list(dict.fromkeys(json.loads(line) for line in lines))
