"""`eval.py` of several networks: `model=[a,b]`, `model='resnet*'`, `run=[A,B]`; each becomes a config of its own.

Nothing here loads torch, so that a mistake in any of them is found at once and before a picture is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import filter as like
from glob import glob
from pathlib import Path

from harness.config.commands import EvalConfig
from harness.config.compose import compose
from harness.config.files import CONFIG_FILE, choices
from harness.config.weights import check_name, is_file
from harness.errors import UserError, nearest
from harness.run.log import log
from harness.run.resume import EVALUATION

PATTERN = "*?"  # characters of a pattern


def names_several(words: Sequence[str]) -> bool:
    """Return whether these words of `eval.py` name several networks, or an evaluation to go on with."""
    return any(_several(word) or word.startswith("resume=") for word in words)


def _several(word: str) -> bool:
    key, _, value = word.partition("=")
    if key not in ("model", "run") or (key == "run" and Path(value).expanduser().exists()):
        return False
    return value.startswith("[") or any(sign in value for sign in PATTERN)


def configs_of(words: Sequence[str], extra_configs: str | None) -> list[EvalConfig]:
    """Return the checked config of each network.

    Args:
        words: of the command line.
        extra_configs: another folder like `configs/`.

    Raises:
        UserError: a name or a pattern names nothing, or the settings of one of the networks have a mistake.
    """
    named = [word for word in words if _several(word)]
    if len(named) > 1:
        raise UserError(f"{named[0]} {named[1]}: give several networks by one of them")
    if not named:
        return [_checked(list(words), extra_configs)]
    word, key = named[0], named[0].partition("=")[0]
    others = [other for other in words if other != word]
    if any(other.startswith("verify=") for other in others):
        raise UserError(f"{word}: verify=all takes one network, or all; leave model= out, or name one")
    found = _models(word, others) if key == "model" else _runs(word)
    configs = []
    for name in found:
        try:
            configs.append(_checked([f"{key}={name}", *others], extra_configs))
        except UserError as error:
            raise UserError(f"{error} (of {key}={name}; no network was evaluated)") from error
    return configs


def _checked(words: list[str], extra_configs: str | None) -> EvalConfig:
    config = compose("eval", words, extra_configs)
    from harness.stories.check import check  # a mistake in the words is found before this is loaded

    check(config)
    return config


def _items(word: str, matching: Callable[[str], list[str]]) -> tuple[list[str], list[str]]:
    """Return the names that stand in a word, and those that its patterns add, each once."""
    value = word.partition("=")[2]
    inside = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    named: list[str] = []
    matched: list[str] = []
    for item in filter(None, (part.strip().strip("'\"") for part in inside.split(","))):
        (matched if any(sign in item for sign in PATTERN) else named).append(item)
    by_pattern = [name for pattern in matched for name in matching(pattern)]
    return list(dict.fromkeys(named)), [name for name in dict.fromkeys(by_pattern) if name not in named]


def _models(word: str, others: Sequence[str]) -> list[str]:
    """Return the names of networks; those that a pattern names are left out if they lack the weights."""
    known = choices("model")
    weights = next((other.partition("=")[2] for other in others if other.startswith("weights=")), None)
    if weights is not None and is_file(weights):
        raise UserError(f"{word} weights={weights}: a file holds the weights of one network; name that network")
    named, matched = _items(word, lambda pattern: like(known, pattern))
    lacking = [name for name in matched if weights is not None and not _has(name, weights)]
    found = [*named, *(name for name in matched if name not in lacking)]
    if not found and not lacking:
        raise UserError(f"{word}: names no network; the nearest are: {nearest(word.partition('=')[2], known)}")
    if not found:
        raise UserError(f"{word} weights={weights}: none of these {len(lacking)} networks has such weights")
    if lacking:
        log.info(f"{word}: left out, because they have no weights={weights}: {', '.join(lacking)}")
    return found


def _has(model: str, weights: str) -> bool:
    try:
        check_name(weights, model)
    except UserError:
        return False
    return True


def _runs(word: str) -> list[str]:
    """Return the folders of runs; what a pattern finds beside them, evaluations among them, is left out."""
    named, matched = _items(word, lambda pattern: sorted(glob(str(Path(pattern).expanduser()))))  # noqa: PTH207
    absent = next((name for name in named if not _is_run(name)), None)
    if absent is not None:
        raise UserError(f"run={absent}: not the folder of a run (it has no {CONFIG_FILE}); no network was evaluated")
    others = [name for name in matched if not _is_run(name) or EVALUATION in Path(name).name]
    found = [*named, *(name for name in matched if name not in others)]
    if not found:
        raise UserError(f"{word}: names no folder of a run; a run has a {CONFIG_FILE}, as in 'run=runs/*-digits/*'")
    if others:
        log.info(f"{word}: left out, because they are no runs: {', '.join(others)}")
    return found


def _is_run(name: str) -> bool:
    return (Path(name).expanduser() / CONFIG_FILE).is_file()
