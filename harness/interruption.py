"""Ctrl-C and SIGTERM: a flag that is read where the run can stop without losing a step."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.utilities.exceptions import SIGTERMException

from harness.errors import StoppedError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Notes a signal while a run trains; a second one ends the process at once."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def watch(self) -> None:
        """Take the signals over."""
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}

    def release(self) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        for watched in self._before:
            signal.signal(watched, signal.SIG_DFL)

    def agreed(self, trainer: L.Trainer) -> bool:
        """Whether a process of the run received one; every process gets the same answer."""
        if trainer.world_size == 1:
            return self.received is not None
        return bool(trainer.strategy.reduce_boolean_decision(self.received is not None, all=False))

    def stopped(self, step: int, folder: object) -> StoppedError:
        """What to raise once the checkpoint is written."""
        return _stopped(self.received or signal.SIGTERM, f"after step {step:,}; {go_on(folder)}")


@contextmanager
def told(when: str) -> Iterator[None]:
    """Say that a signal stopped what goes on inside, `when` it came; Lightning just exits, with codes of its own.

    Raises:
        StoppedError: a signal came that nothing watched for.
    """
    try:
        yield
    except SystemExit as stopped:
        number = signal.SIGTERM if isinstance(stopped, SIGTERMException) else signal.SIGINT
        raise _stopped(number, when) from stopped


def go_on(folder: object) -> str:
    """How a run is continued."""
    return f"go on with: python train.py resume='{folder}'"


def _stopped(number: signal.Signals, when: str) -> StoppedError:
    return StoppedError(f"stopped by {number.name} {when}", 128 + number)
