"""A study: which settings were tried, what came of each, and which to try next. Optuna proposes; the folder remembers.

What a study knows is in the folder alone: `study.json`, its words, and `trials.jsonl`, a line for each trial that began
and another for each that ended. The next trial is a function of these and of the seed, so a study that was cut off
proposes what it would have proposed.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException

from harness.config.commands import keys_of
from harness.config.compose import composing, quoted_path
from harness.config.mistakes import one_line
from harness.config.plain import made
from harness.errors import UserError
from harness.run.files import csv_text

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

STUDY_FILE, TRIALS_FILE = "study.json", "trials.jsonl"
COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
STARTUP = 5  # trials that end before one is pruned
PATIENCE = 4  # no trial is pruned in the first of so many parts of its epochs
DECADE = 10  # an interval of positive numbers with such a ratio of its ends, or a larger one, is searched by ratios
DIGITS = 4  # significant ones of a number that is proposed

Value = str | float | int


@dataclass(frozen=True)
class Interval:
    """Numbers between two ends.

    Attributes:
        low: smallest.
        high: largest.
        log: whether equal ratios are equally likely, instead of equal differences.
        whole: whether they are whole numbers.
    """

    low: float
    high: float
    log: bool
    whole: bool

    @property
    def ends(self) -> list[Value]:
        """Both ends, as a trial would get them."""
        return [self.rounded(self.low), self.rounded(self.high)]

    def rounded(self, value: float) -> Value:
        """A value as a trial gets it: a few digits, so that it can be copied, and never outside."""
        return round(value) if self.whole else min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


Space = Mapping[str, "Interval | tuple[str, ...]"]  # by key: an interval, or the words to choose from


@dataclass
class Trial:
    """A trial.

    Attributes:
        number: counted from 0.
        asked: the values of its settings, by key.
        state: `complete`, `pruned` or `failed`; None as long as it has not ended.
        folder: of its run; None if it made none.
        error: validation error (percent) of the epoch that its run reports; None unless it is complete.
        steps: validation errors (percent) of its epochs, up to the one that pruned it.
    """

    number: int
    asked: dict[str, Any]
    state: str | None = None
    folder: str | None = None
    error: float | None = None
    steps: list[float] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        """What it sets, as words of a command line."""
        return [f"{key}={value}" for key, value in self.asked.items()]


def divided(words: Sequence[str]) -> tuple[dict[str, Interval | tuple[str, ...]], list[str]]:
    """Return what a study searches, and the words that all its trials have.

    Raises:
        UserError: nothing is searched, or a word cannot be read or searched.
    """
    try:
        with composing():
            parser = OverridesParser.create(GlobalHydra.instance().config_loader())
            parsed = parser.parse_overrides([quoted_path(word, sweep=True) for word in words])
            space = {str(it.get_key_element()): _searched(it) for it in parsed if it.is_sweep_override()}
    except HydraException as error:
        raise UserError(one_line(error, "train")) from error
    if "seed" in space:
        raise UserError("seed: a study compares settings at one seed; give one")
    if not space:
        raise UserError("nothing to search: write a setting as 'recipe.learning_rate=interval(0.001,1)' or =0,1e-4")
    return space, [str(it.input_line) for it in parsed if not it.is_sweep_override()]


def _searched(override: Override) -> Interval | tuple[str, ...]:
    key, value = str(override.get_key_element()), override.value()
    if not isinstance(value, IntervalSweep):
        return tuple(dict.fromkeys(override.sweep_string_iterator()))
    known = keys_of("train").get(key)
    kind = known.annotation.removesuffix(" | None") if known else "float"
    if kind not in ("int", "float"):
        raise UserError(f"{override.input_line}: {key} is no number; write its values one by one, with commas")
    if value.tags - {"log", "linear"}:
        raise UserError(f"{override.input_line}: an interval has the tags log and linear alone")
    assert value.start is not None and value.end is not None
    low, high = float(value.start), float(value.end)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{override.input_line}: the first end must be below the second")
    if "log" in value.tags and low <= 0:
        raise UserError(f"{override.input_line}: both ends must be above 0 to search by ratios")
    log = "log" in value.tags or ("linear" not in value.tags and low > 0 and high >= DECADE * low)
    return Interval(low, high, log, kind == "int")


def read_trials(folder: Path) -> list[Trial]:
    """Read the trials of a study; a last line that was cut off is that of a trial that had not begun or ended."""
    path = folder / TRIALS_FILE
    if not path.exists():
        return []
    trials: dict[int, Trial] = {}
    *lines, rest = path.read_bytes().split(b"\n")
    if rest:
        path.write_bytes(b"".join(line + b"\n" for line in lines))
    for number, line in enumerate(lines, 1):
        try:
            trial = made(Trial, json.loads(line))
        except ValueError as error:
            raise UserError(f"{path}: line {number} is damaged ({error})") from error
        trials[trial.number] = trial
    return list(trials.values())


def add_line(folder: Path, trial: Trial) -> None:
    """Add a line about a trial that begins or has ended."""
    with (folder / TRIALS_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(dataclasses.asdict(trial)) + "\n")


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for key, it in space.items():
        if not isinstance(it, Interval):
            found[key] = CategoricalDistribution(it)
        elif it.whole:
            found[key] = IntDistribution(round(it.low), round(it.high), log=it.log)
        else:
            found[key] = FloatDistribution(it.low, it.high, log=it.log)
    return found


def _known_to_optuna(space: Space, trials: Sequence[Trial], seed: int) -> optuna.Study:
    """Return a study of Optuna that knows these trials, and proposes the next by a sampler of its own seed."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=(seed + len(trials)) % 2**32)
    study = optuna.create_study(sampler=sampler)
    states = {
        COMPLETE: optuna.trial.TrialState.COMPLETE,
        PRUNED: optuna.trial.TrialState.PRUNED,
        FAILED: optuna.trial.TrialState.FAIL,
    }
    for trial in trials:
        if trial.state is not None:
            study.add_trial(
                optuna.trial.create_trial(
                    state=states[trial.state],
                    params=trial.asked,
                    distributions=_distributions(space),
                    value=trial.error,
                    intermediate_values=dict(enumerate(trial.steps, 1)),
                )
            )
    return study


