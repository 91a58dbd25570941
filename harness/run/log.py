"""The log of a run: its lines go to the terminal if a command runs it, and to `log.txt` in its folder. No torch."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from harness.config.commands import EvalConfig, TrainConfig
from harness.config.data import DataConfig, ImageFilesConfig
from harness.run.printable import printable

log = logging.getLogger("cnn_zoo")
FIRST = "first"  # attribute of the record that `begin` makes


def _made_printable(record: logging.LogRecord) -> bool:
    """Make each line fit to print, whatever the files are called that it tells of; a message is a line, or a list."""
    lines = record.msg if isinstance(record.msg, list) else [record.getMessage()]
    record.msg, record.args = "\n".join(line if line.isprintable() else printable(line) for line in lines), None
    return True


log.addFilter(_made_printable)


class _LogFile(logging.FileHandler):
    """Writes `log.txt`; a failing write raises like any other error."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Raise the error; logging would print a traceback and go on."""
        raise


class _Console(logging.Handler):
    """Prints to the present standard output or error, or by what shows a progress bar, so that lines stand above it."""

    above: ClassVar[Callable[[str], None] | None] = None
    begun = False  # whether the line of `begin` was printed

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, FIRST):
            if self.begun:
                return
            self.begun = True
        if _Console.above is not None:
            _Console.above(self.format(record))
            return
        file = sys.stderr if record.levelno >= logging.ERROR else sys.stdout
        print(self.format(record), file=file, flush=True)


def begin(config: TrainConfig | EvalConfig, resumed: Path | None = None) -> None:
    """Say in one line what a command is about to do: before torch is loaded, which takes seconds.

    A training says it again once it has a folder, for `log.txt`; the terminal shows it once.

    Args:
        config: settings of the command.
        resumed: folder of the run that a training goes on with; None for a new one.
    """
    line = _training(config) if isinstance(config, TrainConfig) else _evaluation(config)
    new = f"a new folder in {config.runs}"
    if isinstance(config, TrainConfig) and config.resume is not None:
        new = f"no unfinished run in {config.runs} has these settings, so a new one begins there"
    whole = f"{line}; {new}" if resumed is None else f"resuming {resumed}: {line}"
    log.info(whole, extra={FIRST: True})


def _training(config: TrainConfig) -> str:
    recipe, weights = config.recipe, "" if config.weights is None else f", weights={config.weights},"
    epochs = min(recipe.epochs, config.trainer.max_epochs or recipe.epochs)
    return (
        f"training {config.model.name}{weights} on {_called(config.data)}: recipe={recipe.name}, {epochs} epochs, "
        f"batch {recipe.batch_size}, seed {config.seed}"
    )


def _evaluation(config: EvalConfig) -> str:
    data = "" if config.data is None else f" on {_called(config.data)}"
    model = "" if config.model is None else f"{config.model.name}, "
    if config.verify is not None:
        return f"evaluating {model}released weights{data}, and comparing them with their records"
    if config.weights is not None:
        return f"evaluating {model}weights={config.weights},{data}: protocol={config.protocol.name}"
    return f"evaluating {f'checkpoint={config.checkpoint}' if config.run is None else f'run={config.run}'}{data}"


def _called(data: DataConfig) -> str:
    """Name a data set, and the folder of its files."""
    return f"{data.name} data.root={data.root}" if isinstance(data, ImageFilesConfig) else data.name


def print_by(above: Callable[[str], None] | None) -> None:
    """Print log lines by this function as long as a progress bar is shown; None ends that."""
    _Console.above = above


@contextmanager
def spoken(aloud: bool) -> Iterator[None]:
    """Print log lines to the terminal inside if `aloud` is true; a library prints nothing unless its user says so."""
    before = log.handlers, log.propagate, log.level
    if aloud:
        log.handlers, log.propagate = [_Console()], False
        log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.handlers, log.propagate = before[:2]
        log.setLevel(before[2])


def speaks() -> bool:
    """Return whether log lines go to the terminal."""
    return any(isinstance(handler, _Console) for handler in log.handlers)


def only_errors() -> None:
    """Print only errors: another process of the same run prints everything else."""
    errors = logging.StreamHandler()
    errors.setLevel(logging.ERROR)
    log.handlers, log.propagate = [errors], False


def write_to(folder: Path) -> None:
    """Write log lines to `log.txt` in this folder, too."""
    log.setLevel(logging.INFO)
    log.addHandler(_LogFile(folder / "log.txt", encoding="utf-8"))


def stop_writing() -> None:
    """Close `log.txt`."""
    for handler in [handler for handler in log.handlers if isinstance(handler, _LogFile)]:
        log.removeHandler(handler)
        handler.close()
