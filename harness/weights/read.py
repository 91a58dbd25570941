"""Read tensors from a file, in our formats and in those of other programs, without running code in the file."""

from __future__ import annotations

import argparse
import codecs
import datetime
import functools
import json
import pathlib
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.config.weights import beside
from harness.errors import UserError
from harness.run.checkpoint import KEY, Trained, checkpoint_from, read_content, trained_from
from harness.run.files import sha256_of_file
from harness.weights.values import check_kinds

AVERAGED = ("model_ema", "state_dict_ema", "ema")  # averages over training steps; publishers report errors of these
NESTED = ("state_dict", "model_state_dict", "model")
DEEPEST = 3  # most nested dictionaries; a damaged file can hold one that holds itself
PREFIXES = ("module.", "model.", "_orig_mod.", "network.")
COUNTERS = ("n_averaged", "total_ops", "total_params")  # torch's averaging counts with the first, thop with the others
ARRAYS = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")  # of NumPy's, as torch
HEAD = 512  # bytes that tell what kind a file is of


@dataclass(frozen=True)
class Tensors:
    """Content of a file of weights.

    Attributes:
        tensors: tensors by key, without the prefixes of wrappers.
        part: keys of the dictionaries that held the tensors, such as `model_ema`; empty for the whole file.
        trained: description by our checkpoint or by tools/export.py; None for files of other programs.
        ignored: names of entries beside the tensors that are none of a network's, such as `acc`.
    """

    tensors: dict[str, torch.Tensor]
    part: str
    trained: Trained | None
    ignored: tuple[str, ...] = ()


def read_tensors(path: Path) -> Tensors:
    """Read a file of weights to the CPU; if it holds averaged and plain weights, take the averaged ones.

    Raises:
        UserError: the file is missing or damaged, holds code, or holds no weights, or some that are sparse, quantised,
            complex or without values.
    """
    content = _read(path)
    check_kinds(content.tensors, path)
    return content


def _read(path: Path) -> Tensors:
    other = _no_weights(path)
    if other is not None:
        raise UserError(f"{path}: {other}")
    if path.suffix == ".safetensors":
        return _safetensors(path)
    with torch.serialization.safe_globals(_plain_types()):
        content = read_content(path)
    if isinstance(content, dict) and KEY in content:
        checkpoint = checkpoint_from(content, path)
        return Tensors(checkpoint.state_dict, "", checkpoint.trained)
    under: list[str] = []
    while not _is_state_dict(content):
        key = next((key for key in (*AVERAGED, *NESTED) if _holds(content, key)), None) or _fullest(content)
        if key is None or len(under) == DEEPEST:
            break
        under.append(key)
        content = content[key]
    tensors = dict(_tensors(content))
    if not tensors:
        known = ", ".join((*NESTED, *AVERAGED))
        raise UserError(f"{path}: holds no weights: neither tensors nor a dictionary of them under {known}")
    bare, counters = _unwrapped(tensors)
    ignored = (*(key for key in map(str, content) if key not in tensors), *counters)
    return Tensors(bare, ".".join(under), _said_beside(path), ignored)


