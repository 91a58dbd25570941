"""What else can move the numbers of a run, beside what its config says: the images as they were, and the machine."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from harness.config.protocol import ProtocolConfig
from harness.data.images.image_files import ImageFiles
from harness.data.sources.splits import Split
from harness.errors import UserError
from harness.run.checkpoint import Trained
from harness.run.processes import Team

UNKNOWN = {"device": None, "devices": None, "threads": None, "torch": None}  # of a run that an older version began


def under_conditions(
    trained: Trained, images: Split, protocol: ProtocolConfig, team: Team, before: Trained | None
) -> Trained:
    """Add to what a run's checkpoints and records say: its training images, how it validates, and where it ran.

    Validation while training, and the features of a linear probe, use the protocol's views and batches with the
    recipe's arithmetic.

    Args:
        trained: of the run.
        images: that it trains on.
        protocol: of the run.
        team: of the run.
        before: what the checkpoint says that the run goes on from; None for none.

    Raises:
        UserError: the run began with other images.
    """
    here = place(team)
    began: dict[str, Any] = (before and before.training) or {}
    fingerprint = images.listing() if isinstance(images, ImageFiles) else images.fingerprint()
    if began.get("fingerprint", fingerprint) != fingerprint:
        raise UserError(
            f"data={trained.trained_on}: the training images are not those that this run began with; put them back, or "
            "start a new run"
        )
    places = began.get("places", [UNKNOWN] if before else [])
    own: dict[str, Any] = trained.training or {}
    known = {
        "images": len(images.labels),
        "fingerprint": fingerprint,
        "validated": vars(protocol) | {key: own["recipe"][key] for key in ("precision", "channels_last", "compile")},
        "places": places if here in places else [*places, here],
    }
    return dataclasses.replace(trained, training={**own, **known})


def place(team: Team) -> dict[str, Any]:
    """What a process computes on, as far as it can move the last bits: device, how many, the CPU's threads, torch."""
    device = team.accelerator
    here = {
        "device": device,
        "devices": team.size,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__).partition("+")[0],
    }
    if device == "cuda":  # there a convolution of 32-true may compute in TensorFloat-32
        here |= {"gpu": torch.cuda.get_device_name(), "tf32": torch.backends.cudnn.allow_tf32}
    return here
