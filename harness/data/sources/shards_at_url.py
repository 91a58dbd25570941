"""The tars of `data=shards` at a URL: which they are, and fetched once into the user's cache, where they are a folder.

`data.root` is a folder, `https://host/shards/`, whose `shards.json` names the tars, or which fsspec can list; or it is
a pattern, `https://host/train-{0000..1023}.tar`, as users of WebDataset write it. Every start looks once whether
something has changed. Without a network the copy is used as it is.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.data.images.folder import cache_folder
from harness.errors import UserError
from harness.run.bar import counted
from harness.run.files import atomic, read_json, write_json
from harness.run.log import log
from harness.run.remote import SHA256, ChangedError, Remote, RemoteError, Version, bytes_missing, is_whole, unwritten

FACTS_FILE = "shards.json"
THREADS = 4  # that fetch at the same time
MOST_TARS = 100_000  # of a pattern
NAME = re.compile(r"(?:[^\W.][\w.,=+@~ -]*/)*[^\W.][\w.,=+@~ -]*\.tar")  # nothing hidden, nothing that leads elsewhere
BRACES = re.compile(r"\{([^{}]*)\}")


@dataclass
class Tars:
    """The tars at a URL.

    Attributes:
        url: as the user wrote it.
        folder: of their copies, and of a copy of `shards.json`.
        remote: their folder there.
        fetching: whether they may be fetched.
        files: version of each, by its path in that folder.
    """

    url: str
    folder: Path
    remote: Remote
    fetching: bool
    files: dict[str, Version]

    def fetched(self, names: Sequence[str]) -> list[Path]:
        """Paths of the copies of these tars, which are made or finished first.

        Raises:
            UserError: a tar that cannot be had, or a disk without room for it.
        """
        with _alone(self.folder, self.url):
            missing = [name for name in names if not is_whole(self.folder / name, self.files[name])]
            if missing and not self.fetching:
                raise UserError(
                    f"data.root={self.url}: {len(missing):,} of {len(names):,} tars are not in {self.folder}, and "
                    "data.download=false; data.download=true fetches them"
                )
            if missing:
                self._fetch(missing)
        return sorted(self.folder / name for name in names)

    def _fetch(self, names: Sequence[str]) -> None:
        needed = sum(bytes_missing(self.folder / name, self.files[name]) for name in names)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise UserError(
                f"data.root={self.url}: its tars need {needed / 1e9:,.1f} GB in {self.folder}, where {free / 1e9:,.1f} "
                "GB are free; XDG_CACHE_HOME names another place for caches"
            )
        log.info(f"fetching {len(names):,} tars, {needed / 1e9:,.1f} GB, once: {self.folder}")
        before = dict(self.files)
        with counted("fetching tars", sum(self.files[name].size for name in names) >> 20, "MiB") as count:
            _at_once(names, functools.partial(self._fetch_one, progress=_Progress(count)))
        if self.files != before:
            _keep(self)

    def _fetch_one(self, name: str, progress: _Progress) -> None:
        where = f"data.root={self.url}: {name}"
        try:
            self.files[name] = self.remote.fetch(name, self.files[name], self.folder / name, progress.add)
        except RemoteError as error:
            raise UserError(
                f"{where}: could not be fetched ({error.reason}); start again to go on where it stopped"
            ) from error
        except ChangedError as error:
            raise UserError(
                f"{where}: is not what {FACTS_FILE} or the server's own facts say ({error}); if it has just been "
                "changed there, start again"
            ) from error


class _Progress:
    """Counts the bytes of several threads as MiB of a bar."""

    def __init__(self, count: Any) -> None:
        self.count = count
        self.lock = threading.Lock()
        self.bytes = 0

    def add(self, size: int) -> None:
        """Tell of so many bytes more."""
        with self.lock:
            self.count(((self.bytes + size) >> 20) - (self.bytes >> 20))
            self.bytes += size


def _at_once(names: Sequence[str], work: Any) -> list[Any]:
    """What a function gives of each name, by several threads; after an error no further one is begun."""
    with ThreadPoolExecutor(THREADS) as threads:
        futures = [threads.submit(work, name) for name in names]
        try:
            return [future.result() for future in futures]
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


@functools.lru_cache(maxsize=8)
def tars_at(url: str, fetching: bool) -> Tars:
    """The tars at a URL; a process looks there once.

    Args:
        url: of their folder, or a pattern of their names.
        fetching: whether the network may be used.

    Raises:
        UserError: a URL without tars, or one that cannot be reached and has no copy.
    """
    base, names = _divided(url)
    folder = cache_folder() / f"tars-{hashlib.sha256(base.encode()).hexdigest()[:32]}"
    tars = Tars(url, folder, Remote(base), fetching, {})
    with _alone(folder, url):
        kept = _kept(tars)
        if fetching:
            try:
                tars.files = _looked(tars, names, hurried=kept is not None)
                return tars
            except RemoteError as error:
                if kept is None or not error.network:
                    raise UserError(f"data.root={url}: cannot be read: {error.reason}; {_advice(error)}") from error
                log.warning(f"{url}: not reached ({error.reason}): its copy is used, and may be older: {folder}")
        elif kept is None:
            raise UserError(f"data.root={url}: not in {folder}, and data.download=false; data.download=true fetches it")
    tars.files = kept
    return tars


def _advice(error: RemoteError) -> str:
    if error.missing:
        return (
            f"name a folder with a {FACTS_FILE} of tools/shard.py, or the tars, as in "
            "'data.root=https://host/train-{0000..0123}.tar'"
        )
    return "try again later" if error.network else "see that it may be read from here"


def _looked(tars: Tars, names: Sequence[str], hurried: bool) -> dict[str, Version]:
    """The tars as they are there now, which is kept for a time without a network."""
    remote = tars.remote
    remote.hurried = hurried
    facts = _facts(remote)
    told = _told(tars.url, facts)
    if names:
        files = dict(zip(names, _versions(remote, [told.get(name) for name in names], names), strict=True))
    elif told:
        files = told
    else:
        listed = remote.listing(".tar")
        names = sorted(name for name in listed if not any(part.startswith(".") for part in name.split("/")))
        for name in names:
            _check_name(tars.url, name)
        files = dict(zip(names, _versions(remote, [listed[name] for name in names], names), strict=True))
    if not files:
        raise RemoteError(f"neither a {FACTS_FILE} that names tars nor a listing of them", missing=True, network=False)
    remote.hurried = False
    tars.files = files
    _listing(tars).unlink(missing_ok=True)
    if facts is None:
        (tars.folder / FACTS_FILE).unlink(missing_ok=True)
    else:
        with atomic(tars.folder / FACTS_FILE) as file:
            file.write(facts)
    _keep(tars)
    return files


def _versions(remote: Remote, known: Sequence[Version | None], names: Sequence[str]) -> list[Version]:
    """The version of each of these files; the server is asked for those that are not known."""
    asked = [name for name, version in zip(names, known, strict=True) if version is None]
    answers = iter(_at_once(asked, remote.version))
    return [next(answers) if version is None else version for version in known]


def _facts(remote: Remote) -> bytes | None:
    """The content of `shards.json`; None if there is none."""
    try:
        return remote.read(FACTS_FILE)
    except RemoteError as error:
        if error.missing:
            return None
        raise


def _told(url: str, facts: bytes | None) -> dict[str, Version]:
    """The tars that `shards.json` names, with size and SHA-256."""
    where = f"data.root={url}: {FACTS_FILE}"
    try:
        said = json.loads(facts or b"{}")
        tars = {
            str(name): Version(int(one["bytes"]), f"{SHA256}{one['sha256']}")
            for name, one in said.get("tars", {}).items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{where}: damaged, or not of tools/shard.py ({' '.join(str(error).split())})") from error
    for name in tars:
        _check_name(url, name)
    return tars


def _check_name(url: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise UserError(
            f"data.root={url}: {name}: not a name for a tar in this folder; letters, digits and plain signs are "
            "allowed, and nothing that leads elsewhere"
        )


def _divided(url: str) -> tuple[str, list[str]]:
    """The folder of a URL, and the names that its pattern makes, each once; none if it is a folder."""
    if "{" not in url and not url.endswith(".tar"):
        return url.rstrip("/"), []
    base = url.partition("{")[0].rpartition("/")[0]
    names = list(dict.fromkeys(itertools.islice(_expanded(url[len(base) + 1 :]), MOST_TARS + 1)))
    if len(names) > MOST_TARS:
        raise UserError(f"data.root={url}: stands for more than {MOST_TARS:,} tars")
    for name in names:
        _check_name(url, name)
    return base, names


def _expanded(pattern: str) -> Iterator[str]:
    """What the braces of a pattern stand for, as a shell has it: `{00..11}` or `{a,b}`."""
    inner = BRACES.search(pattern)
    if inner is None:
        yield pattern
        return
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", inner[1])
    if numbers:
        first, last = numbers.groups()
        width = max(len(first), len(last)) if any(re.match(r"0\d", end) for end in (first, last)) else 0
        step = 1 if int(first) <= int(last) else -1
        parts: Iterator[str] | list[str] = (
            f"{number:0{width}d}" for number in range(int(first), int(last) + step, step)
        )
    else:
        parts = inner[1].split(",")
    for part in parts:
        yield from _expanded(pattern[: inner.start()] + part + pattern[inner.end() :])


def _listing(tars: Tars) -> Path:
    """Where it is kept which tars a URL has, for this way of naming them."""
    return tars.folder / f".{hashlib.sha256(tars.url.encode()).hexdigest()[:16]}.json"


def _keep(tars: Tars) -> None:
    write_json(_listing(tars), {"url": tars.url, "files": tars.files})


def _kept(tars: Tars) -> dict[str, Version] | None:
    """The tars as they were when the URL was last reached; None if it never was."""
    try:
        said = read_json(_listing(tars))["files"]
        return {name: Version(int(size), str(mark)) for name, (size, mark) in said.items() if NAME.fullmatch(name)}
    except (OSError, UserError, LookupError, TypeError, ValueError, AttributeError):
        return None


@contextmanager
def _alone(folder: Path, url: str) -> Iterator[None]:
    """Hold the folder, which other processes of this run, or of another one, may be filling.

    Raises:
        UserError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info(f"waiting for another process that fetches {url}")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()
    except OSError as error:  # those of the network are other errors by now
        raise unwritten(folder, error) from error
