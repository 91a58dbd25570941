"""SHA-256 of many files, kept between runs: only those are read that are new or have changed.

The user's cache keeps the digests of a folder's files with their names, sizes and times of change: that of the content,
which programs can set, and that of the file, which they cannot.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.data.images.decode import read
from harness.data.images.folder import SETTLED, Facts, cache_file, checksum_of
from harness.data.images.opening import UnreadableError
from harness.data.images.pieces import Piece
from harness.run.files import atomic
from harness.run.machine import available_cores

DIGESTS_VERSION = 2
MOST_THREADS = 4  # they read beside a run that trains
SHARE = 256  # files that are handed out at once

Digests = npt.NDArray[np.uint8]


def digests_of(
    root: Path,
    names: Sequence[bytes],
    facts: Facts,
    *,
    keep: bool,
    stopped: Callable[[], bool] = lambda: False,
    pieces: Sequence[Piece] | None = None,
) -> list[str | None]:
    """SHA-256 of each file in hexadecimal digits; None for one that cannot be read.

    Args:
        root: the folder that they lie in; absolute, where a thread reads while the working folder may change.
        names: paths relative to it.
        facts: of the files, as `ask_for_facts` gives them.
        keep: whether the cache keeps these digests, in place of those that it has of the folder.
        stopped: tells whether to stop; what was read by then is kept, and the digest of what was not is empty.
        pieces: the parts of larger files that are meant; None for files under `root`, by their names.
    """
    keys = _keys(names, facts)
    digests, known = _kept(root, keys)
    unreadable: set[int] = set()
    started = time.time_ns()
    unknown = np.flatnonzero(~known)
    shares = [unknown[first : first + SHARE] for first in range(0, len(unknown), SHARE)]

    def read_share(share: npt.NDArray[np.int64]) -> None:
        for index in share.tolist():
            if stopped():
                return
            path = os.path.join(os.fsencode(root), names[index])  # noqa: PTH118  # bytes
            try:
                content = read(path if pieces is None else pieces[index])
                digests[index] = np.frombuffer(hashlib.sha256(content).digest(), dtype=np.uint8)
                known[index] = True
            except UnreadableError:
                unreadable.add(index)

    with ThreadPoolExecutor(min(MOST_THREADS, available_cores())) as threads:
        for _ in threads.map(read_share, shares):
            pass
    if keep and len(unknown):
        settled = known & (facts[:, 1:].max(axis=1, initial=0) < started - SETTLED)
        _keep(root, keys[settled], digests[settled])
    digits = digests.tobytes().hex()
    return [
        digits[64 * index : 64 * (index + 1)] if known[index] else None if index in unreadable else ""
        for index in range(len(names))
    ]


def _keys(names: Sequence[bytes], facts: Facts) -> npt.NDArray[np.bytes_]:
    """What a file is known by, (N,): 16 bytes of a hash of its name and facts."""
    rows = zip(names, facts.tolist(), strict=True)
    keys = b"".join(hashlib.blake2b(b"%d %d %d %s" % (*fact, name), digest_size=16).digest() for name, fact in rows)
    return np.frombuffer(keys, dtype="S16")


def _kept(root: Path, keys: npt.NDArray[np.bytes_]) -> tuple[Digests, npt.NDArray[np.bool_]]:
    """Digests of these files, and of which of them the cache knows one."""
    digests, known = np.zeros((len(keys), 32), dtype=np.uint8), np.zeros(len(keys), dtype=np.bool_)
    try:
        with np.load(cache_file("digests", root), allow_pickle=False) as file:
            content: dict[str, npt.NDArray[Any]] = {key: file[key] for key in file.files}
            whole = str(content["checksum"]) == checksum_of(content)
            if whole and int(content["version"]) == DIGESTS_VERSION and len(content["keys"]):
                kept_keys, kept = content["keys"], content["digests"]
                at = kept_keys.searchsorted(keys).clip(max=len(kept_keys) - 1)
                known = kept_keys[at] == keys
                digests[known] = kept[at[known]]
    except Exception:  # a damaged file can fail in any way while it is parsed
        return np.zeros_like(digests), np.zeros(len(keys), dtype=np.bool_)
    return digests, known


def _keep(root: Path, keys: npt.NDArray[np.bytes_], digests: Digests) -> None:
    """Keep digests in order of their keys; a cache that cannot be written is done without."""
    order, path = np.argsort(keys), cache_file("digests", root)
    arrays: dict[str, Any] = {
        "version": np.array(DIGESTS_VERSION),
        "keys": keys[order],
        "digests": digests[order],
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as file:
            np.savez(file, **arrays, checksum=np.array(checksum_of(arrays)))
    except OSError:
        return
