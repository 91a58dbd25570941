"""One line for each mistake on the command line: what is wrong, and what the user probably meant."""

from __future__ import annotations

import difflib
import re

from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from harness.config.commands import GROUPS, SCHEMAS, keys_of
from harness.config.fields import declarations
from harness.config.files import choices, schema_name
from harness.errors import nearest

FEW = 12  # choices that a line may name
ELSEWHERE = {  # keys of other programs that have no counterpart here, and what to write instead
    "num_classes": "the data set says how many classes there are: data=NAME",
    "in_channels": "the data set says how many channels there are: data=NAME",
    "arch": "write model=NAME",
    "dataset": "write data=NAME",
}


def one_line(error: Exception, command: str) -> str:
    """Turn an exception of Hydra or OmegaConf into one line: what is wrong, and the nearest valid choices."""
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return no_such_choice(group, option)
    if isinstance(error, OverrideParseException):
        return _unreadable(str(error.override), command)
    ambiguous = re.match(r"Ambiguous value for argument '(.*?)'", str(error))
    if ambiguous:
        return f"{ambiguous[1]}: give one value; to run a sweep over several, add -m"
    unknown_group = re.match(r"Could not override '([\w/]+)'. No match", str(error))
    if unknown_group:
        return f"{unknown_group[1]}: no such group; the nearest are: {nearest(unknown_group[1], GROUPS)}"
    cause = error.__cause__ if isinstance(error, ConfigCompositionException) else error
    key = getattr(cause, "full_key", None)
    if key and isinstance(cause, (ConfigKeyError, ConfigAttributeError)):
        return unknown_key(str(key), command)
    if key and isinstance(cause, OmegaConfBaseException):
        return f"{key}: {_value_error(str(cause.msg or cause))}"
    return " ".join(str(error).split())


def _unreadable(word: str, command: str) -> str:
    """Say how to write a word that is not key=value."""
    for group in GROUPS:
        if word in choices(group):
            return f"{word}: cannot be read; write {group}={word}"
    if command == "compare" and "=" not in word:
        return f"{word}: cannot be read; write runs={word}"
    if word.endswith(","):
        return f"{word}: cannot be read; write the values of a sweep without blanks: key=a,b"
    return f"{word}: cannot be read; write key=value, with quotes around a value that has odd characters"


def no_such_choice(group: str, choice: str) -> str:
    """Say that a choice does not exist, and name the ones most like it, or all of a few if none is like it."""
    offered = choices(group)
    if len(offered) > FEW and not difflib.get_close_matches(choice, offered, cutoff=0.3):
        return f"{group}={choice}: no such choice; --help lists the choices"
    return f"{group}={choice}: no such choice; the nearest are: {nearest(choice, offered)}"


def _value_error(message: str) -> str:
    """Return OmegaConf's message about a value of the wrong type; for a number like 1e3, add how to write it."""
    line = " ".join(message.split("\n")[0].split())
    whole = re.match(r"Value '(-?[\d.e+]+)' of type 'float' could not be converted to Integer", line)
    if whole and float(whole[1]).is_integer():
        return f"{line}; write {int(float(whole[1]))}"
    if "is not a ListConfig" in line or line.endswith("with ListConfig"):
        return "must be a list, such as [0.5]"
    return "may not be null" if line.endswith("is not Optional") else line


def unknown_key(key: str, command: str) -> str:
    """Say what to write instead of a key that does not exist or that the chosen file does not have."""
    keys = keys_of(command)
    group, _, leaf = key.rpartition(".")
    if group in keys:
        return f"{key}: only the files of configs/ can add entries to {group}; see --help {group}"
    if key in keys:
        return f"{key}: the chosen {group} has no such key; only these have it: {', '.join(_holders(group, leaf))}"
    names = {known: (known.rpartition(".")[2], *declared.setting.aliases) for known, declared in keys.items()}
    called = [known for known, words in names.items() if leaf in words]
    if called:
        return f"{key}: no such key; it is called {' or '.join(called)}"
    if leaf in ELSEWHERE:
        return f"{key}: no such key; {ELSEWHERE[leaf]}"
    words = {word: known for known in keys for word in names[known] if known.rpartition(".")[0] == group}
    words |= {} if group else {name: name for name in GROUPS}
    near = dict.fromkeys(words[word] for word in difflib.get_close_matches(leaf, words, n=3, cutoff=0.6))
    if near:
        return f"{key}: no such key; the nearest are: {', '.join(near)}"
    return f"{key}: there is no such key; --help {group} lists the keys".replace("  ", " ")


def _holders(group: str, leaf: str) -> list[str]:
    """Return the choices of a group that have a key."""
    having = {name for name, schema in SCHEMAS[group].items() if leaf in declarations(schema)}
    return [f"{group}={choice}" for choice in choices(group) if schema_name(group, choice) in having]
