"""NumPy arrays and a few facts in one file. Reading maps it into memory: all processes share one copy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

MARK = b"cnn-zoo arrays 1\n"
ALIGNED = 64  # bytes

Array = npt.NDArray[Any]


class Mapped(NamedTuple):
    """The content of such a file.

    Attributes:
        facts: plain values.
        arrays: by name; they cannot be written to.
    """

    facts: dict[str, Any]
    arrays: dict[str, Array]


def write_arrays(file: IO[bytes], facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write facts that JSON can hold, and arrays, into an empty file."""
    layout, start = {}, 0
    for name, array in arrays.items():
        layout[name] = [array.dtype.str, array.shape, start]
        start += _aligned(array.nbytes)
    header = json.dumps({"facts": facts, "arrays": layout}).encode() + b"\n"
    digest = hashlib.sha256(header)
    for array in arrays.values():
        digest.update(np.ascontiguousarray(array).data)
    head = MARK + header + digest.hexdigest().encode() + b"\n"
    file.write(head.ljust(_aligned(len(head)), b"\0"))
    for array in arrays.values():
        file.write(np.ascontiguousarray(array).tobytes().ljust(_aligned(array.nbytes), b"\0"))


def read_arrays(path: Path) -> Mapped | None:
    """Map such a file; None if there is none, or it is damaged."""
    try:
        with path.open("rb") as file:
            if file.readline() != MARK:
                return None
            line, expected = file.readline(), file.readline()
            begin = _aligned(file.tell())
        header, digest, arrays = json.loads(line), hashlib.sha256(line), {}
        whole = np.memmap(path, mode="r", dtype=np.uint8)
        for name, (kind, shape, start) in header["arrays"].items():
            dtype = np.dtype(kind)
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            arrays[name] = np.asarray(whole[begin + start : begin + start + size]).view(dtype).reshape(shape)
            digest.update(arrays[name].data)
        return Mapped(header["facts"], arrays) if digest.hexdigest().encode() + b"\n" == expected else None
    except Exception:  # a damaged file can fail in any way while it is parsed
        return None


def _aligned(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED
