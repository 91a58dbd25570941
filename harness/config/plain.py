"""Make dataclasses from plain values in files, with the types that their fields declare."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, TypeVar

Made = TypeVar("Made")
SHOWN = 40  # most letters of a value in a message


def made(kind: type[Made], plain: Any) -> Made:
    """Return a dataclass with these values, each of the type of its field; tuples may be lists.

    Raises:
        ValueError: what is wrong: a key that is missing or unknown, or a value of another type.
    """
    check(kind, plain)
    try:
        return kind(**plain)
    except TypeError as error:  # a field is missing
        raise ValueError(f"{kind.__name__}: {error}") from error


def check(kind: type[Any], plain: Any) -> None:
    """Raise `ValueError` unless these are values of fields of a dataclass, each of its type; some may be missing."""
    if not isinstance(plain, dict):
        raise ValueError(f"{kind.__name__} is {_shown(plain)}, not keys with values")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    unknown = [key for key in plain if key not in fields]
    if unknown:
        raise ValueError(f"{kind.__name__} has {_shown(unknown[0])}, which a newer version of this program may know")
    hints = typing.get_type_hints(kind)
    for key, value in plain.items():
        if not _is(value, hints[key]):
            raise ValueError(f"{kind.__name__}.{key} is {_shown(value)}, not {fields[key].type}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _is(value: Any, hint: Any) -> bool:
    """Return whether a value is of a type: a plain class, a union, or a list, tuple or dictionary of such."""
    kind, inside = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if kind in (typing.Union, types.UnionType):
        return any(_is(value, each) for each in inside)
    if kind is dict:
        return isinstance(value, dict) and all(_is(k, inside[0]) and _is(v, inside[1]) for k, v in value.items())
    if kind in (list, tuple):
        return isinstance(value, (list, tuple)) and all(_is(each, inside[0]) for each in value)
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return dataclasses.is_dataclass(hint) or isinstance(value, hint)
