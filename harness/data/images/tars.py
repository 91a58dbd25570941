"""What lies in a tar of WebDataset: its pictures, where their bytes are, and their labels. Nothing is unpacked.

A sample is all members whose names are equal up to the first dot behind the last slash, its key: `a/7.jpg` is a
picture, `a/7.cls` its label, a number or a name, and so is the field `label` or `cls` of `a/7.json`. They lie in any
order. Everything that could lose a picture, count one twice or point elsewhere is an error.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from harness.data.images.folder import EXTENSIONS, printable
from harness.errors import UserError

BLOCK = 512
MOST_LABEL = 2**20  # bytes of a .cls or .json
LABEL_FIELDS = ("label", "cls")  # of a .json
Place = tuple[int, int]  # first byte, number of bytes


class Sample(NamedTuple):
    """A picture in a tar.

    Attributes:
        name: of its member.
        label: as it is written there.
        start: first byte of the picture.
        size: number of bytes.
    """

    name: bytes
    label: str
    start: int
    size: int


@dataclass
class _Found:
    """Members of one key."""

    picture: tuple[bytes, Place] | None = None
    label: Place | None = None
    facts: Place | None = None
    other: bytes = b""


@dataclass
class Tar:
    """The samples of a tar, in the order of their pictures.

    Attributes:
        samples: those with a picture.
        others: name of the first member of the first sample without a picture; empty if there is none.
        passed: number of samples without a picture.
    """

    samples: list[Sample] = field(default_factory=list)
    others: bytes = b""
    passed: int = 0


def scan(path: Path, seen: Callable[[int], None] = lambda _: None) -> Tar:
    """Read the headers of a tar and the labels in it.

    Args:
        path: of the tar.
        seen: is told now and then how many bytes have been passed since it was last told.

    Raises:
        UserError: what is wrong with the tar: damaged, cut off, compressed; a link, a name that leads elsewhere, two
            pictures of one key, a picture without a label.
    """
    try:
        with path.open("rb") as file:
            return _samples(path, file, _members(path, file, seen))
    except UserError:
        raise
    except Exception as error:  # a damaged file can fail in any way while it is parsed
        why = " ".join(f"{error}".split()) or type(error).__name__
        raise UserError(f"{path}: not a tar that can be read ({why}); fetch or pack it again") from error


def _members(path: Path, file: IO[bytes], seen: Callable[[int], None]) -> dict[bytes, _Found]:
    """Members by key."""
    size, told, found = os.fstat(file.fileno()).st_size, 0, dict[bytes, _Found]()
    if file.peek(6)[:6].startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"(\xb5/\xfd")):  # type: ignore[attr-defined]
        raise UserError(f"{path}: a compressed tar, in which no picture can be found without reading all: unpack it")
    with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
            if member.offset_data + member.size > size:
                raise UserError(f"{path}: cut off in {_shown(member)}; fetch or pack it again")
            if not member.isdir():
                _add(path, member, found)
            if member.offset - told > 2**24:
                seen(member.offset - told)
                told = member.offset
        _check_end(path, file, tar.offset)
    seen(size - told)
    return found


def _check_end(path: Path, file: IO[bytes], end: int) -> None:
    """A tar ends in blocks of zeros; tarfile takes a damaged header for the end as well."""
    file.seek(end)
    marked = file.read(BLOCK)
    if len(marked) < BLOCK or any(marked):
        raise UserError(f"{path}: cut off, or damaged at byte {end:,}; fetch or pack it again")
    while more := file.read(2**20):
        if any(more):
            raise UserError(f"{path}: goes on behind its end, at byte {end:,}: two tars in one file? Keep them apart")


def _add(path: Path, member: tarfile.TarInfo, found: dict[bytes, _Found]) -> None:
    name = member.name.encode("utf-8", "surrogateescape")
    if member.issym() or member.islnk():
        raise UserError(f"{path}: {_shown(member)} is a link; a tar of pictures must hold the files themselves")
    if not member.isreg() or member.sparse is not None:
        raise UserError(f"{path}: {_shown(member)} is no plain file; a tar of pictures must hold nothing else")
    if name.startswith(b"/") or b".." in name.split(b"/"):
        raise UserError(f"{path}: {_shown(member)} leads out of the tar; such a tar is not to be trusted")
    folder, slash, base = name.rpartition(b"/")
    stem, _, ending = base.partition(b".")
    if not stem or not ending:
        return  # hidden, or of no sample
    sample, place = found.setdefault(folder + slash + stem, _Found()), (member.offset_data, member.size)
    kind = b"." + ending.rpartition(b".")[2].lower()
    if os.fsdecode(kind) in EXTENSIONS:
        if sample.picture is not None:
            raise UserError(
                f"{path}: two pictures of one key: {printable(sample.picture[0])} and {printable(name)}; a name up to "
                "its first dot must be one picture's alone"
            )
        sample.picture = name, place
    elif kind == b".cls":
        sample.label = place
    elif kind == b".json":
        sample.facts = place
    sample.other = sample.other or name


def _samples(path: Path, file: IO[bytes], found: dict[bytes, _Found]) -> Tar:
    tar = Tar()
    for sample in found.values():
        if sample.picture is None:
            tar.passed += 1
            tar.others = tar.others or sample.other
            continue
        name, (start, size) = sample.picture
        tar.samples.append(Sample(name, _label(path, file, name, sample), start, size))
    tar.samples.sort(key=lambda sample: sample.start)
    return tar


def _label(path: Path, file: IO[bytes], name: bytes, sample: _Found) -> str:
    """The label as it is written: a whole number without zeros before it, or a name."""
    where = f"{path}: {printable(name)}"
    place = sample.label or sample.facts
    if place is None:
        raise UserError(f"{where} has no label: a member .cls, or .json with a field label, should lie beside it")
    start, size = place
    text = os.pread(file.fileno(), min(size, MOST_LABEL), start).decode("utf-8", "surrogateescape").strip()
    if sample.label is None:
        try:
            facts = json.loads(text)
        except ValueError as error:
            raise UserError(f"{where}: its .json cannot be read ({error})") from error
        known = facts if isinstance(facts, dict) else {}
        value = next((known[key] for key in LABEL_FIELDS if key in known), None)
        if type(value) not in (int, str):
            raise UserError(
                f"{where}: its .json has no number or name as {' or '.join(LABEL_FIELDS)}, among "
                f"{', '.join(map(str, known)) or 'nothing'}"
            )
        text = str(value).strip()
    if not text or not text.isprintable():
        raise UserError(f"{where}: its label is empty, or no number and no name")
    return str(int(text)) if text.isdecimal() else text


def _shown(member: tarfile.TarInfo) -> str:
    return printable(member.name.encode("utf-8", "surrogateescape"))
