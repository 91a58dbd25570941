"""Search for settings by the validation error: python tools/tune.py key='interval(a,b)' key=a,b key=value ...

    python tools/tune.py trials=20 model=lenet5 data=digits recipe.learning_rate='interval(0.001,1)'
    python tools/tune.py recipe.learning_rate='interval(0.001,1)' recipe.weight_decay=0,1e-4 recipe.epochs=10
    python tools/tune.py study=studies/DATE_TIME trials=40   # goes on with a study, also with one that was cut off

A setting with several values is searched, in the grammar of Hydra's sweeps; every other word is for all trials, as in
train.py. interval(a,b) is searched by ratios where both ends are above 0 and b is 10 times a or more, else by
differences; tag(log, interval(a,b)) and tag(linear, interval(a,b)) say it. Numbers have 4 digits.

Each trial is a training in a process of its own, with a run folder and a record as any other. Optuna (pip install
'cnn-zoo[tune]') proposes its settings: at random for the first ten, then near good ones; its seed is that of the runs.
A trial is given up where its best validation error so far is above the median of those that the complete ones had at
the same epoch, not before five are complete, nor in the first quarter of its epochs.

The test split has no say: test errors are in the records, and that of the chosen run alone is shown. A study's folder,
studies/DATE_TIME/, holds its words, a line of trials.jsonl for each trial, trials.csv, history.png, and runs/. The last
lines are the best settings, to copy, and the folder of their run.

    trials=20        number of trials of the study
    study=null       folder of a study to go on with; null makes a new one
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from filelock import FileLock, Timeout
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.command import study as studies
from harness.command.cli import guarded
from harness.command.study import COMPLETE, FAILED, PRUNED, STUDY_FILE, Interval, Trial
from harness.comparison.choice import validation_error
from harness.comparison.records import mean_row, read_record
from harness.comparison.study_chart import Axis, draw_study
from harness.comparison.tables import error_cell
from harness.config.compose import as_word, check_words, compose
from harness.config.data import FolderConfig
from harness.config.fields import Declared, declarations, setting
from harness.config.mistakes import one_line
from harness.errors import StoppedError, UserError
from harness.run import program
from harness.run.files import (
    CHOOSING_VARIABLE,
    FOLDERS_VARIABLE,
    RESULT_FILE,
    announced,
    new_folder,
    read_json,
    read_table,
    write_json,
    write_text,
)
from harness.run.history import METRICS_FILE
from harness.run.interruption import SIGNALS, heard
from harness.run.printable import say

STUDIES = "studies"
PICTURE, TABLE = "history.png", "trials.csv"
EPOCHS = ("recipe.epochs=", "trainer.max_epochs=")  # words that change the number of epochs, beside choices of files
POLL = 0.3  # seconds between two looks at the validation errors of a running trial


@dataclass
class TuneConfig(Declared):
    """Settings of a study; its trials do not get these words."""

    trials: int | None = setting("number of trials of the study", None, least=1, most=100_000, aliases=("n_trials",))
    study: str | None = setting("folder of a study to go on with; null makes a new one", None, path=True)


TRIALS = 20  # of a study that does not say how many


def main() -> NoReturn:
    """Read the command line, search, and exit."""
    if any(word in ("-h", "--help") for word in sys.argv[1:]):
        print(program.typed(str(__doc__)))
        sys.exit(0)
    guarded(lambda: tune(sys.argv[1:]))


def tune(words: Sequence[str]) -> int:
    """Search for settings until the study has its trials; return the exit code."""
    if find_spec("optuna") is None:
        raise UserError("a study needs Optuna: pip install 'cnn-zoo[tune]'")
    study = _opened(words)
    lock = FileLock(study.folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"{study.folder}: another process is running this study; wait for it, or stop it") from error
    with lock:
        return study.run()


def _opened(words: Sequence[str]) -> Study:
    """Make the folder of a new study, or read that of an earlier one; everything is checked before."""
    own = [word for word in words if word.partition("=")[0] in declarations(TuneConfig)]
    others = [word for word in words if word not in own]
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(TuneConfig), OmegaConf.from_dotlist(own)))
    except OmegaConfBaseException as error:
        raise UserError(one_line(error, "train")) from error
    assert isinstance(config, TuneConfig)
    if config.study is None:
        if any(word.startswith(("runs=", "resume=")) for word in others):
            raise UserError("runs= and resume=: a study has its runs in its own folder; study=FOLDER goes on with one")
        space = _checked(others)
        folder = new_folder(Path(STUDIES) / datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
        write_json(folder / STUDY_FILE, {"words": others, "trials": config.trials or TRIALS})
        say(f"study={folder}: {config.trials or TRIALS} trials of {', '.join(space)}")
        return Study(folder, others, config.trials or TRIALS)
    folder = Path(config.study)
    if not (folder / STUDY_FILE).is_file():
        raise UserError(
            f"study={folder}: not the folder of a study (it has no {STUDY_FILE}); leave it out for a new one"
        )
    before = read_json(folder / STUDY_FILE)
    if others and others != before["words"]:
        raise UserError(f"study={folder}: its words are {' '.join(before['words'])}; they stay: leave the others out")
    trials = config.trials or before["trials"]
    write_json(folder / STUDY_FILE, {**before, "trials": trials})
    return Study(folder, before["words"], trials)


def _checked(words: Sequence[str]) -> studies.Space:
    """Compose and check a trial with every value of every setting; return what is searched."""
    check_words(words, "train")
    space, fixed = studies.divided(words)
    values = {key: it.ends if isinstance(it, Interval) else list(it) for key, it in space.items()}
    first = {key: each[0] for key, each in values.items()}
    for key, each in values.items():
        for value in each:
            trial = [*fixed, *(f"{other}={its}" for other, its in {**first, key: value}.items())]
            try:
                config = compose("train", trial)
                from harness.stories.check import check  # a mistake in the words is found before this is loaded

                check(config)
            except UserError as error:
                raise UserError(f"trial {' '.join(trial)}: {error}; no trial was started") from error
            if not (config.data.validation or isinstance(config.data, FolderConfig)):
                raise UserError(
                    "a study chooses by the validation error, and there is no validation split; set data.validation "
                    "above 0"
                )
    return space


class Study:
    """A study in its folder.

    Args:
        folder: of the study.
        words: what it searches, and what all its trials have.
        wanted: number of trials after which it ends.
    """

    def __init__(self, folder: Path, words: Sequence[str], wanted: int) -> None:
        self.folder, self.wanted = folder, wanted
        self.space, self.fixed = studies.divided(words)
        self.trials = studies.read_trials(folder)
        self._known_epochs: dict[tuple[str, ...], int] = {}

    def run(self) -> int:
        """Run trials until there are as many as wanted; print the table and the best; return the exit code."""
        while True:
            if not self.trials or self.trials[-1].state is not None:
                if len(self.trials) >= self.wanted:
                    return self._report()
                self.trials.append(studies.propose(self.space, self.trials, self._seed))
                studies.add_line(self.folder, self.trials[-1])
            trial = self.trials[-1]
            say(f"trial {trial.number + 1} of {self.wanted}: {' '.join(trial.words)}")
            self._finish(trial)
            studies.add_line(self.folder, trial)
            self._tell(trial)
            self._draw()

    @cached_property
    def _seed(self) -> int:
        """The seed of every run, and of what is proposed."""
        return compose("train", [word for word in self.fixed if word.startswith("seed=")]).seed

    def _epochs(self, trial: Trial) -> int:
        """Number of epochs of a trial; most settings do not change it."""
        changing = tuple(word for word in trial.words if "." not in word.partition("=")[0] or word.startswith(EPOCHS))
        if changing not in self._known_epochs:
            config = compose("train", [*self.fixed, *trial.words])
            self._known_epochs[changing] = min(config.recipe.epochs, config.trainer.max_epochs or config.recipe.epochs)
        return self._known_epochs[changing]

    def _finish(self, trial: Trial) -> None:
        """Run a trial to its end, or to the epoch at which it is given up; it gets its state."""
        code = self._trained(trial)
        folder = self._run_folder(trial)
        trial.folder = str(folder) if folder else None
        errors = errors_of(folder)
        pruned = self._pruned_at(trial, errors)
        if pruned is not None:  # also where it was quicker than the look at its errors: the rule decides, not the clock
            trial.state, trial.steps = PRUNED, errors[:pruned]
        elif code - 128 in SIGNALS:
            raise StoppedError(f"stopped; go on with: {self._go_on()}", code)
        elif folder is None or not (folder / RESULT_FILE).exists():
            trial.state, trial.steps = FAILED, errors
        else:
            trial.error = validation_error(read_record(folder / RESULT_FILE))
            if trial.error is None:
                raise UserError(f"{folder}: has no validation error; a study needs a validation split")
            trial.state, trial.steps = COMPLETE, errors

    def _go_on(self) -> str:
        return f"{program.typed('python tools/tune.py')} study='{self.folder}'"

    def _trained(self, trial: Trial) -> int:
        """Run the process of a trial, or let its run go on; return its exit code, 0 if there is nothing left to do."""
        before = self._run_folder(trial)
        words = [*self.fixed, *trial.words, as_word("runs", str(self.folder / "runs"))]
        if before is not None:
            if (before / RESULT_FILE).exists():
                return 0
            words = [as_word("resume", str(before)), *(word for word in self.fixed if word.startswith("trainer"))]
        environment = {FOLDERS_VARIABLE: str(self._folders(trial)), CHOOSING_VARIABLE: "1"}

        seen = 0

        def bad() -> bool:
            nonlocal seen
            errors = errors_of(self._run_folder(trial))
            new, seen = len(errors) > seen, len(errors)
            return new and self._pruned_at(trial, errors) is not None

        command = [*program.start_train(), *words]
        return _run_trial(command, environment, self._output(trial), bad, f"go on with: {self._go_on()}")

    def _pruned_at(self, trial: Trial, errors: Sequence[float]) -> int | None:
        return studies.pruned_at(self.space, self.trials[:-1], errors, self._epochs(trial))

    def _output(self, trial: Trial) -> Path:
        return self.folder / f"trial_{trial.number + 1}.txt"

    def _folders(self, trial: Trial) -> Path:
        return self.folder / f".folder_{trial.number + 1}"

    def _run_folder(self, trial: Trial) -> Path | None:
        found = announced(self._folders(trial))
        return Path(found[-1]) if found else None

    def _tell(self, trial: Trial) -> None:
        """Print what came of a trial."""
        chosen = studies.best(self.trials)
        lead = f"; best so far: trial {chosen.number + 1} with {chosen.error:.2f}%" if chosen else ""
        if trial.state == COMPLETE:
            say(f"  validation error {trial.error:.2f}% after {len(trial.steps)} epochs{lead}")
        elif trial.state == PRUNED:
            say(f"  given up after epoch {len(trial.steps)} at {trial.steps[-1]:.2f}%{lead}")
        else:
            output = self._output(trial)
            lines = output.read_text(errors="replace").splitlines() if output.exists() else []
            say(f"  failed: {lines[-1] if lines else 'it printed nothing'} ({output})")

    def _draw(self) -> None:
        write_text(self.folder / TABLE, studies.trials_csv(self.space, self.trials))
        axes = [
            Axis(key, [trial.asked[key] for trial in self.trials], isinstance(it, Interval) and it.log)
            for key, it in self.space.items()
        ]
        draw_study(
            self.folder / PICTURE,
            [trial.error if trial.state == COMPLETE else None for trial in self.trials],
            [min(trial.steps) if trial.state == PRUNED else None for trial in self.trials],
            axes,
        )

    def _report(self) -> int:
        """Print the best settings and the folder of their run."""
        self._draw()
        chosen = studies.best(self.trials)
        counts = {state: sum(trial.state == state for trial in self.trials) for state in (COMPLETE, PRUNED, FAILED)}
        say(f"{len(self.trials)} trials: {', '.join(f'{count} {state}' for state, count in counts.items() if count)}")
        say(f"written: {self.folder}/{PICTURE}, {TABLE}")
        if chosen is None or chosen.folder is None:
            raise UserError(
                f"{self.folder}: no trial was complete; {self.folder}/trial_1.txt says what the first printed"
            )
        row = mean_row("", [read_record(Path(chosen.folder) / RESULT_FILE)])
        say(
            f"chosen by the validation error, {chosen.error:.2f}%: trial {chosen.number + 1}; its test top-1 error is "
            f"{error_cell(row.top1_error, None, row.top1_interval)}%"
        )
        say(" ".join(chosen.words))
        say(chosen.folder)
        return 0


def errors_of(folder: Path | None) -> list[float]:
    """Return the validation errors (percent) of a run's epochs so far."""
    if folder is None or not (folder / METRICS_FILE).exists():
        return []
    rows = read_table(folder / METRICS_FILE, ("validation_top1_error",))
    return [float(row["validation_top1_error"]) for row in rows if row["validation_top1_error"]]


def _run_trial(
    command: Sequence[str], environment: Mapping[str, str], output: Path, bad: Callable[[], bool], advice: str
) -> int:
    """Run a process to its end, or stop it once it is bad; what it prints goes to a file.

    Returns:
        Its exit code.

    Raises:
        StoppedError: a signal has stopped this process, and so that one.
    """
    variables, received = {**os.environ, **environment}, []
    with (
        output.open("ab") as file,
        subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL, stdout=file, stderr=file) as process,
    ):

        def tell(number: signal.Signals) -> None:
            received.append(number)
            if number != signal.SIGINT:  # the terminal sends Ctrl-C itself
                process.send_signal(number)

        told = False
        with heard(tell):
            while process.poll() is None:
                time.sleep(POLL)
                if not told and bad():
                    process.terminate()
                    told = True
    if received:
        raise StoppedError(f"stopped by {received[0].name}; {advice}", 128 + received[0])
    return process.returncode
