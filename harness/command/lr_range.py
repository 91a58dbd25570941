"""Measure at which learning rates the loss falls: python tools/lr_range.py [key=value] ..., with the words of train.py.

    python tools/lr_range.py model=lenet5 data=digits
    python tools/lr_range.py model=resnet20 data=cifar10 recipe=one_cycle_cifar lowest=1e-4 highest=1

A short training in which the rate rises by equal ratios from step to step, from lowest= to highest=, until the loss
diverges: the mean of five steps is above four times the least that it was. Network, weights, recipe, order and
augmentation are those of train.py with the same words, without its schedule and warm-up. Training images alone are
looked at, and nothing is kept but a folder with lr_range.png and lr_range.csv.

The picture marks where the smoothed loss falls fastest. That is a rate to begin a search with (tools/tune.py), not the
best one: it depends on how fast the ramp is, and a schedule with a warm-up often bears more.

    steps=200        number of steps of the ramp
    lowest=1e-05     learning rate of the first step
    highest=10       learning rate of the last step
    out=lr_ranges    folder in which the new folder is made
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.command.cli import guarded
from harness.config.compose import compose
from harness.config.fields import Declared, declarations, setting
from harness.config.mistakes import one_line
from harness.errors import UserError
from harness.run import program
from harness.run.log import log


@dataclass
class RangeConfig(Declared):
    """Settings of a range test."""

    steps: int = setting("number of steps of the ramp", 200, least=10, most=1_000_000)
    lowest: float = setting("learning rate of the first step", 1e-5, above=0)
    highest: float = setting("learning rate of the last step", 10.0, above=0)
    out: str = setting("folder in which the new folder is made", "lr_ranges", path=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lowest >= self.highest:
            raise UserError(f"lowest={self.lowest:g}: must be below highest={self.highest:g}")


def main() -> NoReturn:
    """Read the command line, measure, and exit."""
    if any(word in ("-h", "--help") for word in sys.argv[1:]):
        print(program.typed(str(__doc__)))
        sys.exit(0)
    guarded(lambda: measure(sys.argv[1:]))


def measure(words: Sequence[str]) -> int:
    """Do the range test that the words describe; return the exit code."""
    own = [word for word in words if word.partition("=")[0] in declarations(RangeConfig)]
    try:
        settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RangeConfig), OmegaConf.from_dotlist(own)))
    except OmegaConfBaseException as error:
        raise UserError(one_line(error, "train")) from error
    assert isinstance(settings, RangeConfig)
    config = compose("train", [word for word in words if word not in own])
    if config.resume is not None:
        raise UserError(f"resume={config.resume}: a range test begins anew; leave it out")
    from harness.stories.check import check  # a mistake in the words is found before this is loaded

    check(config)
    log.info(
        f"range test of {config.model.name} on {config.data.name}: recipe={config.recipe.name}, {settings.steps} steps "
        f"at rates of {settings.lowest:g} to {settings.highest:g}, seed {config.seed}; a new folder in {settings.out}"
    )
    from harness.stories.lr_range import lr_range, rates

    lr_range(config, rates(settings.lowest, settings.highest, settings.steps), settings.out)
    return 0
