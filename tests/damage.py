"""Mutations of what files hold: values, text and bytes, drawn from a random generator that is given."""

from __future__ import annotations

import contextlib
import copy
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

NUMBERS = (
    *(0, 1, -1, 2, 255, 256, 2**31, 2**40, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 0.5, -0.0, 1e308, -1e-320),
    *(float("nan"), float("inf"), float("-inf")),
)
WORDS = (
    "",
    " ",
    "x",
    "null",
    "é\u0301",
    "\x00",
    "a\nb",
    "\u202e",
    "../../x",
    "/etc/x",
    "0",
    "1e999",
    "nan",
    "?" * 3000,
)
ODD: tuple[Any, ...] = (None, True, False, *NUMBERS, *WORDS, [], {}, [[]], [{}], {"a": 1}, {"": None}, [None] * 40)


class Canary:
    """Makes a folder when it is unpickled by a reader that trusts its file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __copy__(self) -> Canary:
        return self

    def __deepcopy__(self, known: object) -> Canary:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every list or dictionary inside with each of its keys."""
    found = []
    items = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, inside in items:
        found += [(value, key), *_places(inside)]
    return found


def values(draw: random.Random, value: Any, odd: Sequence[Any] = ODD) -> Any:
    """The value with one to four changes: something replaced, dropped, renamed, doubled or put elsewhere."""
    value = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        places = _places(value)
        if not places:
            return copy.copy(draw.choice(odd))
        shallow = [place for place in places if place[0] is value]
        holder, key = draw.choice(shallow if draw.random() < 0.25 and shallow else places)
        change = draw.choice(("replace", "replace", "replace", "replace", "drop", "rename", "double", "swap", "wrap"))
        if change == "replace":
            holder[key] = copy.copy(draw.choice(odd))
        elif change == "drop":
            del holder[key]
        elif change == "rename" and isinstance(holder, dict):
            holder[draw.choice(("version_3", "x", "", str(key) + "_"))] = holder.pop(key)
        elif change == "double" and isinstance(holder, list):
            holder.append(copy.copy(holder[key]))
        elif change == "swap":
            other, place = draw.choice(places)
            if place in (other if isinstance(other, dict) else range(len(other))):
                holder[key] = copy.deepcopy(other[place])
        else:
            holder[key] = [holder[key]] if draw.random() < 0.5 else {"a": holder[key]}
    return value


