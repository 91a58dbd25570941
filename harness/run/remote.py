"""Files at a URL, through fsspec: what is there, and fetched whole into a folder, whatever the network does. No torch.

A file comes in pieces. One that was cut off goes on where it stopped, under a name that tells which content it is of:
its SHA-256 where that is known, otherwise size, ETag and time of change. A whole file has a mark beside it that says
the same. What neither a try more nor a file's restart mends is an error.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar
from urllib.parse import unquote

from harness.errors import UserError
from harness.run.files import PARTIAL, sha256_of_file, write_text

PIECE = 2**23  # bytes that are asked for at once
BLOCK = 2**20  # bytes that are taken at once from a server that gives whole files alone
TIMEOUT = 60.0  # seconds without an answer, or without a byte of it
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before each further try
RESTARTS = 3  # times that a file is begun, if it came otherwise than it should
MOST_SMALL = 2**26  # bytes of a file that is read into memory
DEEP = 4  # levels of folders that a listing goes down
AGAIN = (408, 425, 429)  # of HTTP's errors from 400 to 499, those that pass
MARKS = (  # what file systems call that which another content changes
    *("ETag", "etag", "Last-Modified", "LastModified", "last_modified", "updated", "generation"),
    *("blob_id", "oid", "mtime", "created"),
)
SHA256 = "sha256:"

Result = TypeVar("Result")


class RemoteError(Exception):
    """A file could not be had.

    Attributes:
        reason: in a few words, without a secret.
        missing: whether the server says that there is none.
        network: whether another time may be better.
    """

    def __init__(self, reason: str, missing: bool, network: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.missing = missing
        self.network = network


class ChangedError(Exception):
    """What came is not, or is no longer, the content that it should be."""


class Version(NamedTuple):
    """Which content a file has.

    Attributes:
        size: in bytes.
        mark: tells it from another content of this size: `sha256:...`, or what the server says of it; it may be empty.
    """

    size: int
    mark: str


class Remote:
    """A folder at a URL.

    Args:
        url: without a slash at its end.

    Raises:
        UserError: fsspec does not know such URLs, or lacks a package for them.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.scheme = url.partition("://")[0].lower()
        self.http = self.scheme in ("http", "https")
        self.hurried = False  # whether one further try is enough
        try:
            import fsspec

            self.files, self.root = fsspec.core.url_to_fs(url, **self._options(fsspec.config.conf))
        except ImportError as error:
            package = "'cnn-zoo[remote]'" if self.http else f"'fsspec[{self.scheme}]'"
            raise UserError(f"{url}: {_reason(error)}: pip install {package}") from error
        except ValueError as error:
            raise UserError(f"{url}: cannot be read ({_reason(error)})") from error

    def _options(self, configured: dict[str, Any]) -> dict[str, Any]:
        if not self.http:
            return {"skip_instance_cache": True, "use_listings_cache": False}
        from aiohttp import ClientTimeout

        known = configured.get(self.scheme, {}).get("client_kwargs", {})
        client = {
            "trust_env": True,  # proxies from variables, passwords from ~/.netrc
            "timeout": ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT),
            **known,
            "headers": {
                "Accept-Encoding": "identity",
                **known.get("headers", {}),
            },  # a compressed answer's ranges differ
        }
        return {"skip_instance_cache": True, "client_kwargs": client}

    def path(self, name: str) -> str:
        """What fsspec calls the file of this name in the folder."""
        return f"{self.root.rstrip('/')}/{name}"

    def read(self, name: str) -> bytes:
        """The content of a small file.

        Raises:
            RemoteError: it cannot be had, or is not small.
        """

        def whole() -> bytes:
            content = bytearray()
            with closing(self._stream(name)) as stream:
                for some in stream:
                    content += some
                    if len(content) > MOST_SMALL:
                        raise RemoteError(f"{name}: more than {MOST_SMALL:,} bytes", missing=False, network=False)
            return bytes(content)

        return self._tried(whole)

    def version(self, name: str) -> Version:
        """Which content the file has now.

        Raises:
            RemoteError: it cannot be had, or the server does not say how large it is.
        """
        return self._version(name, self._tried(lambda: self.files.info(self.path(name))))

    def _version(self, name: str, facts: dict[str, Any]) -> Version:
        if type(facts.get("size")) is not int:
            raise RemoteError(f"{name}: the server does not say how large it is", missing=False, network=False)
        known = {key: str(facts[key]) for key in MARKS if facts.get(key)}
        return Version(facts["size"], json.dumps(known) if known else "")

    def listing(self, ending: str) -> dict[str, Version | None]:
        """The files with this ending in the folder and those in it, by name; None where a listing has no sizes.

        Raises:
            RemoteError: there is no listing.
        """
        found: dict[str, Version | None] = {}
        self._list(self.root, ending, found, DEEP)
        return found

    def _list(self, folder: str, ending: str, found: dict[str, Version | None], deep: int) -> None:
        for facts in self._tried(lambda: self.files.ls(folder, detail=True)):
            path, before = str(facts["name"]), f"{self.root.rstrip('/')}/"
            if not path.startswith(before) or "?" in path:
                continue
            if facts["type"] == "directory" and deep and path.rstrip("/") != folder.rstrip("/"):
                self._list(path, ending, found, deep - 1)
            elif path.endswith(ending):
                name = unquote(path.removeprefix(before)) if self.http else path.removeprefix(before)
                found[name] = self._version(name, facts) if facts.get("size") is not None else None

    def _tried(self, what: Callable[[], Result]) -> Result:
        """What a function gives that asks the server; after an error that may pass it is called again."""
        for wait in (*(WAITS[:1] if self.hurried else WAITS), None):
            try:
                return what()
            except (UserError, ChangedError, RemoteError):
                raise
            except Exception as error:  # each of fsspec's file systems has errors of its own
                missing, network = _kind(error)
                if wait is None or not network:
                    raise RemoteError(_reason(error), missing, network) from error
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _stream(self, name: str) -> Generator[bytes, None, None]:
        """The whole content of a file, in one answer."""
        with self.files.open(self.path(name), "rb", **({"block_size": 0} if self.http else {})) as file:
            while content := file.read(BLOCK):
                yield content

    def _piece(self, name: str, start: int, end: int, size: int) -> bytes | None:
        """These bytes of a file; None from a server that gives whole files alone."""
        if not self.http:
            content: bytes = self.files.cat_file(self.path(name), start=start, end=end)
        else:
            with self.files.open(self.path(name), "rb", block_size=PIECE, cache_type="none", size=size) as file:
                file.seek(start)
                try:
                    content = file.read(end - start)
                except ValueError:  # fsspec's, for an answer that is no range
                    return None
        if len(content) != end - start:
            raise ChangedError(f"{len(content):,} bytes came instead of {end - start:,}")
        return content

    def fetch(self, name: str, version: Version, path: Path, seen: Callable[[int], None]) -> Version:
        """Fetch a file whole, or what is missing of it.

        Args:
            name: of the file.
            version: that it should have.
            path: where it is put.
            seen: is told of each number of bytes that is there; a negative one is of bytes that were thrown away.

        Returns:
            The version that it has: another one if the file was changed meanwhile, and no SHA-256 was wanted.

        Raises:
            RemoteError: it cannot be had; what came of it is kept.
            ChangedError: it is not what it should be, however often it is begun.
            UserError: it cannot be written.
        """
        for left in reversed(range(RESTARTS)):
            partial = _partial(path, version)
            try:
                self._complete(name, version, partial, seen)
                self._check(name, version, partial)
            except ChangedError:
                seen(-partial.stat().st_size)
                partial.unlink()
                if not left:
                    raise
                if not version.mark.startswith(SHA256):
                    version = self.version(name)
                continue
            _mark(path).unlink(missing_ok=True)
            partial.replace(path)
            write_text(_mark(path), _told(version))
            return version
        raise AssertionError("the last restart returns or raises")

    def _complete(self, name: str, version: Version, partial: Path, seen: Callable[[int], None]) -> None:
        """Bring a file, which may be there in part, to its full length."""
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("ab") as file:
                if file.tell() > version.size or not version.mark:  # nothing tells whether it is the same content
                    file.truncate(0)
                seen(os.fstat(file.fileno()).st_size)
                if not version.mark or not self._in_pieces(name, version.size, file, seen):
                    self._tried(lambda: self._at_once(name, version.size, file, seen))
                os.fsync(file.fileno())
        except OSError as error:  # the server's are other errors by now
            raise unwritten(partial, error) from error

    def _in_pieces(self, name: str, size: int, file: IO[bytes], seen: Callable[[int], None]) -> bool:
        """Write what is missing at a file's end; whether the server gives parts of files."""
        there = os.fstat(file.fileno()).st_size
        while there < size:
            start, end = there, min(there + PIECE, size)
            piece = self._tried(lambda: self._piece(name, start, end, size))  # noqa: B023  # called at once
            if piece is None:
                file.truncate(0)
                seen(-there)
                return False
            _write(file, piece)
            there = end
            seen(len(piece))
        return True

    def _at_once(self, name: str, size: int, file: IO[bytes], seen: Callable[[int], None]) -> None:
        """Write a file's content from its beginning."""
        there = 0
        try:
            with closing(self._stream(name)) as stream:
                for content in stream:
                    if there + len(content) > size:
                        raise ChangedError(f"more than {size:,} bytes came")
                    _write(file, content)
                    there += len(content)
                    seen(len(content))
            if there != size:
                raise ChangedError(f"{there:,} bytes came instead of {size:,}")
        except Exception:
            file.truncate(0)
            seen(-there)
            raise

    def _check(self, name: str, version: Version, partial: Path) -> None:
        """Raise `ChangedError` if what came is not the version that was wanted."""
        if version.mark.startswith(SHA256):
            if f"{SHA256}{sha256_of_file(partial)}" != version.mark:
                raise ChangedError("its SHA-256 is another one")
        elif self.version(name) != version:
            raise ChangedError("it was changed while it was fetched")


