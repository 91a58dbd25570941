"""Predict the likeliest classes of each picture, or say why there are none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from harness.config.data import DECODERS, ImageFilesConfig
from harness.data.images.folder import printable
from harness.data.images.pixels import Normalise
from harness.data.loading.workers import Decoded, Request, WindowDecoder, decoding, workers_at_hand
from harness.errors import UserError
from harness.evaluation.counts import first_classes
from harness.evaluation.scores import class_scores, prepare
from harness.prediction.network import Loaded
from harness.run.checkpoint import Trained
from harness.run.machine import available_cores, shared_memory

NOT_A_NUMBER = "its scores are not numbers"


@dataclass(frozen=True)
class Prediction:
    """The answer for one picture.

    Attributes:
        image: its path, as printable text.
        classes: positions in the class names, best first, ties by the lower; empty where there is a problem.
        probabilities: 0 to 1, of the softmax over all classes.
        problem: why there is no answer; None if there is one.
    """

    image: str
    classes: tuple[int, ...]
    probabilities: tuple[float, ...]
    problem: str | None = None


@dataclass
class _Arithmetic:
    """How the network computes, as in an evaluation: channels last for pictures that are resized."""

    channels_last: bool
    compile: bool = False


def choose_device(wanted: str | None) -> torch.device:
    """Return the device that the user names, or else a GPU if there is one.

    Raises:
        UserError: this machine does not have the device.
    """
    try:
        device = torch.device(wanted or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
        raise UserError(f"--device {wanted}: {str(error).splitlines()[0]}; cpu runs everywhere") from error
    return device


def choose_workers(images: int, batch_size: int, size: int, device: torch.device) -> int:
    """Choose how many processes decode: none for a single batch, otherwise as many as in an evaluation."""
    if images <= batch_size:
        return 0
    on_cpu = device.type == "cpu"
    return workers_at_hand(available_cores(), 1, on_cpu, 3 * size * size * batch_size, shared_memory())


def decoder_of(trained: Trained) -> str:
    """Return the decoder of the data that the network was trained on, or the default."""
    return trained.data.decoder if isinstance(trained.data, ImageFilesConfig) else DECODERS[0]


@torch.inference_mode()
def predict(
    loaded: Loaded,
    paths: Sequence[bytes],
    *,
    top: int,
    batch_size: int,
    device: torch.device,
    workers: int | None = None,
) -> Iterator[Prediction]:
    """Predict each file, in order; a file that cannot be read gets a prediction with a problem.

    All batches have one size, as in an evaluation: the last batch is filled up, so that the answer for a picture does
    not depend on its neighbours. If there are fewer pictures than `batch_size`, the size is their number.

    Args:
        loaded: the network; it is moved to the device.
        paths: paths of the files.
        top: number of classes for each picture; all of the network's if it has fewer.
        batch_size: pictures that the network gets at once.
        device: where the network runs.
        workers: processes that decode; None chooses their number.

    Raises:
        UserError: the network takes pictures of other than one or three channels.
    """
    preprocessing, network = loaded.trained.preprocessing, loaded.network
    if preprocessing.channels not in (1, 3):
        raise UserError(f"{loaded.source}: takes {preprocessing.channels} channels; pictures have one or three")
    batch_size = min(batch_size, len(paths))
    if workers is None:
        workers = choose_workers(len(paths), batch_size, preprocessing.size, device)
    how = _Arithmetic(channels_last=preprocessing.resize is not None)
    prepare(network.to(device), how)
    normalise = Normalise(preprocessing, device)
    requests = [
        Request(np.arange(start, min(start + batch_size, len(paths))), list(paths[start : start + batch_size]), None)
        for start in range(0, len(paths), batch_size)
    ]
    middles = WindowDecoder(preprocessing, decoder_of(loaded.trained), as_viewed=True)
    for decoded in decoding(middles, requests, workers, pinned=device.type == "cuda"):
        scores = torch.empty(0, 1)
        if len(decoded.images):
            windows = decoded.images[:, 0].to(device).movedim(-1, -3)  # uint8 (n, 3, size, size)
            images = normalise(windows)
            scores = class_scores(network, images, how, batch_size)
        yield from _answers(decoded, scores, paths, top)


def _answers(decoded: Decoded, scores: torch.Tensor, paths: Sequence[bytes], top: int) -> Iterator[Prediction]:
    """Yield the predictions of one batch, in the order of its files."""
    classes, best = first_classes(scores, top)
    probabilities = (best - scores.logsumexp(1, keepdim=True)).exp()
    found = {image: Prediction(printable(paths[image]), (), (), reason) for image, reason in decoded.unreadable}
    for image, choices, chances in zip(decoded.indices.tolist(), classes.tolist(), probabilities.tolist(), strict=True):
        name = printable(paths[image])
        broken = choices[0] < 0
        found[image] = (
            Prediction(name, (), (), NOT_A_NUMBER) if broken else Prediction(name, tuple(choices), tuple(chances))
        )
    yield from (found[image] for image in sorted(found))
