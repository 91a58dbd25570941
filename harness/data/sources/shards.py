"""data=shards: pictures in tars of WebDataset, `root/train-000000.tar`, ..., divided as `data=folder` divides files.

The name of a tar, or of its folder, says its split by a word that `harness.data.sources.folder.SPLITS` knows:
`train-000000.tar`, `imagenet1k-validation-07.tar`, `val/3.tar`. Tars of which none has such a word are divided by the
rule for an undivided folder. `shards.json` beside them holds the names of the classes, where labels are numbers, and of
tars that `tools/shard.py` packed what makes their pictures those of the source: ids, order and decoding. Tars at a URL
are fetched into a folder first.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.config.data import DataConfig, FolderConfig
from harness.config.facts import DataSet
from harness.config.fields import is_url
from harness.data.images.image_files import ImageFiles
from harness.data.images.shards import Shards, index_shards, renamed, stamps_of
from harness.data.sources import folder
from harness.data.sources.folder import SPLITS, Part, Parts
from harness.data.sources.shards_at_url import FACTS_FILE, tars_at
from harness.data.sources.splits import Split, Splits
from harness.errors import UserError
from harness.run.files import read_json

SCHEMA, VERSION = "cnn-zoo shards", 1
UNDIVIDED = "images"


class Facts(NamedTuple):
    """What `shards.json` says.

    Attributes:
        class_names: in label order; None where labels name themselves.
        sets: of tars that were packed here, by name: `images`, their number; `prefix`, which begins their ids.
        as_viewed: whether pictures are decoded as a viewer shows them.
    """

    class_names: tuple[str, ...] | None
    sets: Mapping[str, Any]
    as_viewed: bool


class _Reported(NamedTuple):
    """The set that is reported on, of tars at a URL that were packed here and need no others.

    Attributes:
        root: folder of the copies.
        facts: what `shards.json` says.
        class_names: in label order.
        name: of the set.
        tars: of the set, by their paths at the URL.
    """

    root: Path
    facts: Facts
    class_names: tuple[str, ...]
    name: str
    tars: list[str]


def describe(config: DataConfig) -> DataSet:
    """Facts of the pictures.

    Raises:
        UserError: no tars, or such as are damaged or hold no labelled pictures.
    """
    reported = _reported(config)
    if reported is None:
        return folder.facts_of(divide(config), config)
    images = {_split_of(name): one["images"] for name, one in reported.facts.sets.items()}
    train, test = sum(images.values()) - images[_split_of(reported.name)], images[_split_of(reported.name)]
    return DataSet(None, None, len(config.mean), reported.class_names, train, test)


def load(config: DataConfig) -> Splits:
    """All splits; raises as `describe` does, and if no image is left to train on."""
    return Splits(*(_decoded(config, split) for split in vars(folder.splits_of(divide(config), config)).values()))


def load_test(config: DataConfig) -> ImageFiles:
    """The test split alone; raises as `describe` does."""
    reported = _reported(config)
    if reported is None:
        return _decoded(config, folder.test_of(divide(config)))
    root, facts, _, name, tars = reported
    index = _index(root, name, tars_at(config.root, config.download).fetched(tars), facts)
    none = _part(index, "").where(np.zeros(len(index), dtype=np.bool_))
    part = _part(index, facts.sets[name]["prefix"])
    return _decoded(config, folder.test_of(Parts(index.classes, none, none, part)))


def _reported(config: DataConfig) -> _Reported | None:
    """What is reported on of tars at a URL; None where that cannot be told, or evaluated, without the other tars."""
    assert isinstance(config, FolderConfig)
    if not is_url(config.root):
        return None
    at_url = tars_at(config.root, config.download)
    facts = read_facts(at_url.folder)
    sets = _sets(at_url.folder, [at_url.folder / name for name in at_url.files], f"data.root={config.root}")
    of_split = {_split_of(name): name for name in sets}
    if facts.class_names is None or facts.sets.keys() != sets.keys() or len(sets) < 2 or "train" not in of_split:
        return None
    folder.check_folds(config, list(sets))
    name = of_split.get("test") or of_split["val"]
    tars = [str(path.relative_to(at_url.folder)) for path in sets[name]]
    return _Reported(at_url.folder, facts, facts.class_names, name, tars)


def divide(config: DataConfig) -> Parts:
    """The splits of the tars that the config names; raises as `describe` does."""
    assert isinstance(config, FolderConfig)
    where = f"data={config.name}: data.root={config.root}"
    if is_url(config.root):
        at_url = tars_at(config.root, config.download)
        root, sets = at_url.folder, _sets(at_url.folder, at_url.fetched(list(at_url.files)), where)
    else:
        root = Path(config.root).absolute()
        sets = find_sets(root, where)
    facts = read_facts(root)
    for name in facts.sets.keys() - sets.keys():
        raise UserError(f"{root}: the tars {name}-*.tar are missing, of which {FACTS_FILE} tells")
    whole = {name: _index(root, name, paths, facts) for name, paths in sets.items()}
    prefixes = {name: facts.sets.get(name, {}).get("prefix", _prefix(name)) for name in sets}
    of_split = {_split_of(name): name for name in sets}
    if "train" not in of_split:
        name = of_split.get("test") or of_split.get("val") or UNDIVIDED
        if name != UNDIVIDED or (config.test == 100 and config.folds is None):
            return folder.to_report_on(whole[name], prefixes[name])
        return folder.by_rule(config, _part(whole[name], prefixes[name]), whole[name].classes)
    folder.check_folds(config, list(sets))
    train = whole[of_split["train"]]
    others = {
        split: _part(_under(whole[name], train, facts), prefixes[name])
        for split, name in of_split.items()
        if split != "train"
    }
    if not others:
        raise UserError(
            f"data={config.name}: data.root={config.root} has tars to train on, and none whose names say val or test"
        )
    return folder.as_given(config, train.classes, _part(train, prefixes[of_split["train"]]), others)


def as_viewed(config: DataConfig) -> bool:
    """Whether the pictures are decoded as a viewer shows them."""
    return read_facts(_root(config)).as_viewed


def _root(config: DataConfig) -> Path:
    """The folder of the tars, or of their copies."""
    return tars_at(config.root, config.download).folder if is_url(config.root) else Path(config.root)


def read_back(root: Path) -> dict[str, int]:
    """Index tars that were packed here; how many pictures each set has. Raises as `describe` does."""
    facts = read_facts(root)
    sets = find_sets(root.absolute(), str(root))
    return {name: len(_index(root.absolute(), name, paths, facts)) for name, paths in sets.items()}


def read_facts(root: Path) -> Facts:
    """What `shards.json` says; nothing, if it is not there.

    Raises:
        UserError: it is damaged.
    """
    path = root / FACTS_FILE
    if not path.is_file():
        return Facts(None, {}, True)
    said = read_json(path)
    names, sets = said.get("class_names"), said.get("sets", {})
    packed = isinstance(sets, dict) and all(_is_set(one) for one in sets.values())
    if not isinstance(names, list) or not _are_names(names) or not packed or said.get("version", VERSION) != VERSION:
        raise UserError(
            f'{path}: it should say {{"class_names": [...]}}, two names or more, none of them twice, in the order of '
            "the labels"
        )
    return Facts(tuple(names), sets, bool(said.get("as_viewed", True)))


def _are_names(said: list[object]) -> bool:
    return all(isinstance(name, str) for name in said) and 1 < len(said) == len(set(said))


def _is_set(said: object) -> bool:
    return isinstance(said, dict) and type(said.get("images")) is int and type(said.get("prefix")) is str


def find_sets(root: Path, where: str) -> dict[str, list[Path]]:
    """The tars under a folder, which a message calls `where`, by the word of their split; `images` for those without.

    Raises:
        UserError: no folder, no tar, some with such a word and some without, or two words for one split.
    """
    if not root.is_dir():
        raise UserError(f"{where}: there is no such folder; name the one with your tars")
    paths = sorted(
        path for path in root.rglob("*.tar") if not any(part[0] == "." for part in path.relative_to(root).parts)
    )
    if not paths:
        packed = next(iter(sorted([*root.rglob("*.tar.*"), *root.rglob("*.tgz")])), None)
        hint = f"; {packed.name} is compressed: unpack it to a tar" if packed else ""
        raise UserError(
            f"{where}: no .tar in it{hint or '; tools/shard.py packs pictures, and data=folder reads files'}"
        )
    return _sets(root, paths, where)


def _sets(root: Path, paths: list[Path], where: str) -> dict[str, list[Path]]:
    """Tars under `root` by the word of their split; raises as `find_sets` does."""
    sets: dict[str, list[Path]] = {}
    for path in sorted(paths):
        sets.setdefault(_word(str(path.relative_to(root))), []).append(path)
    if UNDIVIDED in sets and len(sets) > 1:
        other = next(name for name in sets if name != UNDIVIDED)
        raise UserError(
            f"{where}: {sets[UNDIVIDED][0].name} has no word for its split in its name, and {sets[other][0].name} has"
        )
    splits = [_split_of(name) for name in sets]
    twice = next((split for split in splits if splits.count(split) > 1), None)
    if twice is not None:
        names = " and ".join(name for name in sets if _split_of(name) == twice)
        raise UserError(f"{where}: tars called {names} are the same split; give them one word")
    return sets


def _word(path: str) -> str:
    words = re.split(r"[^a-z]+", path.removesuffix(".tar").casefold())
    return next((word for word in reversed(words) if _split_of(word) != UNDIVIDED), UNDIVIDED)


def _split_of(name: str) -> str:
    return next((split for split, names in SPLITS.items() if name in names), UNDIVIDED)


def _prefix(name: str) -> str:
    return "shards" if name == UNDIVIDED else f"shards/{name}"


def _index(root: Path, name: str, paths: list[Path], facts: Facts) -> Shards:
    """The pictures of a set, their classes called as `shards.json` says."""
    index = index_shards(root, name, stamps_of(root, paths), bool(facts.sets))
    wanted = facts.sets.get(name, {}).get("images", len(index))
    if len(index) != wanted:
        raise UserError(
            f"{index.root}: {len(index):,} pictures instead of {wanted:,}; a tar is missing, or one too much"
        )
    if facts.class_names is None:
        if len(index.classes) == 1 and _split_of(name) in ("train", UNDIVIDED):
            raise UserError(f"{index.root}: one class, {index.classes[0]!r}: there is nothing to tell it from")
        return index
    order = {called: label for label, called in enumerate(facts.class_names)}
    numbers = all(text.isdecimal() for text in index.classes)
    labels = [int(text) if numbers else order.get(text, -1) for text in index.classes]
    unknown = next((text for text, label in zip(index.classes, labels) if not 0 <= label < len(order)), None)  # noqa: B905
    if unknown is not None:
        raise UserError(f"{index.root}: a label {unknown}, and {FACTS_FILE} names {len(order)} classes, from 0 on")
    return renamed(index, facts.class_names, labels)


def _under(index: Shards, train: Shards, facts: Facts) -> Shards:
    """The pictures of another set with the classes of those that are trained on."""
    order = {name: label for label, name in enumerate(train.classes)}
    unknown = next((name for name in index.classes if name not in order), None)
    if unknown is not None:
        raise UserError(f"{index.root}: its class {unknown!r} is none of the {len(order)} of {train.root}")
    return renamed(index, train.classes, [order[name] for name in index.classes])


def _part(index: Shards, prefix: str) -> Part:
    return Part(index, np.arange(len(index)), index.labels, prefix)


def _decoded(config: DataConfig, split: Split) -> ImageFiles:
    assert isinstance(split, ImageFiles)
    return dataclasses.replace(split, as_viewed=as_viewed(config))
