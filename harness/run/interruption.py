"""Handle Ctrl-C, SIGTERM, and the signals that schedulers send before they end a job.

A thread receives the signals, so that they work even while the main thread imports or waits inside a library. A script
that can stop without losing its work takes the signals over with `heard`. Everywhere else a signal ends the script at
once, with one line on standard error and exit code 128 + signal.

Importing this module is quick, because a script calls `listen` before it imports anything else.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, cast

from harness.errors import StoppedError
from harness.run.printable import printable, say
from harness.run.program import go_on
from harness.run.streams import fitting, prepare_streams

if TYPE_CHECKING:
    import lightning as L
    import torch

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
PARENT = "CNN_ZOO_PARENT"  # environment variable: id of the process of the same run that started this one
POLL = 0.5  # seconds between two checks that this parent process still exists
REPEAT = 1.0  # seconds within which a launcher may repeat a signal; a later Ctrl-C ends the process at once
ASK_EVERY = 1.0  # approximate seconds between two questions to the other processes of a run
MOST_STEPS = 50  # most steps between two such questions

Receive = Callable[[signal.Signals], None]


class _Listener(threading.Thread):
    """Thread that receives the signals of this process until the process ends.

    Args:
        script: name of the script, with which its line begins.
        parent: id of the process that prints for this one and that this one must not outlive; None without one.
    """

    def __init__(self, script: str, parent: int | None) -> None:
        super().__init__(name="signals", daemon=True)
        self.script = script
        self.parent = parent
        self.silent = parent is not None
        self.doing = ""
        self.receive: Receive = self.stop
        self.last_words: list[Callable[[str], None]] = []
        self.pipe, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)  # before a handler is there that leaves all to it
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup and a shell's `&` have it ignored
                signal.signal(number, _left_to_the_thread)

    def run(self) -> None:
        """Wait for signals and pass each on; end the process if its parent is gone."""
        while True:
            ready, _, _ = select.select([self.pipe], [], [], POLL)
            if self.parent is not None and os.getppid() != self.parent:
                self.end("", 1)
            for number in os.read(self.pipe, 64) if ready else b"":
                if number in SIGNALS:
                    self.receive(signal.Signals(number))

    def stop(self, number: signal.Signals) -> None:
        """End the process because of a signal."""
        self.end(f"stopped by {number.name}{self.doing}", 128 + number)

    def end(self, message: str, code: int) -> None:
        """End the process at once, wherever its main thread is."""
        line = printable(f"{self.script}: {message}")
        for last in self.last_words:
            last(line)
        if not self.silent:
            for terminal in filter(os.isatty, (1, 2)):
                os.write(terminal, b"\r\x1b[2K\x1b[?25h")  # clear a progress bar, and show the cursor that it hid
            os.write(2, f"{fitting(line, sys.stderr)}\n".encode())
        if "multiprocessing.util" in sys.modules:  # otherwise Python's resource tracker warns about leaks
            with suppress(Exception):
                sys.modules["multiprocessing.util"]._run_finalizers(0)
        os._exit(code)


def _left_to_the_thread(number: int, frame: object) -> None:
    """Do nothing: Python calls this in the main thread, but the listening thread handles the signal."""


_listener: _Listener | None = None


def listen(script: str) -> None:
    """Start to handle signals and closed pipes; every script calls this first.

    Args:
        script: name with which its line begins, such as `train.py` or `cnn-zoo train`.
    """
    global _listener
    prepare_streams()
    parent = os.environ.pop(PARENT, None)
    _listener = _Listener(script, os.getppid() if parent == str(os.getppid()) else None)
    _listener.start()


def end(message: str, code: int) -> None:
    """End the process at once from any thread, with a line on standard error."""
    if _listener is not None:
        _listener.end(message, code)
    say(message, sys.stderr)
    os._exit(code)


def listens() -> bool:
    """Return whether this process is a script of this project, not a program that uses it as a library."""
    return _listener is not None


def is_member() -> bool:
    """Return whether another process of the same run started this one."""
    return _listener is not None and _listener.parent is not None


def be_silent() -> None:
    """Print nothing when this process ends: another process of the same run prints the line."""
    if _listener is not None:
        _listener.silent = True


def before_the_end(last: Callable[[str], None]) -> None:
    """Call `last` with the line before a signal ends the process; in the listening thread."""
    if _listener is not None:
        _listener.last_words.append(last)


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Add `what` to the line that is printed if a signal ends the process inside."""
    if _listener is None:
        yield
        return
    before, _listener.doing = _listener.doing, f" {what}"
    try:
        yield
    finally:
        _listener.doing = before


@contextmanager
def heard(receive: Receive) -> Iterator[None]:
    """Call `receive` for signals that arrive inside, in the listening thread, instead of ending the process."""
    if _listener is None:
        yield
        return
    before, _listener.receive = _listener.receive, receive
    try:
        yield
    finally:
        _listener.receive = before


def nothing_to_lose() -> None:
    """From here on, let a signal end the process at once with exit code 0: all its work is written.

    A job that was put into the queue again because of another exit code would find nothing to go on with, and begin
    anew.
    """
    if _listener is not None:
        _listener.receive = lambda number: end(f"{number.name} came after all was written", 0)


class Interruption:
    """Remembers a signal while a run trains; all processes of the run ask for it together where they can stop."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._watching = ExitStack()
        self._at = 0.0
        self._asked = time.monotonic()
        self._steps = 0  # since the last question
        self._interval = 1  # steps from one question to the next, the same in every process

    def watch(self) -> None:
        """Start to receive the signals."""
        self._watching.enter_context(heard(self.note))

    def release(self) -> None:
        """Stop receiving the signals."""
        self._watching.close()

    def note(self, number: signal.Signals) -> None:
        """Remember a signal; a second Ctrl-C ends the process at once."""
        now = time.monotonic()
        if self.received is None:
            self.received, self._at = number, now
        elif number == signal.SIGINT and now - self._at > REPEAT and _listener is not None:
            _listener.stop(number)

    def agreed_at_step(self, trainer: L.Trainer) -> bool:
        """Do the same after a step; several processes ask only about once a second, because asking costs a wait."""
        if trainer.world_size == 1:
            return self.received is not None
        self._steps += 1
        return self.agreed(trainer) if self._steps >= self._interval else False

    def agreed(self, trainer: L.Trainer) -> bool:
        """Return whether any process of the run received a signal; every process must ask and gets the same answer."""
        if trainer.world_size == 1:
            return self.received is not None
        import torch

        now = time.monotonic()
        seconds = (now - self._asked) / max(1, self._steps)
        wanted = min(MOST_STEPS, max(1, int(ASK_EVERY / seconds))) if trainer.is_global_zero else 0
        mine = torch.tensor([self.received is not None, wanted], device=trainer.strategy.root_device)
        received, interval = cast("torch.Tensor", trainer.strategy.reduce(mine, reduce_op="sum")).tolist()
        self._asked, self._steps, self._interval = now, 0, int(interval)
        return bool(received)

    def stopped(self, step: int, folder: object) -> StoppedError:
        """Return the error to raise once the checkpoint is written."""
        number = self.received or signal.SIGTERM
        return StoppedError(f"stopped by {number.name} after step {step:,}; {go_on(folder)}", 128 + number)
