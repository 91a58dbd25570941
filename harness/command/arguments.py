"""What the tools that take files share: arguments spelt as in the scripts, too, and one line for a mistake."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from harness.config.weights import check_name
from harness.errors import EXIT_CODE, UserError, file_error


class Parser(argparse.ArgumentParser):
    """Takes `out=FILE` for `--out=FILE`, as `train.py` and `eval.py` spell it; a mistake is a `UserError`."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: None = None) -> argparse.Namespace:  # type: ignore[override]
        """The arguments; those of the process by default."""
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
        """Instead of the usage, which takes many lines."""
        raise UserError(f"{message}; --help lists what can be given")


def positive(text: str) -> int:
    """A whole number of at least 1; `ValueError` for anything else, which argparse turns into a line."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def at_least_0(text: str) -> int:
    """A whole number of at least 0."""
    return positive(str(int(text) + 1)) - 1


def add_network(parser: argparse.ArgumentParser) -> None:
    """The options that name pretrained weights instead of a run folder or a file."""
    parser.add_argument("--model", help="of pretrained weights: a name of the catalogue (python -m models)")
    parser.add_argument(
        "--weights",
        help="pretrained ones of --model: IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT (torchvision's), timm:<model>.<tag>, "
        "or a file: .pth .pt .th .safetensors .ckpt",
    )
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        help="data set that --weights were trained on, for a file that does not say: imagenet, cifar10, ...; "
        "its values are set as in the scripts: data.mean=[0.5,0.5,0.5]",
    )


def check_network(given: argparse.Namespace, place: Path | None) -> None:
    """Raise `UserError` unless one network is named: by its place, or by `--model` and `--weights`."""
    if bool(given.weights) != bool(given.model):
        raise UserError("model= and weights= belong together")
    if (given.weights is None) == (place is None):
        raise UserError("name one network: a run folder, a file of one, or model=NAME weights=...")
    if given.weights is None and given.data:
        raise UserError(f"data={given.data[0]}: belongs with weights=; a run or a checkpoint names its own")
    if place is not None and not place.exists():
        raise UserError(f"{place}: there is no such run folder or file")
    if given.weights is not None:
        check_name(given.weights, given.model)


def main(parser: Parser, task: Callable[[argparse.Namespace], int]) -> int:
    """The exit code of a tool: its task's, 2 for a user's mistake, which is told in one line."""
    try:
        return task(parser.parse_args())
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return EXIT_CODE
    except OSError as error:
        print(f"{parser.prog}: {file_error(error)}", file=sys.stderr)
        return EXIT_CODE