def raw(draw: random.Random, content: bytes, start: int = 0) -> bytes:
    """The bytes with one to eight changes behind `start`: bits, bytes, a piece cut out, doubled or blanked, the end."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        if len(changed) <= start + 1:
            break
        place = draw.randrange(start, len(changed))
        length = min(draw.choice((1, 2, 4, 8, 64)), len(changed) - place)
        change = draw.choice(("bit", "bit", "byte", "byte", "big", "cut", "double", "blank", "end"))
        if change == "bit":
            changed[place] ^= 1 << draw.randrange(8)
        elif change == "byte":
            changed[place] = draw.choice((0, 1, 127, 128, 255, draw.randrange(256)))
        elif change == "big":
            changed[place : place + length] = b"\xff" * length
        elif change == "cut":
            del changed[place : place + length]
        elif change == "double":
            changed[place:place] = changed[place : place + length]
        elif change == "blank":
            changed[place : place + length] = bytes(length)
        else:
            del changed[place + 1 :]
    return bytes(changed)


def text(draw: random.Random, content: str, pieces: Sequence[str]) -> bytes:
    """A text with its lines moved, doubled or dropped, or one of the pieces put in."""
    lines = content.splitlines(keepends=True)
    for _ in range(draw.choice((1, 1, 2, 3))):
        place = draw.randrange(len(lines)) if lines else 0
        change = draw.choice(("drop", "double", "move", "piece", "piece", "piece", "ending"))
        if not lines or change == "piece":
            line = lines[place] if lines else ""
            at = draw.randrange(len(line) + 1)
            lines[place : place + 1] = [line[:at] + draw.choice(pieces) + line[at:]]
        elif change == "drop":
            del lines[place]
        elif change == "double":
            lines.insert(place, lines[place])
        elif change == "move":
            lines.insert(draw.randrange(len(lines)), lines.pop(place))
        else:
            lines = [line.replace("\n", "\r\n") for line in lines]
    encoding = draw.choice(("utf-8",) * 8 + ("utf-8-sig", "utf-16", "latin-1"))
    return "".join(lines).encode(encoding, "replace")


def rows(draw: random.Random, table: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """A table with odd cells, and rows or columns that are dropped, doubled or cut short."""
    changed = [list(row) for row in table]
    for _ in range(draw.choice((1, 1, 2, 4))):
        if not changed:
            break
        row = changed[draw.randrange(len(changed))]
        change = draw.choice(("cell", "cell", "cell", "cell", "header", "drop", "double", "short", "long", "column"))
        if change in ("cell", "header"):
            row = changed[0] if change == "header" else row
            if row:
                row[draw.randrange(len(row))] = draw.choice(ODD)
        elif change == "drop":
            changed.remove(row)
        elif change == "double":
            changed.append(list(row))
        elif change == "short":
            del row[draw.randrange(len(row) + 1) :]
        elif change == "long":
            row += [draw.choice(ODD)] * 3
        elif row:
            place = draw.randrange(len(row))
            changed = [[cell for at, cell in enumerate(line) if at != place] for line in changed]
    return changed


TENSORS: dict[str, Callable[[torch.Tensor], Any]] = {
    "sparse": lambda t: t.to_sparse(),
    "sparse in rows": lambda t: t.flatten(1).to_sparse_csr() if t.ndim > 1 else t.to_sparse(),
    "quantised": lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8),
    "meta": lambda t: t.to("meta"),
    "int8": lambda t: t.to(torch.int8),
    "uint8": lambda t: t.to(torch.uint8),
    "bool": lambda t: t > 0,
    "complex": lambda t: t.to(torch.complex64),
    "float8": lambda t: t.to(torch.float8_e4m3fn),
    "double": lambda t: t.double(),
    "bfloat16": lambda t: t.bfloat16(),
    "NaN": lambda t: t * torch.nan,
    "infinite": lambda t: t + torch.inf,
    "huge": lambda t: t.double() + 1e300,
    "one more axis": lambda t: t[None],
    "flat": lambda t: t.flatten(),
    "scalar": lambda t: t.sum(),
    "empty": lambda t: t[:0],
    "transposed": lambda t: t.T if t.ndim == 2 else t,
    "expanded": lambda t: t.flatten()[:1].expand(t.shape),
    "parameter": lambda t: torch.nn.Parameter(t.clone()) if t.is_floating_point() else t,
    "array": lambda t: t.numpy(),
    "array of texts": lambda t: np.array(["a", "b"]),
}


def tensors(draw: random.Random, state: dict[str, Any]) -> dict[str, Any]:
    """A state_dict in which some tensors are of another kind or key, or gone."""
    state = dict(state)
    for _ in range(draw.choice((1, 1, 2, 4))):
        key = draw.choice(list(state)) if state else "x"
        change = draw.choice(("kind", "kind", "kind", "kind", "drop", "rename", "other", "number"))
        if change == "kind" and isinstance(state.get(key), torch.Tensor):
            with contextlib.suppress(NotImplementedError, RuntimeError, TypeError):  # of one that is odd already
                state[key] = TENSORS[draw.choice(list(TENSORS))](state[key].detach())
        elif change == "drop":
            state.pop(key, None)
        elif change == "rename":
            state[draw.choice(("x.weight", "", ".", "a.b.c", f"{key}_2", f"module.{key}"))] = state.pop(key, 0)
        elif change == "other":
            state[key] = draw.choice(ODD)
        else:
            state[draw.choice(NUMBERS)] = state.get(key)  # type: ignore[index]  # a key that is no name
    return state
