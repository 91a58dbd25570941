"""Conditions that can change a run's numbers besides its config: the images themselves and the machine."""

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

UNKNOWN = {"device": None, "devices": None, "threads": None, "torch": None}  # a run that an older version began


def under_conditions(
    trained: Trained, images: Split, protocol: ProtocolConfig, team: Team, accumulate: int, before: Trained | None
) -> Trained:
    """Add training images, validation and machine to the description that a run's checkpoints and records carry.

    Validation while training, and the features of a linear probe, use the protocol's views and batches with the
    recipe's arithmetic.

    Args:
        trained: description of the run's network.
        images: training images.
        protocol: protocol of the run.
        team: processes of the run.
        accumulate: number of parts in which each computes its share of a batch.
        before: description in the checkpoint that the run is resumed from; None for a new run.

    Raises:
        UserError: the run began with other images.
    """
    here = place(team, accumulate)
    began: dict[str, Any] = (before and before.training) or {}
    fingerprint = images.listing() if isinstance(images, ImageFiles) else images.fingerprint()
    if began.get("fingerprint", fingerprint) != fingerprint:
        raise UserError(
            f"data={trained.trained_on}: the training images have changed since this run began; put the old ones back, "
            "or start a new run"
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


def place(team: Team, accumulate: int) -> dict[str, Any]:
    """Return what can change the last bits of a run: device, number of devices, CPU threads, version of torch.

    Parts of a batch have a key if there are several: they also change what batch norms see.
    """
    device = team.accelerator
    here = {
        "device": device,
        "devices": team.size,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__).partition("+")[0],
    }
    if accumulate > 1:
        here["accumulate"] = accumulate
    if device == "cuda":  # with precision=32-true a convolution may still use TensorFloat-32
        here |= {"gpu": torch.cuda.get_device_name(), "tf32": torch.backends.cudnn.allow_tf32}
    return here
