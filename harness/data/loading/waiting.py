"""How long a loop waited for its input."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TypeVar

import torch

Item = TypeVar("Item")
TOO_MUCH = 0.1  # share of the time above which a run says what to change


class Waiting:
    """Adds up the time that a device had nothing to do because the next batch was not there.

    On the CPU that is the time until the next batch. On a GPU the batch may come while it still works on the one
    before: there it is the time between two events, one queued behind that work, one once the batch has come.

    Args:
        device: that uses the batches.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.on_gpu = torch.device(device).type == "cuda"
        self._seconds = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def over(self, batches: Iterator[Item]) -> Iterator[Item]:
        """Hand the same batches on, and add up how long each was waited for; what was before is forgotten."""
        self._seconds, self._events = 0.0, []
        while True:
            before = _event() if self.on_gpu else None
            started = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._seconds += time.perf_counter() - started
            after = _event() if self.on_gpu else None
            if before is not None and after is not None:
                self._events.append((before, after))
            yield batch

    @property
    def seconds(self) -> float:
        """Waited for the batches of the last iteration; waits for the GPU."""
        if not self.on_gpu:
            return self._seconds
        torch.cuda.synchronize()
        return sum(float(before.elapsed_time(after)) for before, after in self._events) / 1000


def _event() -> torch.cuda.Event:
    """A moment in the GPU's queue."""
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def advice(share: float, workers: int, cores: int, decoder: str) -> str | None:
    """What to change when `share` of the time went by waiting for images; None when little did.

    Args:
        share: 0 to 1.
        workers: processes that decode for this device.
        cores: of the machine, for this device.
        decoder: that they use.
    """
    if share <= TOO_MUCH:
        return None
    if decoder == "pil":
        change = "data.decoder=fast reads JPEG files in half the time"
    elif workers < cores:
        change = f"trainer.workers={cores} would use every core (now {workers})"
    else:
        change = "every core decodes already: more cores, or smaller files, would help"
    return f"input: {100 * share:.0f}% of the time went by waiting for images; {change}"
