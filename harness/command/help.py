"""The pages of `--help`: the choices, the keys of a command, and what each key of a group means."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from textwrap import fill, shorten
from typing import Any

from omegaconf import MISSING

from harness.config.commands import COMMANDS, EXPERIMENT, GROUPS, SCHEMAS, SWEEP, keys_of
from harness.config.compose import compose_groups
from harness.config.fields import Declaration, Setting, declarations, written
from harness.config.files import choices, describe, schema_name
from harness.errors import UserError, nearest
from models.catalogue import MODELS

WIDTH = 110  # most characters of a line
FEW = 10  # choices of a group that the page describes
TYPES = {"int": "whole number", "float": "number", "bool": "true or false", "str": "text"}
SEVERAL = {"int": "whole numbers", "float": "numbers", "str": "words"}

HEADS = {
    "train": (
        "Train a network and report its error on the test split: python train.py [group=NAME] [key=value] ...\n"
        "Everything is written to a new folder, runs/<model>-<data>/<date>_<time>/."
    ),
    "eval": (
        "Evaluate a network on a test split: python eval.py run=FOLDER|checkpoint=FILE|weights=... [key=value] ...\n"
        "The record is written to a new folder, runs/<model>-<data>/<date>_<time>-eval/."
    ),
    "compare": (
        "Compare models by the records of their runs: python compare.py [key=value] ...\n"
        "One table for each data set, split and protocol, and a picture, in a new folder."
    ),
}
EXAMPLES = {
    "train": (
        "python train.py                                            # LeNet-5 on handwritten digits, offline",
        "python train.py model=lenet5 data=mnist recipe.epochs=12   # MNIST; downloaded to data/ when missing",
        "python train.py -m model=mlp,lenet5 seed=0,1,2 jobs=2      # a sweep: six runs, two at once",
    ),
    "eval": (
        "python eval.py run=runs/lenet5-digits/2026-01-31_12-00-00",
        "python eval.py run=runs/lenet5-digits/2026-01-31_12-00-00 protocol.batch_size=100",
        "python eval.py checkpoint=best_on_validation.ckpt data=mnist data.root=data",
        "python eval.py model=resnet20 weights=resnet20.th data=parquet data.root=cifar10-jpeg",
        "python eval.py 'run=[runs/a,runs/b]'                       # several; each picture is decoded once for all",
        "python eval.py model='resnet*' weights=IMAGENET1K_V1 data=imagenet data.root=data/imagenet",
        "python eval.py -m run=runs/a,runs/b                        # several, one after the other",
    ),
    "compare": (
        "python compare.py",
        "python compare.py runs=runs/lenet5-mnist,runs/mlp-mnist",
        "python compare.py 'runs=runs/*-digits'",
        "python compare.py runs=runs out=figures",
        "python compare.py why=runs/lenet5-mnist/DATE_TIME,runs/mlp-mnist/DATE_TIME",
    ),
}


def help_page(command: str) -> str:
    """Return the page that lists the choices and the keys of a command."""
    groups = [group for group in _groups(command) if command == "train" or group != "recipe"]
    lines = [HEADS[command], ""]
    for group in groups:
        lines += [f"{group}=NAME  {GROUPS[group]}", *(_families() if group == "model" else _choices(group))]
    if command == "train":
        lines += [
            f"{EXPERIMENT}=NAME  a row of docs/results.md: all of the above, chosen by one word",
            *_choices(EXPERIMENT),
        ]
    lines += ["Keys of their own; --help KEY says more"]
    for name, key in declarations(COMMANDS[command]).items():
        lines.append(f"    {f'{name}={_default(key)}':<16} {re.split('[;:]', key.setting.meaning)[0]}")
    if command == "train":
        lines.append(
            "-m makes a sweep, which takes jobs=N, choose=validation, show=all, hydra/launcher=NAME; --help jobs"
        )
    if groups:
        lines.append(f"--help {groups[-1]} explains the choices and keys of a group; --cfg job shows every key")
    return "\n".join([*lines, "", *EXAMPLES[command]])


def _groups(command: str) -> list[str]:
    own = {field.name for field in dataclasses.fields(COMMANDS[command])}
    return [group for group in GROUPS if group in own]


def _families() -> list[str]:
    """Return the names of the networks, one line for each family."""
    families: dict[str, list[str]] = {}
    for name, entry in MODELS.items():
        families.setdefault(entry.family, []).append(name)
    return [
        fill(" ".join(names), WIDTH, initial_indent=f"    {family:<14}", subsequent_indent=" " * 18)
        for family, names in families.items()
    ]


def _choices(group: str) -> list[str]:
    """The choices of a group: a line each, or only their names if they are many."""
    names = choices(group)
    if len(names) > FEW:
        return [fill(" ".join(names), WIDTH, initial_indent="    ", subsequent_indent="    ")]
    return _described(group)


def _described(group: str) -> list[str]:
    said = {choice: shorten(describe(group, choice), WIDTH - 21, placeholder=" ...") for choice in choices(group)}
    return [f"    {choice:<16} {text}" for choice, text in said.items()]


def group_page(command: str, words: Sequence[str]) -> str:
    """Return the page that explains keys: type, value, bounds and meaning.

    Args:
        command: `train`, `eval` or `compare`.
        words: groups, keys and choices: `recipe`, `seed`, or `recipe recipe=finetune`.

    Raises:
        UserError: a word is neither a group nor a key, or a choice does not exist.
    """
    asked = [word for word in words if "=" not in word]
    keys = {**keys_of(command), **SWEEP}
    groups = [word for word in asked if word in _groups(command)]
    for word in asked:
        if word not in groups and word not in keys:
            known = nearest(word, [*_groups(command), *keys])
            raise UserError(f"--help {word}: no such group or key; the nearest are: {known}")
    values = compose_groups(command, [word for word in words if "=" in word], *groups)
    pages = [_explained(group, chosen) for group, chosen in zip(groups, values, strict=True)]
    own = [_key(name, keys[name], _default(keys[name])) for name in asked if name in keys]
    return "\n\n".join(["\n".join(own)] * bool(own) + pages)


def _explained(group: str, values: Any) -> str:
    """Explain every key of a group: first those of the chosen file with their values, then those of other choices."""
    lines = [f"{group}=NAME  {GROUPS[group]}"]
    if group != "model":
        lines += [*_described(group), ""]
    known: set[tuple[str, Setting]] = set()
    if values is not None:
        own = declarations(type(values))
        lines.append(f"With {group}={values.name}")
        lines += [_key(f"{group}.{name}", key, written(getattr(values, name))) for name, key in own.items()]
        known = {(name, key.setting) for name, key in own.items()}
    for schema, options in SCHEMAS[group].items():
        others = {name: key for name, key in declarations(options).items() if (name, key.setting) not in known}
        known |= {(name, key.setting) for name, key in others.items()}
        if others:
            having = [choice for choice in choices(group) if schema_name(group, choice) == schema]
            lines += ["", fill(f"With {group}={' or '.join(having)}", WIDTH)]
            lines += [_key(f"{group}.{name}", key, _default(key)) for name, key in others.items()]
    return "\n".join(lines)


def _key(name: str, key: Declaration, value: str) -> str:
    """Explain a key: `recipe.epochs=30  whole number, at least 1: passes over the training split`."""
    head = f"    {f'{name}={value}':<24}  "
    return fill(f"{_type(key)}: {key.setting.meaning}", WIDTH, initial_indent=head, subsequent_indent=" " * 30)


def _default(key: Declaration) -> str:
    """Return the default of a key; empty if a file of `configs/` gives it."""
    return "" if key.default == MISSING else written(key.default)


def _type(key: Declaration) -> str:
    """Return the type of a key's value and its bounds."""
    annotation, setting = key.annotation, key.setting
    inner = annotation.removesuffix(" | None")
    of_list, of_dict = re.match(r"list\[(\w+)\]", inner), re.match(r"dict\[str, (\w+)\]", inner)
    if of_list:
        kind = f"list of {SEVERAL[of_list[1]]}"
    elif of_dict:
        kind = f"{{NAME: {TYPES[of_dict[1]]}}}"
    else:
        kind = " or ".join(setting.choices) or ("path" if setting.path else TYPES[inner])
    bounds = f", {setting.bounds}" if setting.bounds else ""
    return f"{kind}{bounds}{', or null' if inner != annotation else ''}"
