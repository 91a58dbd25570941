"""What the commands that take files share: their arguments, the options that name a network, one line for a mistake."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, cast

from harness.config.compose import compose_groups
from harness.config.weights import check_map, check_name
from harness.errors import EXIT_CODE, UserError, file_error
from harness.prediction.pictures import find_images
from harness.run.printable import say
from harness.run.program import typed

if TYPE_CHECKING:
    from harness.config.data import DataConfig


class Parser(argparse.ArgumentParser):
    """Also takes `out=FILE` for `--out=FILE`, as `train` and `eval` write it. A mistake raises `UserError`."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: None = None) -> argparse.Namespace:  # type: ignore[override]
        """Parse `args`, or the arguments of the process."""
        words = list(sys.argv[1:] if args is None else args)
        end = words.index("--") if "--" in words else len(words)  # behind it nothing is an option
        options = [self._as_option(word) for word in words[:end]]
        return super().parse_intermixed_args(options + words[end:], namespace)

    def _as_option(self, word: str) -> str:
        group, separator, _ = word.partition("=")[0].partition(".")
        if "=" not in word or f"--{group}" not in self._option_string_actions:
            return word
        return f"--{group}={word}" if separator else f"--{word}"

    def error(self, message: str) -> NoReturn:
        """Raise `UserError`, where argparse would print many lines and exit."""
        file = next((word for word in sys.argv[1:] if word.startswith("-") and Path(word).exists()), None)
        hint = f"; {file} is a file: write -- before names that begin with -" if file else ""
        if "required" in message:
            message = re.sub(r"--(\w+)", r"\1=...", message)
        raise UserError(f"{message}{hint}; --help lists what can be given")


def positive(text: str) -> int:
    """Return a whole number of at least 1; raise `ValueError` for anything else, which argparse turns into a line."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def at_least_0(text: str) -> int:
    """Return a whole number of at least 0; raise `ValueError` for anything else."""
    return positive(str(int(text) + 1)) - 1


def add_network(parser: argparse.ArgumentParser, also: str = "") -> None:
    """Add the options that name pretrained weights instead of a run folder or a file.

    Args:
        parser: of the command.
        also: what else the command takes `--data` for, in its help.
    """
    listed = typed("python -m models")
    parser.add_argument("--model", help=f"network of --weights: a name of the catalogue, which {listed} lists")
    parser.add_argument(
        "--weights",
        help="pretrained weights of --model: IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT (torchvision's), "
        "timm:<model>.<tag>, or a file: .pth .pt .th .safetensors .ckpt",
    )
    parser.add_argument(
        "--weights_map",
        "--weights-map",
        help="file of YAML that calls the tensors or modules of that file by our names, theirs: ours",
    )
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        help="data set that --weights were trained on, if their file does not say so: imagenet, cifar10, ...; "
        f"data.mean=[0.5,0.5,0.5] changes one of its settings{also}",
    )


def check_network(given: argparse.Namespace, place: Path | None, *, data_of_weights: bool = True) -> None:
    """Raise `UserError` unless one network is named: by its place, or by `--model` and `--weights`.

    Args:
        given: the options of `add_network`.
        place: a run folder or a file; None if there is none.
        data_of_weights: whether `--data` says nothing but what weights were trained on, so that no place has it.
    """
    if bool(given.weights) != bool(given.model):
        raise UserError("model= and weights= belong together")
    if (given.weights is None) == (place is None):
        raise UserError("name one network: a run folder, a file of one, or model=NAME weights=...")
    if given.weights is None and given.data and data_of_weights:
        raise UserError(f"data={given.data[0]}: belongs with weights=; a run or a checkpoint names its own")
    if place is not None and not place.exists():
        raise UserError(f"{place}: there is no such run folder or file")
    if given.weights is not None:
        check_name(given.weights, given.model)
    if given.weights_map is not None:
        check_map(given.weights_map, given.weights)


def check_new_folder(out: Path | None) -> None:
    """Raise `UserError` unless a folder can be made there; None is one that is chosen later."""
    if out and (out.exists() or out.is_symlink()):
        raise UserError(f"out={out}: this folder exists; name a new one")
    if out and not out.parent.is_dir():
        raise UserError(f"out={out}: there is no folder {out.parent}")


def beside(run: Path, what: str) -> Path:
    """A folder beside that of a run, such as `DATE_TIME-errors`; of a file, beside the folder that holds it."""
    folder = (run if run.is_dir() else run.parent).resolve()
    return (run if run.is_dir() else run.parent).with_name(f"{folder.name}-{what}")


def main(parser: Parser, task: Callable[[argparse.Namespace], int]) -> int:
    """Parse the arguments and run a task.

    Args:
        parser: of the command.
        task: gets the arguments; returns the exit code.

    Returns:
        The exit code of the task. A user's mistake is printed as one line and gives 2.
    """
    try:
        return task(parser.parse_args())
    except UserError as error:
        say(f"{parser.prog}: {error}", sys.stderr)
        return EXIT_CODE
    except OSError as error:
        say(f"{parser.prog}: {file_error(error)}", sys.stderr)
        return EXIT_CODE


def pictures(words: Sequence[str]) -> list[bytes]:
    """The picture files that words name; files that are passed by are told on standard error.

    Raises:
        UserError: no file was found.
    """
    found = find_images(words, sys.stdin.buffer)
    for line in found.others:
        say(line, sys.stderr)
    return found.images


def data_set(words: Sequence[str]) -> DataConfig | None:
    """Settings of the data set that --data names; None if it names none."""
    (data,) = compose_groups("eval", [word if "=" in word else f"data={word}" for word in words], "data")
    return cast("DataConfig | None", data)
