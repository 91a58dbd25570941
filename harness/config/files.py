"""The files in `configs/`: where they are and which choices a group offers.

In the repository they lie beside `harness/`. A wheel has them inside, as `harness/configs/`, where no other package's
files can lie. An editable install reads those of the repository.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

# What a paragraph of a first comment may begin with.
REMARKS = ("Neighbours:", "Expected:", "Deviations:", "Chosen", "Left out:", "not run here")
CONFIG_FILE = "config.yaml"  # the settings of a run or an evaluation, in its folder
_INSTALLED = Path(__file__).parents[1] / "configs"
CONFIGS = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "configs"


def choices(group: str) -> list[str]:
    """Return the names that a config group offers."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def describe(group: str, choice: str) -> str:
    """Return the description of a choice: the first comment of its file."""
    (first, *_) = re.findall(r"^# (?!@)(.*)", _text(group, choice), re.MULTILINE)
    return str(first)


def remarks(group: str, choice: str) -> dict[str, str]:
    """Return the paragraphs of the first comment of a choice that begin with one of `REMARKS`, by that beginning."""
    found: dict[str, str] = {}
    beginning = None
    for line in _text(group, choice).splitlines():
        if not line.startswith("# "):
            break
        new = next((known for known in REMARKS if line.startswith(f"# {known}")), None)
        beginning = new or beginning
        if beginning is not None:
            found[beginning] = f"{found[beginning]} {line[2:]}" if new is None else line[2:]
    return found


def schema_name(group: str, choice: str) -> str:
    """Return the name, in `harness.config.commands.SCHEMAS`, of the schema that a choice fills."""
    (name,) = re.findall(r"^  - /schema/([\w/]+)@", _text(group, choice), re.MULTILINE)
    return str(name)


def own_sweep(words: Sequence[str]) -> dict[str, str]:
    """Return what the experiment among the user's words sweeps: `{"seed": "0,1,2"}`; empty without an experiment.

    Hydra's own place for it is `hydra.sweeper.params`.
    """
    chosen = [word.partition("=")[2] for word in words if word.startswith("experiment=")]
    if not chosen or chosen[-1] not in choices("experiment"):
        return {}
    swept = _values("experiment", chosen[-1]).get("hydra", {}).get("sweeper", {}).get("params", {})
    return {key: str(values) for key, values in swept.items()}


def own_words(experiment: str) -> list[str]:
    """Return what an experiment sets, but for its sweep, as words of a command line: `recipe.loss=lecun_map`."""
    values = _values("experiment", experiment)
    chosen = [item.popitem() for item in values.pop("defaults")]
    values.pop("hydra", None)
    words = [f"{key.removeprefix('override /')}={choice}" for key, choice in chosen]
    return words + [f"{key}={value}" for key, value in _flat(values)]


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _values(group: str, choice: str) -> dict[str, Any]:
    values = OmegaConf.to_container(OmegaConf.create(_text(group, choice)))
    assert isinstance(values, dict), "a file of `configs/` maps keys to values"
    return {str(key): value for key, value in values.items()}


def _text(group: str, choice: str) -> str:
    return (CONFIGS / group / f"{choice}.yaml").read_text(encoding="utf-8")
