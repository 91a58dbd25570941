"""Parquet files of the Hugging Face hub, in the hub's own cache. No torch.

What the cache holds is used as it is, without a network: a branch stays at the commit that it had when it came.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from harness.config.data import DataConfig, HubConfig, HubPhotosConfig
from harness.data.sources import parquet_files
from harness.data.sources.parquet_files import Files
from harness.errors import UserError
from harness.run.hub import HubError, fetch

PARQUET = ["*.parquet", "**/*.parquet"]


def commit(config: HubConfig | HubPhotosConfig) -> str:
    """What the revision stands for here; raises as `snapshot` does, which a commit needs not ask."""
    return config.revision if re.fullmatch(r"[0-9a-f]{40}", config.revision) else snapshot(config).name


def recorded(config: DataConfig) -> dict[str, str]:
    """What a record says of a data set of the hub beside its fingerprint."""
    if isinstance(config, HubConfig | HubPhotosConfig):
        return {"repo": config.repo, "revision": commit(config)}
    return {}


def snapshot(config: HubConfig | HubPhotosConfig) -> Path:
    """The folder of the data set's files in the hub's cache, which is called after their commit.

    Raises:
        UserError: a data set that does not exist, is not open to all, or is not there without a network.
    """
    where = named(config)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", config.repo):
        raise UserError(f"data={config.name}: data.repo={config.repo}: name a data set as the hub does, OWNER/NAME")

    def get(hub: Any, local_files_only: bool) -> str:
        found: str = hub.snapshot_download(
            config.repo,
            repo_type="dataset",
            revision=config.revision,
            allow_patterns=PARQUET,
            local_files_only=local_files_only,
        )
        return found

    try:
        return fetch(f"data={config.name}", f"the parquet files of {config.repo}", get, config.download)
    except HubError as error:
        if error.lacks == "revision":
            raise UserError(f"{where}: it has no data.revision={config.revision}") from error
        if error.lacks == "repository":
            raise UserError(f"{where}: the Hugging Face hub has no such data set that is open to all") from error
        tried = f"could not be downloaded ({error.reason})" if config.download else "data.download=false"
        raise UserError(
            f"{where}: it is not in the hub's cache, and {tried}; without a network, copy the cache of a machine that "
            "has it (HF_HOME), or its files, for data=parquet data.root=FOLDER"
        ) from error


def named(config: HubConfig | HubPhotosConfig) -> str:
    """Which data set, as the user wrote it, for a message."""
    return f"data={config.name}: data.repo={config.repo}"


def find_files(config: HubConfig | HubPhotosConfig) -> Files:
    """The parquet files of every split.

    Raises:
        UserError: files that are missing, or cannot be downloaded.
    """
    folder, where = snapshot(config), named(config)
    if not any(folder.rglob("*.parquet")):
        raise UserError(
            f"{where}: no parquet file at data.revision={config.revision}; of most data sets in other formats the hub "
            "keeps a copy in parquet at data.revision=refs/convert/parquet"
        )
    return parquet_files.find_files(folder, where, config.subset, cached=True)
