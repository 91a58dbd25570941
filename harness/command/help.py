"""What `--help` prints: what can be chosen, what can be set, and what each key of a group means."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from textwrap import fill
from typing import Any

from harness.config.commands import COMMANDS, GROUPS, SCHEMAS
from harness.config.compose import compose_groups
from harness.config.fields import Setting, declarations, written
from harness.config.files import choices, describe, schema_name
from harness.errors import UserError, nearest
from models.catalogue import MODELS

WIDTH = 110  # characters of a line
TYPES = {"int": "whole number", "float": "number", "bool": "true or false", "str": "text"}

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
        "python train.py -m model=mlp,lenet5 seed=0,1,2             # a sweep: six runs, one after the other",
        "python train.py trainer=smoke                              # a few batches, to see that it runs",
    ),
    "eval": (
        "python eval.py run=runs/lenet5-digits/2026-01-31_12-00-00",
        "python eval.py run=runs/lenet5-digits/2026-01-31_12-00-00 protocol.batch_size=100",
        "python eval.py checkpoint=best_on_validation.ckpt data=mnist data.root=data",
        "python eval.py model=resnet20 weights=resnet20.th data=parquet data.root=cifar10-jpeg",
        "python eval.py -m run=runs/a,runs/b                        # several, one after the other",
    ),
    "compare": (
        "python compare.py",
        "python compare.py runs=runs/lenet5-mnist,runs/mlp-mnist",
        "python compare.py 'runs=runs/*-digits'",
        "python compare.py runs=runs out=figures",
    ),
}


def help_page(command: str) -> str:
    """What can be chosen and set."""
    groups = [group for group in _groups(command) if command == "train" or group != "recipe"]
    lines = [HEADS[command]]
    for group in groups:
        lines += ["", f"{group}=NAME  {GROUPS[group]}", *(_families() if group == "model" else _choices(group))]
    lines += ["", *(_key(name, told, None) for name, told in declarations(COMMANDS[command]).items())]
    if groups:
        lines += ["", f"--help GROUP explains the keys of a group, such as --help {groups[-1]}; they are set with"]
        lines += ["group.key=value. --cfg job shows every key and its value."]
    return "\n".join([*lines, "", "Examples", *(f"    {example}" for example in EXAMPLES[command])])


def _groups(command: str) -> list[str]:
    own = {field.name for field in dataclasses.fields(COMMANDS[command])}
    return [group for group in GROUPS if group in own]


def _families() -> list[str]:
    """The networks, a family a line."""
    families: dict[str, list[str]] = {}
    for name, entry in MODELS.items():
        families.setdefault(entry.family, []).append(name)
    return [
        fill(" ".join(names), WIDTH, initial_indent=f"    {family:<14}", subsequent_indent=" " * 18)
        for family, names in families.items()
    ]


def _choices(group: str) -> list[str]:
    return [f"    {choice:<16} {describe(group, choice)}" for choice in choices(group)]


def group_page(command: str, words: Sequence[str]) -> str:
    """What each key of some groups means, its type, its value and its bounds.

    Args:
        command: `train`, `eval` or `compare`.
        words: names of groups, and what is chosen: `recipe`, or `recipe recipe=finetune`.

    Raises:
        UserError: a word that is not a group, or a choice that does not exist.
    """
    groups = [word for word in words if "=" not in word]
    for group in groups:
        if group not in _groups(command):
            raise UserError(f"--help {group}: no such group; the nearest are: {nearest(group, _groups(command))}")
    chosen = compose_groups(command, [word for word in words if "=" in word], *groups)
    return "\n\n".join(_explained(group, values) for group, values in zip(groups, chosen, strict=True))


def _explained(group: str, values: Any) -> str:
    """Every key of a group: those of what is chosen with their values, then those of other choices."""
    lines = [f"{group}=NAME  {GROUPS[group]}"]
    known: set[str] = set()
    if values is not None:
        lines[0] = f"{group}={values.name}  {describe(group, values.name)}"
        known = set(declarations(type(values)))
        lines += [_key(f"{group}.{k}", told, getattr(values, k)) for k, told in declarations(type(values)).items()]
    for schema, options in SCHEMAS[group].items():
        others = {name: told for name, told in declarations(options).items() if name not in known}
        known |= others.keys()
        if others:
            having = [choice for choice in choices(group) if schema_name(group, choice) == schema]
            lines += ["", fill(f"With {group}={' or '.join(having)}", WIDTH)]
            lines += [_key(f"{group}.{name}", told, None) for name, told in others.items()]
    return "\n".join(lines)


def _key(key: str, told: tuple[dataclasses.Field[Any], Setting], value: Any) -> str:
    """One key: `recipe.epochs=30  whole number, at least 1: passes over the training split`."""
    field, setting = told
    shown = "" if value is None and field.default in (None, dataclasses.MISSING, "???") else written(value)
    if value is None and field.default not in (None, dataclasses.MISSING, "???"):
        shown = written(field.default)
    text = f"{_type(str(field.type), setting)}: {setting.meaning}"
    head = f"    {f'{key}={shown}':<24}  "
    return fill(text, WIDTH, initial_indent=head, subsequent_indent=" " * 30)


def _type(annotation: str, setting: Setting) -> str:
    """What kind of value it is, and within which bounds."""
    inner = re.sub(r" \| None$", "", annotation)
    several = re.match(r"list\[(\w+)\]|dict\[str, (\w+)\]", inner)
    kind = " or ".join(setting.choices) or TYPES[(several[1] or several[2]) if several else inner]
    if several:
        kind = f"list, each a {kind}" if several[1] else f"{{NAME: {kind}}}"
    if setting.path and kind == "text":
        kind = "path"
    bounds = f", {setting.bounds}" if setting.bounds else ""
    return f"{kind}{bounds}{' or null' if annotation.endswith('None') else ''}"
