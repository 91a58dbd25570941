"""What the command line says: the help page, and one line for a mistake."""

from __future__ import annotations

import re
from pathlib import Path

from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from harness.errors import UserError, nearest

CONFIGS = Path(__file__).parents[2] / "configs"

GROUPS = {
    "model": "the network",
    "data": "the images; each data set names the recipe that suits it",
    "recipe": "how it is trained: epochs, batch size, learning rate, augmentation",
    "protocol": "how it is evaluated",
    "trainer": "where it runs: device, processes, threads",
}
HELP = {
    "train": (
        "Train a network and report its error on the test split: python train.py [group=NAME] [key=value] ...\n"
        "Everything is written to a new folder, runs/<model>-<data>/<date>_<time>/. Keys of their own:\n"
        "    seed=0      of the initialisation, the order of images, augmentation and dropout\n"
        "    weights=    that the network begins with: IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT (torchvision's),\n"
        "                timm:<model>.<tag>, a file: .pth .pt .th .safetensors .ckpt, or a run folder\n"
        "    runs=runs   where run folders are made\n"
        "    resume=     a run folder to go on with, or auto: the newest unfinished run of the same settings",
        (
            "python train.py                                            # LeNet-5 on handwritten digits, offline",
            "python train.py model=lenet5 data=mnist recipe.epochs=12   # MNIST; downloaded to data/ when missing",
            "python train.py -m model=mlp,lenet5 seed=0,1,2             # a sweep: six runs, one after the other",
            "python train.py trainer=smoke                              # a few batches, to see that it runs",
        ),
    ),
    "eval": (
        "Evaluate a network on a test split: python eval.py run=FOLDER|checkpoint=FILE|weights=... [key=value] ...\n"
        "The record is written to a new folder, runs/<model>-<data>/<date>_<time>-eval/. Keys of their own:\n"
        "    run=FOLDER       a run folder; the checkpoint that it reports is evaluated\n"
        "    checkpoint=FILE  a checkpoint\n"
        "    weights=         pretrained ones, with model= and data=: IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT\n"
        "                     (torchvision's), timm:<model>.<tag>, a file: .pth .pt .th .safetensors .ckpt, or a run\n"
        "    force=true       record a score even if it means nothing\n"
        "    runs=runs        where the evaluation's own folder is made",
        (
            "python eval.py run=runs/lenet5-digits/2026-01-31_12-00-00",
            "python eval.py run=runs/lenet5-digits/2026-01-31_12-00-00 protocol.batch_size=100",
            "python eval.py checkpoint=best_on_validation.ckpt data=mnist data.root=data",
            "python eval.py model=resnet20 weights=resnet20.th data=parquet data.root=cifar10-jpeg",
            "python eval.py -m run=runs/a,runs/b                        # several, one after the other",
        ),
    ),
    "compare": (
        "Compare models by the records of their runs: python compare.py [key=value] ...\n"
        "One table for each data set, split and protocol, and a picture, in a new folder. Keys:\n"
        "    runs=runs        folders that are searched for records, or patterns of them, with commas between\n"
        "    out=comparisons  where the comparison's own folder is made",
        (
            "python compare.py",
            "python compare.py runs=runs/lenet5-mnist,runs/mlp-mnist",
            "python compare.py 'runs=runs/*-digits'",
            "python compare.py runs=runs out=figures",
        ),
    ),
}


def choices(group: str) -> list[str]:
    """The names that a config group offers."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def help_page(name: str) -> str:
    """What can be chosen and set, read from `configs/`: the text of `--help`."""
    primary = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")
    groups = [g for g in re.findall(r"^  - (\w+): ", primary, re.MULTILINE) if name == "train" or g != "recipe"]
    lines = [HELP[name][0], ""]
    for group in groups:
        lines.append(f"{group}=NAME  {GROUPS[group]}")
        for choice in choices(group):
            text = (CONFIGS / group / f"{choice}.yaml").read_text(encoding="utf-8")
            lines.append(f"    {choice:<16} {re.findall(r'^# (?!@)(.*)', text, re.MULTILINE)[0]}")
    if groups:
        lines += ["", "Anything inside a group is set with group.key=value; --cfg job shows every key and its value."]
    return "\n".join([*lines, "", "Examples", *(f"    {example}" for example in HELP[name][1])])


def one_line(error: Exception) -> str:
    """What is wrong and the nearest valid choices, out of an exception of Hydra's, OmegaConf's or our own."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return f"{group}={option}: no such choice; the nearest are: {nearest(option, error.options)}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read; write key=value, with quotes around a value that has odd characters"
    ambiguous = re.match(r"Ambiguous value for argument '(.*?)'", str(error))
    if ambiguous:
        return f"{ambiguous[1]}: one value belongs here; -m runs a sweep over several"
    unknown_group = re.match(r"Could not override '(\w+)'. No match", str(error))
    if unknown_group:
        return f"{unknown_group[1]}: no such group; the nearest are: {nearest(unknown_group[1], GROUPS)}"
    cause = error.__cause__ if isinstance(error, ConfigCompositionException) else error
    key = getattr(cause, "full_key", None)
    if key and isinstance(cause, OmegaConfBaseException):
        valid = _keys(getattr(cause, "parent_node", None))
        leaf = str(key).rpartition(".")[2]
        if valid and leaf not in valid:
            prefix = str(key)[: -len(leaf)]
            near = nearest(leaf, valid).split(", ")
            return f"{key}: no such key; the nearest are: {', '.join(prefix + word for word in near)}"
        return f"{key}: {str(cause.msg or cause).splitlines()[0]}"
    return " ".join(str(error).split())


def _keys(node: object) -> list[str]:
    return [str(key) for key in node if key != "name"] if isinstance(node, DictConfig) and not node._is_none() else []
