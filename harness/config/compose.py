"""From a user's words to a typed config: Hydra fills the dataclasses of this room with the values in `configs/`.

`OmegaConf.to_object` turns Hydra's result into plain objects at once. No other code sees a DictConfig or reads Hydra's
global state: the config carries the user's words in `overrides`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from harness.config.commands import (
    CHOICES,
    COMMANDS,
    EXPERIMENT,
    GROUPS,
    SCHEMAS,
    SWEEP,
    CompareConfig,
    EvalConfig,
    TrainConfig,
    keys_of,
)
from harness.config.files import CONFIGS, choices
from harness.config.mistakes import no_such_choice, one_line, unknown_key
from harness.config.plain_yaml import read_yaml
from harness.errors import UserError
from models.catalogue import MODELS

Schema = TypeVar("Schema")
PROPORTIONAL = (  # settings of a recipe that go with its epochs
    *("milestones", "milestone_steps", "size_ramp", "warmup_epochs", "warmup_steps"),
    *("average_decay", "average_last_epochs"),
)
OF_HYDRAS_PARSERS = (ValueError, TypeError, AttributeError, AssertionError, RecursionError)  # for odd words and files
WITHOUT_NETWORK = 224  # pixels: the input of most networks for photographs
PATH_KEYS = {key for command in COMMANDS for key, known in keys_of(command).items() if known.setting.path}


def input_size(model: str) -> int:
    """Return the side in pixels of a network's images: the default of `data.image_size` for pictures in files."""
    return MODELS[model].input_size if model in MODELS else WITHOUT_NETWORK


def resize_for(image_size: int) -> int:
    """Return the default of `data.resize`, which is 256 for an input of 224."""
    return round(image_size * 256 / 224)


OmegaConf.register_new_resolver("input_size", input_size)
OmegaConf.register_new_resolver("resize_for", resize_for)


@overload
def compose(command: Literal["train"], words: Sequence[str], extra_configs: str | None = None) -> TrainConfig: ...
@overload
def compose(command: Literal["eval"], words: Sequence[str], extra_configs: str | None = None) -> EvalConfig: ...
@overload
def compose(
    command: str, words: Sequence[str], extra_configs: str | None = None
) -> TrainConfig | EvalConfig | CompareConfig: ...
def compose(
    command: str, words: Sequence[str], extra_configs: str | None = None
) -> TrainConfig | EvalConfig | CompareConfig:
    """Return the config of a command.

    Args:
        command: `train`, `eval` or `compare`.
        words: `group=NAME` and `key=value`, as on the command line.
        extra_configs: another folder like `configs/`; the user may choose its files, too.

    Raises:
        UserError: a word cannot be read or names something that does not exist, or a setting may not have its value.
    """
    composed = _composed(command, words, extra_configs)
    config = _object(composed, command)
    assert isinstance(config, COMMANDS[command])
    return config


def compose_groups(command: str, words: Sequence[str], *groups: str) -> list[Any]:
    """Return the settings of some groups; the command's own settings are not checked. Raises what `compose` raises."""
    composed = _composed(command, words, None)
    return [None if composed.get(group) is None else _object(composed[group], command) for group in groups]


def _composed(command: str, words: Sequence[str], extra_configs: str | None) -> DictConfig:
    check_words(words, command)
    words = [quoted_path(word) for word in words]
    for word in words:
        group, _, choice = word.partition("=")
        if group in CHOICES and "," not in choice and extra_configs is None and choice not in choices(group):
            raise UserError(no_such_choice(group, choice))
    if extra_configs:
        _check_files(Path(extra_configs))
    search = [f"hydra.searchpath=['file://{Path(extra_configs).absolute()}']"] if extra_configs else []
    try:
        with composing():
            composed = hydra.compose(command, [*words, *search], return_hydra_config=True)
            others = [word for word in words if not sets_epochs([word])]
            own = composed if others == words else hydra.compose(command, [*others, *search])
    except (HydraException, OmegaConfBaseException, *OF_HYDRAS_PARSERS) as error:
        raise UserError(one_line(error, command)) from error
    chosen = composed.hydra.runtime.choices
    with open_dict(composed):
        del composed["hydra"]
    for group in GROUPS:
        node = composed.get(group)
        if node is not None:
            if not OmegaConf.is_interpolation(node, "name"):
                raise UserError(f"{group}.name cannot be set; choose with {group}={node['name']}")
            node["name"] = chosen[group]
    if own is not composed:
        _keep_proportions(composed.recipe, own.recipe.epochs, words)
    composed["overrides"] = words
    return composed


def sets_epochs(words: Sequence[str]) -> bool:
    """Return whether the user sets `recipe.epochs`, and thereby milestones, ramp of sizes and warm-up."""
    return any(word.startswith("recipe.epochs=") for word in words)