def _write(file: IO[bytes], content: bytes) -> None:
    """Write at once, so that what fails is known to be the disk."""
    try:
        file.write(content)
        file.flush()
    except OSError as error:
        raise unwritten(Path(file.name), error) from error


def unwritten(path: Path, error: OSError) -> UserError:
    """What a user is told if the cache cannot be written."""
    why = error.strerror or str(error)
    return UserError(f"{path}: cannot be written ({why}); XDG_CACHE_HOME names another place for caches")


def is_whole(path: Path, version: Version) -> bool:
    """Whether a file was fetched, and is of this version."""
    try:
        return path.stat().st_size == version.size and _mark(path).read_text(encoding="utf-8") == _told(version)
    except (OSError, UnicodeDecodeError):
        return False


def bytes_missing(path: Path, version: Version) -> int:
    """What is still to be fetched of a file that is not whole; parts of other versions are removed."""
    partial = _partial(path, version)
    for other in path.parent.glob(f".{path.name}.*{PARTIAL}"):
        if other != partial:
            other.unlink()
    return version.size - (partial.stat().st_size if partial.exists() else 0)


def _partial(path: Path, version: Version) -> Path:
    digest = hashlib.sha256(_told(version).encode()).hexdigest()[:16]
    return path.with_name(f".{path.name}.{digest}{PARTIAL}")


