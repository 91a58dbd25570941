"""Read the YAML of a user's file: plain values, in bounds, or one line that says what is wrong and where."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UserError

MOST_VALUES = 100_000  # in a file, each alias counted as what it stands for; our own have a few hundred


def read_yaml(path: Path, loader: type[Any] = yaml.SafeLoader) -> Any:
    """Return the plain values in a file of YAML.

    Args:
        path: path of the file.
        loader: PyYAML's, one that makes nothing but plain values; `yaml.BaseLoader` leaves every value a string.

    Raises:
        UserError: the file cannot be read, is not YAML, has a key twice, or more than `MOST_VALUES` values, as a few
            lines of aliases can have.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=loader)
        if node is not None and _values(node, path, {}) > MOST_VALUES:
            raise UserError(f"{path}: its aliases stand for more than {MOST_VALUES:,} values; write out what is meant")
        return yaml.load(text, Loader=loader)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UserError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none is a ValueError
        mark = getattr(error, "problem_mark", None)
        where = f" of line {mark.line + 1}" if mark is not None else ""
        what = getattr(error, "problem", None) or ("nested too deep" if isinstance(error, RecursionError) else error)
        raise UserError(f"{path}: not YAML that can be read{where} ({' '.join(str(what).split())})") from error


def _values(node: yaml.Node, path: Path, known: dict[int, int]) -> int:
    """Count the values under a node, each alias as what it stands for; one inside itself as more than the most."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = MOST_VALUES + 1  # until it is counted: if it comes again before that, it holds itself
    children = node.value if isinstance(node, yaml.CollectionNode) else []
    if isinstance(node, yaml.MappingNode):
        keys = Counter(key.value for key, _ in children if isinstance(key, yaml.ScalarNode))
        twice = next((key for key, count in keys.items() if count > 1 and key != "<<"), None)
        if twice is not None:
            raise UserError(f"{path}: line {node.start_mark.line + 1}: the key {twice!r} stands there twice")
        children = [child for pair in children for child in pair]
    known[id(node)] = 1 + sum(_values(child, path, known) for child in children)
    return known[id(node)]
