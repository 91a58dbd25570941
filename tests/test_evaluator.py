"""An evaluation that is told to stop says so, and its exit code says it too."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from harness import build
from harness.config import ProtocolConfig, TrainerConfig
from harness.data.preprocessing import Preprocessing
from harness.data.sources import ImageSet
from harness.errors import StoppedError
from harness.evaluation.evaluator import evaluate


class SendsItself(nn.Module):
    """A network that gets a signal while it works."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self.number = number

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        os.kill(os.getpid(), self.number)
        return images.flatten(1)[:, :3]


@pytest.fixture(autouse=True)
def pythons_own_handlers() -> Iterator[None]:
    """A process that was started in the background ignores SIGINT."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_evaluation_with_its_exit_code(number: signal.Signals) -> None:
    split = ImageSet(torch.zeros(9, 1, 4, 4, dtype=torch.uint8), torch.arange(9) % 3, [str(i) for i in range(9)])
    trainer = build.build_trainer(TrainerConfig("cpu", "cpu", 1, "auto", 1, False, None, None, 1000), "32-true", [])
    preprocessing, protocol = (
        Preprocessing(1, 4, None, None, (0.5,), (0.5,)),
        ProtocolConfig("whole_image", 2, "32-true"),
    )
    with pytest.raises(StoppedError, match=f"stopped by {number.name} in the evaluation") as stopped:
        evaluate(trainer, SendsItself(number), split, preprocessing, protocol)
    assert stopped.value.exit_code == 128 + number
