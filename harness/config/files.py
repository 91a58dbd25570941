"""The files in `configs/`: where they are and which choices a group offers.

In the repository they lie beside `harness/`. A wheel has them inside, as `harness/configs/`, where no other package's
files can lie. An editable install reads those of the repository.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

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
    swept = OmegaConf.select(OmegaConf.create(_text("experiment", chosen[-1])), "hydra.sweeper.params")
    return {key: str(values) for key, values in (swept or {}).items()}


def _text(group: str, choice: str) -> str:
    return (CONFIGS / group / f"{choice}.yaml").read_text(encoding="utf-8")
