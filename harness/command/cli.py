"""From a command line to a typed config: what `train.py` and `eval.py` share.

Hydra composes. A user's mistake becomes one line and exit code 2, before torch is imported.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from harness.build import check
from harness.command.help import CONFIGS, GROUPS, choices, help_page, one_line
from harness.command.sweep import sweep
from harness.config import PATH_KEYS, Config, register_schemas, typed_config
from harness.errors import EXIT_CODE, StoppedError, UserError, file_error


def main(name: str, schema: type[Config], task: Callable[[Config], None]) -> None:
    """Run `task` with the config that the command line asks for, and exit.

    Args:
        name: of the primary config, `configs/<name>.yaml`, and of the script.
        schema: the dataclass of that config.
        task: the script's work; what it raises as `UserError` is printed as one line.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's errors come to us instead of being printed
    many = bool({"-m", "--multirun"} & set(sys.argv))
    sys.argv[1:] = arguments = [quoted_path(argument, many) for argument in sys.argv[1:]]
    register_schemas()
    ends: list[UserError | StoppedError | OSError] = []

    @hydra.main(config_path=str(CONFIGS), config_name=name, version_base="1.3")
    def compose_and_run(composed: DictConfig) -> None:
        try:
            config = typed_config(composed, schema)
            check(config)
            task(config)
        except (UserError, StoppedError, OSError) as error:  # Hydra prints a line of its own about what leaves this
            ends.append(error)

    try:
        if {"-h", "--help"} & set(arguments):
            print(help_page(name))
            return
        parser = get_args_parser()
        parser.error = _unknown_option  # type: ignore[method-assign]  # argparse would print its usage over 30 lines
        options = parser.parse_args(arguments)
        for override in options.overrides:
            _check_form(override)
            _check_group(override, name, options.overrides)
        if options.multirun:
            sys.exit(sweep(name, schema, options.overrides))
        compose_and_run()
        if ends:
            raise ends[0]
    except (HydraException, OmegaConfBaseException, UserError) as error:
        sys.exit(_fail(name, one_line(error), EXIT_CODE))
    except StoppedError as stopped:
        sys.exit(_fail(name, str(stopped), stopped.exit_code))
    except OSError as error:
        sys.exit(_fail(name, file_error(error), EXIT_CODE))


def _fail(name: str, message: str, exit_code: int) -> int:
    """Print a line, also into the `log.txt` of a run whose folder was made; in its rank 0 alone."""
    log, line = logging.getLogger("cnn_zoo"), f"{name}.py: {message}"
    try:
        if log.handlers:
            log.error(line)
        else:
            print(line, file=sys.stderr)
    except OSError:  # of log.txt, such as the full disk that the line tells of; the terminal has the line already
        pass
    return exit_code


def _unknown_option(message: str) -> NoReturn:
    raise UserError(f"{message}; settings are written key=value, such as seed=1; --help lists them")


def _check_form(override: str) -> None:
    """Refuse what Hydra's grammar allows and this project has no use for."""
    key, _, value = override.partition("=")
    if override.startswith(("+", "~")):
        raise UserError(f"{override}: every key has a value already; change one with key=value")
    if key.partition("/")[0].partition(".")[0] == "hydra":
        raise UserError(f"{override}: Hydra composes the settings and does nothing else here; leave it out")
    if key in GROUPS and (value in ("", "null") or value.startswith("[")):
        raise UserError(f"{override}: one name belongs here: {', '.join(choices(key))}")


def _check_group(override: str, name: str, overrides: list[str]) -> None:
    """Refuse a setting of data, or in an evaluation of a network, that the command line does not name."""
    key = override.partition("=")[0]
    group, dot, _ = key.partition(".")
    unnamed = dot and not any(other.startswith(f"{group}=") for other in overrides)
    if unnamed and (key == "data.root" or (name == "eval" and group in ("data", "model", "recipe"))):
        raise UserError(f"{key}: of which {group}? name it as well: {group}=NAME, one that --help lists")


def quoted_path(argument: str, sweep: bool) -> str:
    """Quote the value of a key that holds a path: Hydra's grammar refuses `~/x`, spaces, accents, brackets and `=`."""
    key, separator, value = argument.partition("=")
    if key not in PATH_KEYS or not separator or value in ("", "null") or value[0] in "'\"":
        return argument
    paths = value.split(",") if sweep else [value]
    return f"{key}=" + ",".join("'" + re.sub(r"(\\*)'", r"\1\1\\'", path) + "'" for path in paths)