def _keep_proportions(recipe: DictConfig, own_epochs: int, words: Sequence[str]) -> None:
    """Shorten or lengthen a schedule with its epochs, the warm-up included; what the user sets stays.

    Args:
        recipe: the recipe with the user's epochs; it is changed.
        own_epochs: epochs for which its files give milestones, warm-up and the like.
        words: the user's words.
    """

    share: float = recipe.epochs / own_epochs

    def scaled(key: str, value: float) -> float:
        if key == "average_decay":  # as in torchvision's reference script
            return max(1 - (1 - value) / share, 0.0)
        counted = key.endswith("_steps") or key == "average_last_epochs"
        return max(round(value * share), 1) if counted else value * share

    given = {word.partition("=")[0] for word in words}
    for key in [key for key in PROPORTIONAL if f"recipe.{key}" not in given]:
        value = recipe[key]
        if isinstance(value, ListConfig):
            recipe[key] = [scaled(key, milestone) for milestone in value]
        elif value is not None:
            recipe[key] = scaled(key, value)


def _check_files(folder: Path) -> None:
    """Read the user's own choices, so that Hydra gets no file that it would not end to read; raises as `read_yaml`."""
    for group in CHOICES:
        for path in sorted((folder / group).glob("*.yaml")):
            if not isinstance(read_yaml(path), dict | None):
                raise UserError(f"{path}: must be settings with values, key: value")


def _object(node: DictConfig, command: str) -> Any:
    try:
        return OmegaConf.to_object(node)
    except OmegaConfBaseException as error:
        raise UserError(one_line(error, command)) from error


@contextmanager
def composing() -> Iterator[None]:
    """Let Hydra read `configs/`, then restore its global state for a program that uses Hydra itself."""
    register_schemas()
    theirs = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = theirs


def register_schemas() -> None:
    """Register the schemas with Hydra in the group `schema`, from which users never choose."""
    store = ConfigStore.instance()
    for name, command in COMMANDS.items():
        store.store(group="schema", name=name, node=command, package="_global_")
    for schemas in SCHEMAS.values():
        for path, schema in schemas.items():
            group, _, name = f"schema/{path}".rpartition("/")
            store.store(group=group, name=name, node=schema)


def schema_of(keys: Iterable[str], schemas: Iterable[type[Schema]]) -> type[Schema]:
    """Return the schema that has all of these keys and a default for every other key, since older files lack some.

    Raises:
        LookupError: no schema fits.
    """
    for schema in schemas:
        known = {f.name: f.default for f in dataclasses.fields(schema)}  # type: ignore[arg-type]
        if {name for name, default in known.items() if default == MISSING} <= set(keys) <= known.keys():
            return schema
    raise LookupError(f"no schema has the keys {sorted(keys)}")


def quoted_path(word: str, sweep: bool = False) -> str:
    """Quote the value of a key that holds a path: Hydra's grammar refuses `~/x`, spaces, accents, brackets and `=`.

    Args:
        word: `key=value`; any other word is returned unchanged.
        sweep: whether the value may be several paths, separated by commas.
    """
    key, separator, value = word.partition("=")
    if key not in PATH_KEYS or not separator or value in ("", "null") or value[0] in "'\"":
        return word
    paths = value.split(",") if sweep else [value]
    return f"{key}=" + ",".join(map(_quoted, paths))


def _quoted(text: str) -> str:
    return "'" + re.sub(r"(\\*)'", r"\1\1\\'", text) + "'"


def as_word(key: str, value: object) -> str:
    """Write a Python value as `key=value` in Hydra's grammar."""
    return f"{key}={value if key in CHOICES else _literal(value)}"


def _literal(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{_literal(item)}' for key, item in value.items())}}}"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return repr(value) if isinstance(value, (int, float)) else _quoted(str(value))


def check_words(words: Sequence[str], command: str) -> None:
    """Raise `UserError` for a word that Hydra accepts but this project does not use."""
    for word in words:
        _check_word(word, command, words)


def _check_word(word: str, command: str, words: Sequence[str]) -> None:
    key, _, value = word.partition("=")
    group, dot, _ = key.partition(".")
    if word.startswith(("+", "~")):
        raise UserError(f"{word}: keys cannot be added or removed; change a value with key=value")
    if key in SWEEP:
        raise UserError(f"{word}: is for a sweep; add -m")
    if group.partition("/")[0] == "hydra":
        raise UserError(f"{word}: this program uses Hydra only to compose settings; leave it out")
    if "${" in value and key not in PATH_KEYS:
        raise UserError(f"{word}: write the value itself; only the files of configs/ may use ${{...}}")
    if value == "???":
        raise UserError(f"{word}: write a value; ??? marks a missing value")
    if not key or "@" in key or ":" in key:
        raise UserError(f"{word}: cannot be read; write key=value")
    if group == EXPERIMENT and command != "train":
        raise UserError(f"{word}: is for train.py; leave it out")
    if group == "overrides":
        raise UserError(unknown_key(key, command))
    if key in CHOICES and (value in ("", "null") or value.startswith("[")):
        raise UserError(f"{word}: choose one name: {', '.join(choices(key))}")
    unnamed = dot and not any(other.startswith((f"{group}=", f"{EXPERIMENT}=")) for other in words)
    if unnamed and (key == "data.root" or (command == "eval" and group in ("data", "model", "recipe"))):
        raise UserError(f"{key}: say which {group} it belongs to: add {group}=NAME; --help lists the names")
