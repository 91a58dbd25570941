"""`cnn-zoo COMMAND ...`: every command of an installed cnn-zoo; each is a script of the repository as well.

Nothing here takes long to import: a command listens for signals before it imports anything else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib import metadata
from typing import NamedTuple

from harness.errors import EXIT_CODE, nearest
from harness.run.interruption import listen
from harness.run.printable import say
from harness.run.program import ZOO


class Command(NamedTuple):
    """A command.

    Attributes:
        meaning: its line in `cnn-zoo --help`.
        run: reads `sys.argv[1:]`; returns the exit code, or exits.
    """

    meaning: str
    run: Callable[[], int | None]


def main() -> int:
    """Run the command that the first word names; returns the exit code."""
    word = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if word in ("-h", "--help"):
        print(_page())
        return 0
    if word == "--version":
        print(f"{ZOO} {metadata.version(ZOO)}")
        return 0
    if word not in COMMANDS:
        known = [*COMMANDS, "--help", "--version"]
        say(f"{ZOO}: {word}: no such command; the nearest are: {nearest(word, known)}", sys.stderr)
        return EXIT_CODE
    sys.argv[:2] = [f"{ZOO} {word}"]  # as `harness.run.program` expects it
    listen(sys.argv[0])
    return COMMANDS[word].run() or 0


def _page() -> str:
    lines = [f"The classic convolutional networks, trained and evaluated: {ZOO} COMMAND ...", ""]
    lines += [f"    {name:<20}{command.meaning}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "", f"{ZOO} COMMAND --help explains a command; {ZOO} --version prints the version"])


def _configured(command: str) -> None:
    from harness.command.cli import main

    main(command)


def _predict() -> int:
    from harness.command.predict import main

    return main()


def _visualize() -> int:
    from harness.command.visualize import main

    return main()


def _errors() -> int:
    from harness.command.errors import main

    return main()


def _audit() -> int:
    from harness.command.audit import main

    return main()


def _tune() -> None:
    from harness.command.tune import main

    main()


def _lr_range() -> None:
    from harness.command.lr_range import main

    main()


def _export() -> int:
    from harness.command.export import main

    return main()


def _prepare_imagenet() -> int:
    from harness.command.prepare_imagenet import main

    return main()


def _shard() -> int:
    from harness.command.shard import main

    return main()


def _models() -> int:
    from models.__main__ import main

    return main(f"{ZOO} models")


COMMANDS = {
    "train": Command("train a network and report its error on the test split", partial(_configured, "train")),
    "eval": Command("evaluate a run, a checkpoint or pretrained weights on a test split", partial(_configured, "eval")),
    "compare": Command("compare models by the records of their runs", partial(_configured, "compare")),
    "tune": Command("search for settings by the validation error, pruning bad runs early", _tune),
    "lr_range": Command("measure at which learning rates the loss falls: a picture", _lr_range),
    "predict": Command("name what is on pictures", _predict),
    "visualize": Command("show what a network sees on pictures: one page of HTML", _visualize),
    "errors": Command("show why a network is wrong, or where two differ: one page of HTML", _errors),
    "audit": Command("find labels that are probably wrong, and near-duplicates across splits", _audit),
    "export": Command("write a network for other programs, and compare the file with the network", _export),
    "prepare_imagenet": Command("unpack the official archives of ImageNet into folders", _prepare_imagenet),
    "shard": Command("pack a data set into tars that data=shards reads", _shard),
    "models": Command("list the networks: parameters, sizes, published errors", _models),
}
