"""One declaration a setting: its field gives its meaning, the values that it may have, and its other names.

The check of a value, its error message and the help read that declaration. A rule between several settings stands in
the `__post_init__` of their dataclass.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from omegaconf import MISSING

from harness.errors import UserError, nearest

SETTING = "setting"  # key of a field's metadata
INFINITY = float("inf")


@dataclass(frozen=True)
class Setting:
    """What a setting means and which values it may have; null is always allowed if the type allows it.

    The bounds hold for every number in a list or a dictionary.

    Attributes:
        meaning: a short description for help and errors.
        least: smallest number allowed.
        above: bound that every number must exceed.
        most: largest number allowed.
        below: bound that every number must stay below.
        choices: words allowed; empty for any.
        lengths: numbers of values that a list may have; empty for any.
        rising: whether each value of a list must be at least as large as the one before.
        path: whether the value is a path on the disk.
        aliases: names that other programs use for it.
    """

    meaning: str
    least: float = -INFINITY
    above: float = -INFINITY
    most: float = INFINITY
    below: float = INFINITY
    choices: tuple[str, ...] = ()
    lengths: tuple[int, ...] = ()
    rising: bool = False
    path: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def bounds(self) -> str:
        """Return the bounds in words: `at least 1`, `from 1 to 99`, `above 0 and at most 1`; empty if there is none."""
        if self.least > -INFINITY and self.most < INFINITY:
            return f"from {self.least} to {self.most}"
        words = (("at least", self.least), ("above", self.above), ("at most", self.most), ("below", self.below))
        return " and ".join(f"{word} {bound}" for word, bound in words if math.isfinite(bound))

    def check(self, key: str, value: Any) -> None:
        """Raise `UserError` if the setting `key` may not have this value."""
        if value is None:
            return
        if self.choices and value not in self.choices:
            raise UserError(f"{key}={value}: no such choice; the nearest are: {nearest(value, self.choices)}")
        numbers = list(_numbers(value))
        each = "each must be" if isinstance(value, (list, dict)) else "must be"
        if not all(math.isfinite(number) for number in numbers):
            raise UserError(f"{key}={written(value)}: {each} a finite number ({self.meaning})")
        if any(number < self.least or number <= self.above for number in numbers):
            bound = f"at least {self.least}" if self.least > -INFINITY else self.bounds
            raise UserError(f"{key}={written(value)}: {each} {bound} ({self.meaning})")
        if any(number > self.most or number >= self.below for number in numbers):
            bound = f"at most {self.most}" if self.above == -INFINITY and self.most < INFINITY else self.bounds
            raise UserError(f"{key}={written(value)}: {each} {bound} ({self.meaning})")
        if self.lengths and len(value) not in self.lengths:
            wanted = " or ".join(map(str, self.lengths))
            raise UserError(f"{key}={written(value)}: must be {wanted} numbers ({self.meaning})")
        if self.rising and numbers != sorted(numbers):
            raise UserError(f"{key}={written(value)}: must rise from the first to the last ({self.meaning})")


def _numbers(value: Any) -> Iterator[float]:
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]:
        if isinstance(item, (int, float)) and not isinstance(item, bool):
            yield item


def written(value: Any) -> str:
    """Return a value as a user writes it on the command line: `null`, `true`, `0.1`, `[1,2]`."""
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{written(item)}' for key, item in value.items())}}}"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def is_url(path: str) -> bool:
    """Whether what a user gave as a path is a URL, such as `https://host/folder`."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path) is not None


class Declaration(NamedTuple):
    """What a field declares: its type, its default (`MISSING` if `configs/` gives the value), and its `Setting`."""

    annotation: str
    default: Any
    setting: Setting


def setting(meaning: str, default: Any = MISSING, **attributes: Any) -> Any:
    """Declare a field of a dataclass as a setting.

    Args:
        meaning: a short description for help and errors.
        default: value if a file lacks the setting; without a default each file in `configs/` must give it.
        **attributes: further attributes of `Setting`.
    """
    metadata = {SETTING: Setting(meaning, **attributes)}
    if isinstance(default, (list, dict)):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def chosen(group: str) -> Any:
    """Declare a field that holds the name of the file that the user chose with `group=NAME`."""
    return field(default=f"${{hydra:runtime.choices.{group}}}")


def declarations(schema: type[Any]) -> dict[str, Declaration]:
    """Return the settings of a dataclass by name."""
    found = {}
    for f in dataclasses.fields(schema):
        if SETTING in f.metadata:
            default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
            found[f.name] = Declaration(str(f.type), default, f.metadata[SETTING])
    return found


class Declared:
    """Base of the dataclasses that hold settings: it checks each by its declaration and expands `~` in paths.

    Attributes:
        group: first part of the keys, such as `recipe` in `recipe.epochs`; empty for a command's own settings.
    """

    group: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for name, declaration in declarations(type(self)).items():
            value = getattr(self, name)
            declaration.setting.check(f"{self.group}.{name}" if self.group else name, value)
            if declaration.setting.path and value and not is_url(value):
                setattr(self, name, str(Path(value).expanduser()))
