"""From a command line to a run: what `train`, `eval` and `compare` share, as scripts and as commands of `cnn-zoo`.

A user's mistake becomes one line and exit code 2. Mistakes that can be found without torch are found before torch is
imported.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser

from harness.command.help import group_page, help_page
from harness.command.several import configs_of, names_several
from harness.config.commands import EXPERIMENT, CompareConfig, EvalConfig, TrainConfig
from harness.config.compose import PROPORTIONAL, as_word, compose, quoted_path, register_schemas, sets_epochs
from harness.config.files import CONFIGS, own_sweep
from harness.config.trainer import TrainerConfig
from harness.errors import EXIT_CODE, StoppedError, UserError, file_error, memory_error
from harness.run import program
from harness.run.interruption import is_member
from harness.run.log import begin, log, spoken
from harness.run.printable import printable
from harness.run.resume import continued


def main(command: str) -> None:
    """Do what the command line asks for, and exit.

    Args:
        command: `train`, `eval` or `compare`; also the name of `configs/<command>.yaml`.
    """
    guarded(lambda: _do(command, sys.argv[1:]))


def guarded(task: Callable[[], int]) -> NoReturn:
    """Exit with the code of a task; a user's mistake is a line and exit code 2, and a signal has a line, too."""
    with spoken(True):
        try:
            sys.exit(task())
        except UserError as error:
            sys.exit(_fail(str(error), EXIT_CODE))
        except StoppedError as stopped:
            sys.exit(_fail(str(stopped), stopped.exit_code))
        except OSError as error:
            sys.exit(_fail(file_error(error), EXIT_CODE))
        except RuntimeError as error:
            line = memory_error(error)
            if line is None:
                raise
            sys.exit(_fail(line, EXIT_CODE))


def _do(command: str, arguments: list[str]) -> int:
    given = _parsed(arguments)
    if given.help:
        print(program.typed(help_page(command) if not given.overrides else group_page(command, given.overrides)))
    elif given.cfg or given.info or given.hydra_help or given.shell_completion:
        _show_config(command, given.overrides)
    elif given.multirun:
        from harness.command.sweep import sweep

        return sweep(command, given.overrides, given.config_dir)
    elif command == "eval" and names_several(given.overrides):
        return _evaluate_several(given.overrides, given.config_dir)
    else:
        config = compose(command, given.overrides, given.config_dir)
        from harness.stories.check import check  # a mistake in the words is found before this is loaded

        check(config)
        if any(word.startswith(f"{EXPERIMENT}=") for word in given.overrides):
            _tell_of_sweep(given.overrides)
        _run(config)
    return 0


def _tell_of_sweep(words: list[str]) -> None:
    """Say what the experiment among these words sweeps; without `-m` only one of its runs is done."""
    swept = {
        key: values for key, values in own_sweep(words).items() if not any(word.startswith(f"{key}=") for word in words)
    }
    if swept:
        log.info(
            f"one run of this experiment; -m runs all: {' '.join(f'{key}={values}' for key, values in swept.items())}"
        )


def _run(config: TrainConfig | EvalConfig | CompareConfig) -> None:
    """Run the story of a config; it is imported only here, because it needs torch."""
    if not isinstance(config, CompareConfig) and _speaks(config.trainer):  # comparing loads no torch
        begin(*(continued(config) if isinstance(config, TrainConfig) and config.resume is not None else (config,)))
    story: Callable[[Any], object]
    first = "lightning" not in sys.modules
    if first:
        gc.disable()  # it would go through all that torch and Lightning bring, many times
    try:
        if isinstance(config, TrainConfig):
            from harness.stories.train import train as story
        elif isinstance(config, CompareConfig) and config.why is None:
            from harness.stories.compare import compare_records as story
        elif isinstance(config, CompareConfig):
            from harness.stories.compare import explain as story
        elif config.verify is None:
            from harness.stories.evaluate import evaluate_network as story
        else:
            from harness.stories.verify import verify as story
    finally:
        if first:
            gc.freeze()  # nor does it during the run
            gc.enable()
    story(config)


def _speaks(trainer: TrainerConfig) -> bool:
    """Return whether this process prints for its run; which of a launcher's tasks does is found out with torch."""
    alone = trainer.devices == 1 and trainer.nodes == 1
    return alone or not (is_member() or program.is_task())


def _evaluate_several(words: list[str], extra_configs: str | None) -> int:
    """Evaluate several networks; the exit code is that of a sweep: 1 if one of them failed."""
    configs = configs_of(words, extra_configs)
    if _speaks(configs[0].trainer):
        if len(configs) == 1:
            begin(configs[0])
        else:
            log.info(f"evaluating {len(configs)} networks; a new folder for each in {configs[0].runs}")
    from harness.stories.evaluate_several import evaluate_several  # needs torch

    return evaluate_several(configs)


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = get_args_parser()
    parser.error = _unknown_option  # type: ignore[method-assign]  # argparse would print its usage over 30 lines
    return parser.parse_args(arguments)


def _unknown_option(message: str) -> NoReturn:
    raise UserError(f"{message}; settings are written key=value, such as seed=1; --help lists them")


def _show_config(command: str, overrides: list[str]) -> None:
    """Print Hydra's own pages: `--cfg job` shows the config, `--info` where it came from."""
    config = compose(command, overrides)  # so that a mistake is one line here, too
    register_schemas()
    words = set(overrides)
    sys.argv[1:] = [quoted_path(word) if word in words else word for word in sys.argv[1:]]
    if isinstance(config, TrainConfig) and sets_epochs(overrides):
        place = next(place for place, word in enumerate(sys.argv) if sets_epochs([word]))
        sys.argv[place:place] = [as_word(f"recipe.{key}", getattr(config.recipe, key)) for key in PROPORTIONAL]
    hydra.main(config_path=str(CONFIGS), config_name=command, version_base="1.3")(lambda _: None)()


def _fail(message: str, exit_code: int) -> int:
    """Print a line, and write it to `log.txt` if the run has a folder; with several processes only in rank 0."""
    with suppress(OSError):  # log.txt may be on the full disk that the line reports; the terminal has the line already
        log.error(printable(f"{program.name()}: {message}"))
    return exit_code
