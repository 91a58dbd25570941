"""Data sets of the Hugging Face hub, as parquet files in its own cache. No torch.

What the cache holds is used as it is, without a network: a branch stays at the commit that it had when it came.
Pictures of any size are unpacked once, to `root/<owner>/<name>/<commit>/`, and then read as a folder of classes is.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import re
import shutil
import sys
from pathlib import Path
from urllib.parse import quote, unquote

from filelock import FileLock

from harness.config.data import DataConfig, HubConfig, HubPhotosConfig
from harness.data.sources import parquet
from harness.data.sources.parquet import Files
from harness.errors import UserError

FOLDERS = {"train": "train", "validation": "val", "test": "test"}  # a split's, as `class_folders` knows them
PARQUET = ["*.parquet", "**/*.parquet"]


def files_of(config: DataConfig) -> tuple[Files, str]:
    """The files of `parquet` or `hub`, and where they come from, for a message.

    Raises:
        UserError: files that are missing, or cannot be downloaded.
    """
    if isinstance(config, HubConfig):
        return _files(config), _named(config)
    where = f"data={config.name}: data.root={config.root}"
    return parquet.find_files(Path(config.root), where), where


def unpacked(config: HubPhotosConfig) -> HubPhotosConfig:
    """The same config, its root the folder that the pictures lie in; they are unpacked if that is not there yet.

    A row's bytes become a file as they are, named after the row's number; a class's folder is called like the class,
    what cannot stand in the name of a file written as in a URL, `T-shirt%2Ftop`.

    Raises:
        UserError: files that are missing or damaged, or a disk that is full.
    """
    folder = Path(config.root, *config.repo.split("/"), "-".join(filter(None, (commit(config), config.subset))))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):  # other processes of this run, or of another
            if not folder.is_dir():
                _unpack(_files(config), folder)
    except OSError as error:
        raise UserError(f"{folder}: pictures cannot be unpacked there ({error.strerror or error})") from error
    return dataclasses.replace(config, root=str(folder))


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
    where = _named(config)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", config.repo):
        raise UserError(f"data={config.name}: data.repo={config.repo}: name a data set as the hub does, OWNER/NAME")
    try:
        import huggingface_hub
        from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
    except ImportError as error:
        raise UserError(f"data={config.name} needs huggingface_hub: pip install 'cnn-zoo[hub]'") from error
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # no line for each attempt to reach the hub

    def get(local_files_only: bool) -> Path:
        found = huggingface_hub.snapshot_download(
            config.repo,
            repo_type="dataset",
            revision=config.revision,
            allow_patterns=PARQUET,
            local_files_only=local_files_only,
        )
        return Path(found)

    try:
        try:
            return get(local_files_only=True)
        except LocalEntryNotFoundError:
            if not config.download:
                raise
            print(f"downloading the parquet files of {config.repo}", file=sys.stderr)
            return get(local_files_only=False)
    except RevisionNotFoundError as error:
        raise UserError(f"{where}: it has no data.revision={config.revision}") from error
    except RepositoryNotFoundError as error:
        raise UserError(f"{where}: the Hugging Face hub has no such data set that is open to all") from error
    except (OSError, ValueError) as error:
        tried = f"could not be downloaded ({type(error).__name__})" if config.download else "data.download=false"
        raise UserError(
            f"{where}: it is not in the hub's cache, and {tried}; without a network, copy the cache of a machine that "
            "has it (HF_HOME), or its files, for data=parquet data.root=FOLDER"
        ) from error


def _named(config: HubConfig | HubPhotosConfig) -> str:
    return f"data={config.name}: data.repo={config.repo}"


def _files(config: HubConfig | HubPhotosConfig) -> Files:
    folder, where = snapshot(config), _named(config)
    if not any(folder.rglob("*.parquet")):
        raise UserError(
            f"{where}: no parquet file at data.revision={config.revision}; of most data sets in other formats the hub "
            "keeps a copy in parquet at data.revision=refs/convert/parquet"
        )
    return parquet.find_files(folder, where, config.subset, cached=True)


def _unpack(files: Files, folder: Path) -> None:
    """Every picture of every split into a file of its own; all of them, or no folder."""
    class_names = parquet.class_names(files)
    classes = [_folder_name(name) for name in class_names]
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    print(f"unpacking the pictures to {folder}", file=sys.stderr)
    try:
        for split, paths in files.items():
            place = partial / FOLDERS[split] if len(files) > 1 else partial  # which is then divided
            for name in classes:
                (place / name).mkdir(parents=True)
            for number, (_, encoded, label) in enumerate(parquet.rows(paths, class_names)):
                (place / classes[label] / f"{number:07d}{_extension(encoded)}").write_bytes(encoded)
            for name in classes:
                if not any((place / name).iterdir()):
                    (place / name).rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def class_name(folder_name: str) -> str:
    """The class whose pictures lie in a folder of this name."""
    return unquote(folder_name)


def _folder_name(class_name: str) -> str:
    name = "".join(c if c.isprintable() and c not in "/\\%" else quote(c, safe="") for c in class_name)
    return f"%2E{name[1:]}" if name.startswith(".") else name  # a folder that begins with a dot is hidden


def _extension(encoded: bytes) -> str:
    """By the content; `.jpg` for what is no picture, which is found out when it is read."""
    from PIL import Image

    try:
        kind = str(Image.open(io.BytesIO(encoded)).format)
    except Exception:  # a damaged image can fail in any way
        kind = "JPEG"
    return {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif"}.get(kind, f".{kind.lower()}")
