"""From a command line to a typed config: what `train.py` and `eval.py` share.

Hydra composes. A user's mistake becomes one line and exit code 2, before torch is imported; a sweep (`-m`) composes
and checks every job before the first starts, and runs each in a process of its own.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from harness.build import check
from harness.config import PATH_KEYS, Config, register_schemas, typed_config
from harness.errors import EXIT_CODE, UserError, nearest

CONFIGS = Path(__file__).parent.parent / "configs"


def main(name: str, schema: type[Config], task: Callable[[Config], None]) -> None:
    """Run `task` with the config that the command line asks for, and exit.

    Args:
        name: of the primary config, `configs/<name>.yaml`, and of the script.
        schema: the dataclass of that config.
        task: the script's work; what it raises as `UserError` is printed as one line.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's errors come to us instead of being printed
    sweep = bool({"-m", "--multirun"} & set(sys.argv))
    sys.argv[1:] = arguments = [_quoted_path(argument, sweep) for argument in sys.argv[1:]]
    register_schemas()
    mistakes: list[UserError] = []

    @hydra.main(config_path=str(CONFIGS), config_name=name, version_base="1.3")
    def compose_and_run(composed: DictConfig) -> None:
        try:
            config = typed_config(composed, schema)
            check(config)
            task(config)
        except UserError as error:  # Hydra prints a line of its own about what leaves this function
            mistakes.append(error)

    try:
        if {"-h", "--help"} & set(arguments):
            print(help_page(name))
            return
        parser = get_args_parser()
        parser.error = _unknown_option  # type: ignore[method-assign]  # argparse would print its usage over 30 lines
        options = parser.parse_args(arguments)
        for override in options.overrides:
            _check_form(override)
        if options.multirun:
            sys.exit(_sweep(name, schema, options.overrides))
        compose_and_run()
        if mistakes:
            raise mistakes[0]
    except (HydraException, OmegaConfBaseException, UserError) as error:
        sys.exit(_fail(name, _one_line(error)))


def _fail(name: str, message: str) -> int:
    log = logging.getLogger("cnn_zoo")
    if log.handlers:  # a run folder was made: the line belongs in its log.txt too, and only rank 0 speaks
        log.error(f"{name}.py: {message}")
    else:
        print(f"{name}.py: {message}", file=sys.stderr)
    return EXIT_CODE


def _unknown_option(message: str) -> NoReturn:
    raise UserError(f"{message}; settings are written key=value, such as seed=1; --help lists them")


def _check_form(override: str) -> None:
    """Refuse what Hydra's grammar allows and this project has no use for."""
    key, _, value = override.partition("=")
    if override.startswith(("+", "~")):
        raise UserError(f"{override}: every key has a value already; change one with key=value")
    if key in GROUPS and (value in ("", "null") or value.startswith("[")):
        raise UserError(f"{override}: one name belongs here: {', '.join(_choices(key))}")


def _choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def _quoted_path(argument: str, sweep: bool) -> str:
    """Quote the value of a key that holds a path: Hydra's grammar refuses `~/x`, spaces, accents, brackets and `=`."""
    key, separator, value = argument.partition("=")
    if key not in PATH_KEYS or not separator or value in ("", "null") or value[0] in "'\"":
        return argument
    paths = value.split(",") if sweep else [value]
    return f"{key}=" + ",".join("'" + re.sub(r"(\\*)'", r"\1\1\\'", path) + "'" for path in paths)


def _sweep(name: str, schema: type[Config], overrides: list[str]) -> int:
    """Run every combination of the swept values, each in a fresh process; exit code 1 if one failed."""
    jobs = _checked_jobs(name, schema, overrides)
    failed: list[str] = []
    for number, job in enumerate(jobs, 1):
        print(f"job {number} of {len(jobs)}: {' '.join(job)}", flush=True)
        if subprocess.run([sys.executable, sys.argv[0], *job], check=False).returncode:
            failed.append(" ".join(job))
    for job_line in failed:
        print(f"failed: {job_line}", file=sys.stderr)
    print(f"{len(jobs) - len(failed)} of {len(jobs)} jobs done")
    return 1 if failed else 0


def _checked_jobs(name: str, schema: type[Config], overrides: list[str]) -> list[list[str]]:
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        jobs = _combinations(overrides)
        for job in jobs:
            _check_job(name, schema, job)
        return jobs


def _combinations(overrides: list[str]) -> list[list[str]]:
    """The overrides of each job: every value of one swept key with every value of the others."""
    parsed = OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(overrides)
    swept = [
        [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
        if o.is_sweep_override()
        else [str(o.input_line)]
        for o in parsed
    ]
    return [list(job) for job in itertools.product(*swept)]


def _check_job(name: str, schema: type[Config], job: list[str]) -> None:
    try:
        composed = hydra.compose(name, job, return_hydra_config=True)
        HydraConfig.instance().set_config(composed)
        with open_dict(composed):
            del composed["hydra"]
        check(typed_config(composed, schema))
    except (HydraException, OmegaConfBaseException, UserError) as error:
        raise UserError(f"job {' '.join(job)}: {_one_line(error)}; no job was started") from error


def _one_line(error: Exception) -> str:
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


def help_page(name: str) -> str:
    """What can be chosen and set, read from `configs/`: the text of `--help`."""
    primary = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")
    groups = [g for g in re.findall(r"^  - (\w+): ", primary, re.MULTILINE) if name == "train" or g != "recipe"]
    lines = [HELP[name][0], ""]
    for group in groups:
        lines.append(f"{group}=NAME  {GROUPS[group]}")
        for choice in _choices(group):
            text = (CONFIGS / group / f"{choice}.yaml").read_text(encoding="utf-8")
            lines.append(f"    {choice:<16} {re.findall(r'^# (?!@)(.*)', text, re.MULTILINE)[0]}")
    lines += ["", "Anything inside a group is set with group.key=value; --cfg job shows every key and its value.", ""]
    return "\n".join([*lines, "Examples", *(f"    {example}" for example in HELP[name][1])])


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
        "    runs=runs   where run folders are made",
        (
            "python train.py                                            # LeNet-5 on handwritten digits, offline",
            "python train.py model=lenet5 data=mnist recipe.epochs=12   # MNIST; downloaded to data/ when missing",
            "python train.py -m model=mlp,lenet5 seed=0,1,2             # a sweep: six runs, one after the other",
            "python train.py trainer=smoke                              # a few batches, to see that it runs",
        ),
    ),
    "eval": (
        "Evaluate a trained network on a test split: python eval.py run=FOLDER|checkpoint=FILE [key=value] ...\n"
        "The record is written to a new folder, runs/<model>-<data>/<date>_<time>-eval/. Keys of their own:\n"
        "    run=FOLDER       a run folder; its last checkpoint is evaluated\n"
        "    checkpoint=FILE  a checkpoint\n"
        "    runs=runs        where the evaluation's own folder is made",
        (
            "python eval.py run=runs/lenet5-digits/2026-01-31_12-00-00",
            "python eval.py run=runs/lenet5-digits/2026-01-31_12-00-00 protocol.batch_size=100",
            "python eval.py checkpoint=best_on_validation.ckpt data=mnist data.root=data",
            "python eval.py -m run=runs/a,runs/b                        # several, one after the other",
        ),
    ),
}