def propose(space: Space, trials: Sequence[Trial], seed: int) -> Trial:
    """Return the next trial: drawn at random at first, and then where good ones were found."""
    asked = _known_to_optuna(space, trials, seed).ask(_distributions(space)).params
    rounded = {key: it.rounded(asked[key]) if isinstance(it, Interval) else asked[key] for key, it in space.items()}
    return Trial(len(trials), rounded)


def pruned_at(space: Space, trials: Sequence[Trial], errors: Sequence[float], epochs: int) -> int | None:
    """Return the first epoch at which a trial is given up; None if it goes on.

    It is given up where its best validation error so far is above the median of those that complete trials had at that
    epoch, but not before five are complete, nor in the first quarter of its epochs.

    Args:
        space: what the study searches.
        trials: those that have ended.
        errors: validation errors of the epochs so far.
        epochs: number of all its epochs; its last is never too late to be good.
    """
    import optuna

    if sum(trial.state == COMPLETE for trial in trials) < STARTUP:
        return None
    study = _known_to_optuna(space, trials, 0)
    pruner = optuna.pruners.MedianPruner(STARTUP, max(1, epochs // PATIENCE))
    trial = study.ask()
    for epoch, error in enumerate(errors[: epochs - 1], 1):
        trial.report(error, epoch)
        if pruner.prune(study, study.trials[trial.number]):
            return epoch
    return None


def best(trials: Sequence[Trial]) -> Trial | None:
    """Return the complete trial with the lowest validation error; of equal ones, the first."""
    complete = [(trial.error, trial.number, trial) for trial in trials if trial.error is not None]
    return min(complete)[-1] if complete else None


def trials_csv(space: Space, trials: Sequence[Trial]) -> str:
    """Return a table with one line for each trial."""
    columns = ("trial", *space, "state", "validation_top1_error", "epochs", "folder")
    rows = [(t.number, *(t.asked[key] for key in space), t.state, t.error, len(t.steps), t.folder) for t in trials]
    return csv_text(columns, rows)