def _mark(path: Path) -> Path:
    return path.with_name(f".{path.name}.mark")


def _told(version: Version) -> str:
    return f"{version.size} {version.mark}\n"


def _kind(error: Exception) -> tuple[bool, bool]:
    """Whether an error says that there is no such file, and whether another try may help."""
    status = _status(error)
    if status is not None:
        return status in (404, 410), not 400 <= status < 500 or status in AGAIN
    missing = isinstance(error, FileNotFoundError) and error.__cause__ is None
    final = missing or isinstance(error, (PermissionError, NotImplementedError))
    return missing, not final


def _status(error: Exception) -> int | None:
    """The status of HTTP in an error, or in the one behind it, which fsspec calls a missing file, whatever it is."""
    for one in (error, error.__cause__):
        status = getattr(one, "status", None)
        if isinstance(status, int):
            return status
    return None


def _reason(error: Exception) -> str:
    """An error in a few words, without what follows a ? in URLs, where secrets are."""
    status = _status(error)
    if status is not None:
        return f"HTTP status {status}"
    first = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
    if isinstance(first, (TimeoutError, asyncio.TimeoutError)):
        return f"no answer within {TIMEOUT:g} seconds"
    if isinstance(first, FileNotFoundError):
        return "there is no such file"
    text = re.sub(r"\?[^\s'\")]*", "", " ".join(f"{first}".split()))
    return text or type(first).__name__