def _no_weights(path: Path) -> str | None:
    """Say what a file is and what to do, if it is none of the kinds that hold weights; None if it may be."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
        names = zipfile.ZipFile(path).namelist() if head.startswith(b"PK") else []
    except (OSError, zipfile.BadZipFile):
        return None  # reading it will tell
    if head.lstrip()[:1] == b"<" and (b"<html" in head.lower() or b"<!doctype" in head.lower()):
        return "an HTML page in place of weights: its address needs a login, or is that of a page about the file"
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS in place of the file: git lfs pull fetches it"
    if path.suffix == ".onnx" or (head[:1] == b"\x08" and head[2:3] == b"\x12"):
        return "an ONNX file, which onnxruntime runs: name the run or the checkpoint that it was exported from"
    if any(name.endswith("/constants.pkl") for name in names):
        return "a TorchScript file, which is a program: save its state_dict() with torch.save, and name that file"
    return None


@functools.lru_cache(maxsize=1)
def _plain_types() -> list[Any]:
    """Types of plain values that people save beside tensors; none of them runs code when it is made."""
    made_by = {
        "scalar": np.float64(0),
        "_reconstruct": np.zeros(1),
    }  # what a pickle of NumPy calls, and a value that does
    arrays = [
        (value.__reduce__()[0], f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")  # before NumPy 2, and since
        for name, value in made_by.items()
    ]
    return [
        argparse.Namespace,  # torchvision's checkpoints hold one
        *(np.dtype, np.ndarray, *(getattr(np.dtypes, name) for name in np.dtypes.__all__), *arrays),
        (codecs.encode, "_codecs.encode"),  # of the bytes of an array
        *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone),
        *(pathlib.PosixPath, pathlib.PurePosixPath, pathlib.PureWindowsPath),
        (pathlib.PureWindowsPath, "pathlib.WindowsPath"),  # which no other system can make
        *(Counter, OrderedDict, (_plain_dict, "collections.defaultdict")),
        *(list, dict, set, tuple, int, float, str),
    ]


def _plain_dict(*_: Any) -> dict[Any, Any]:
    return {}  # torch fills no other kind


def _fullest(content: Any) -> str | None:
    """The key of the dictionary in this one that has the most tensors, if it has more than this one itself."""
    if not isinstance(content, dict):
        return None
    own = sum(1 for _ in _tensors(content))
    known: dict[tuple[int, int], int] = {}
    held = {key: _held(value, DEEPEST, known) for key, value in content.items() if isinstance(key, str)}
    key = max(held, key=lambda key: held[key], default=None)
    return key if key is not None and held[key] > own else None


def _held(content: Any, deeper: int, known: dict[tuple[int, int], int]) -> int:
    """The number of tensors of the fullest dictionary in or under this one; each is counted once, and then known."""
    if not isinstance(content, dict):
        return 0
    place = (id(content), deeper)
    if place not in known:
        inside = [_held(value, deeper - 1, known) for value in content.values()] if deeper else []
        known[place] = max([sum(1 for _ in _tensors(content)), *inside])
    return known[place]


def _tensors(content: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors that a dictionary has by name; arrays of NumPy's are such, too."""
    for key, value in content.items() if isinstance(content, dict) else ():
        if isinstance(key, str) and isinstance(value, torch.Tensor):
            yield key, value
        elif isinstance(key, str) and isinstance(value, np.ndarray) and value.dtype.name in ARRAYS:
            yield key, torch.from_numpy(np.array(value, value.dtype.newbyteorder("=")))


def _said_beside(path: Path) -> Trained | None:
    """Read what `tools/export.py` wrote beside a file; return None without it, or if it describes another file."""
    try:
        described = json.loads(beside(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    ours = isinstance(described, dict) and described.get("sha256") == sha256_of_file(path)
    return trained_from(described, beside(path)) if ours else None


def _safetensors(path: Path) -> Tensors:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # it is no dictionary
            described = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged or not a file of safetensors ({type(error).__name__})") from error
    if described is None:
        bare, counters = _unwrapped(tensors)
        return Tensors(bare, "", None, counters)
    try:
        content = json.loads(described)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: its description of the network is damaged ({type(error).__name__})") from error
    return Tensors(tensors, "", trained_from(content, path))


def _holds(content: Any, key: str) -> bool:
    return isinstance(content, dict) and isinstance(content.get(key), dict)


def _is_state_dict(content: Any) -> bool:
    if not isinstance(content, dict) or not content:
        return False
    return all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items())


def _unwrapped(tensors: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Return the tensors without the prefixes of wrappers, and the names of what other programs counted beside them."""
    counters = tuple(key for key in tensors if key.rpartition(".")[2] in COUNTERS)
    bare = {key.replace(".module.", "."): value for key, value in tensors.items() if key not in counters}
    while prefix := next((p for p in PREFIXES if bare and all(key.startswith(p) for key in bare)), ""):
        bare = {key.removeprefix(prefix): value for key, value in bare.items()}
    return bare, counters
