"""Files of the Hugging Face hub: from its cache, which needs no network, or downloaded."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.run.printable import say


class HubError(Exception):
    """A file of the hub cannot be had.

    Attributes:
        lacks: what is missing: `repository`, `revision`, `file`, or `network`.
        reason: name of the error behind it.
    """

    def __init__(self, lacks: str, reason: str) -> None:
        super().__init__(f"no {lacks} ({reason})")
        self.lacks = lacks
        self.reason = reason


def fetch(key: str, what: str, get: Callable[..., str], download: bool = True) -> Path:
    """Return what `get` finds in the hub's cache; download it if it is not there.

    Args:
        key: what the user wrote that needs it, such as `data=hub`, for a message.
        what: what is downloaded, for a message.
        get: function of the module `huggingface_hub` and of `local_files_only`, a bool, to a path.
        download: whether it may be downloaded.

    Raises:
        UserError: huggingface_hub is not installed.
        HubError: it is not in the cache, and cannot or may not be downloaded.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise UserError(f"{key} needs huggingface_hub: pip install 'cnn-zoo[hub]'") from error
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # no line for each attempt to reach the hub
    module: Any = huggingface_hub
    try:
        try:
            return Path(get(module, local_files_only=True))
        except errors.LocalEntryNotFoundError:
            if not download:
                raise
            say(f"downloading {what}", sys.stderr)
            return Path(get(module, local_files_only=False))
    except Exception as error:
        lacks = _lacks(error, errors)
        if lacks is None:
            raise
        raise HubError(lacks, type(error).__name__) from error


def _lacks(error: Exception, errors: Any) -> str | None:
    """What an error of the hub's says is missing; None for any other error."""
    kinds = {
        "network": errors.LocalEntryNotFoundError,  # an `EntryNotFoundError`, too
        "repository": errors.RepositoryNotFoundError,
        "revision": errors.RevisionNotFoundError,
        "file": errors.EntryNotFoundError,
    }
    found = next((lacks for lacks, kind in kinds.items() if isinstance(error, kind)), None)
    return found or ("network" if isinstance(error, (OSError, ValueError)) else None)
