"""The error that was published for a network, beside the one that was measured here. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.config.protocol import DENSE, MULTI_CROP
from models.catalogue import MODELS, Published

SPLITS = {  # name of the data here: the catalogue's, and the number of its images
    "mnist": ("MNIST test", 10_000),
    "cifar10": ("CIFAR-10 test", 10_000),
    "cifar100": ("CIFAR-100 test", 10_000),
    "imagenet": ("ImageNet val", 50_000),
}
USUAL_SIZE = 224  # of the input of a network for ImageNet
PUBLISHER = "the publisher of"
INSIDE, BETTER, WORSE, NOT_COMPARABLE = "inside the interval", "better", "worse", "not comparable"


def published_beside(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the published errors that come closest to a record's conditions, and a verdict; None if there are none.

    Weights that were only evaluated stand beside what their publisher measured, every other network beside the first
    row of the catalogue of its data, protocol, options and recipe; a row of its own recipe comes first.

    Args:
        content: of a `result.json`; the verdict follows from its 95% interval.
    """
    data, images = SPLITS.get(content["data"]["name"], ("", 0))
    entry = MODELS.get(content["model"]["name"])
    known = _of_weights(content, data) or [row for row in (entry.published if entry else ()) if row.data == data]
    if not known:
        return None
    reasons = [(row, _why_not(row, content, images)) for row in known]
    row, why = min(reasons, key=lambda found: _distance(found[0], content, len(found[1])))
    return {
        "top1_error": row.top1_error,
        "top5_error": row.top5_error,
        "data": row.data,
        "protocol": row.protocol,
        "source": row.source,
        "verdict": NOT_COMPARABLE if why else _verdict(row, content),
        "why": "; ".join(why) or None,
        "note": row.note or None,
    }


def compared(published: float, interval: tuple[float, float]) -> str:
    """Return whether a published error lies in the interval of ours, or ours is better or worse."""
    low, high = interval
    return INSIDE if low <= published <= high else BETTER if published > high else WORSE


def line_about(published: Mapping[str, Any]) -> str:
    """Return a line about what `published_beside` returned: `published 0.95% top-1 (LeCun 1998, Fig. 9): better`."""
    errors = " and ".join(
        f"{published[f'top{k}_error']:g}% top-{k}" for k in (1, 5) if published[f"top{k}_error"] is not None
    )
    why = f": {published['why']}" if published["why"] else ""
    note = f" ({published['note']})" if published["note"] else ""
    return f"published {errors} [{published['source']}]{note}: {published['verdict']}{why}"


def _verdict(row: Published, content: Mapping[str, Any]) -> str:
    k, error = (1, row.top1_error) if row.top1_error is not None else (5, row.top5_error)
    assert error is not None, "a row has an error"
    return compared(error, content[f"top{k}_error_interval_95"])


def _of_weights(content: Mapping[str, Any], data: str) -> list[Published]:
    """What the publisher of weights measured on ImageNet, on the central crop of the size that comes with them."""
    weights = content.get("pretrained") or {}  # records of version 1 lack it
    errors = (weights.get("published") or {}).get("ImageNet-1K")
    if content["training"] is not None or errors is None or data != "ImageNet val":
        return []
    crop = _protocol({**content, "protocol": {"name": "center_crop"}})
    return [Published(data, crop, errors["top1_error"], errors["top5_error"], f"{PUBLISHER} {weights['name']}")]


def _protocol(content: Mapping[str, Any]) -> str:
    """The protocol by the catalogue's name."""
    name = content["protocol"]["name"]
    if name == "whole_image":
        return "whole image"
    size, resized = content["preprocessing"]["size"], content["preprocessing"]["resize"]
    if name == MULTI_CROP or name in DENSE:
        scales = content["protocol"].get("scales") or [resized or size]
        edges = f"scale{'s' if len(scales) > 1 else ''} {', '.join(map(str, scales))}"
        network = "" if size == USUAL_SIZE else f", of a network for {size}"
        return f"{'50 crops' if name == MULTI_CROP else 'dense with flips'}, {edges}{network}"
    return f"{'10-crop' if name == 'ten_crop' else 'center crop'} {size} of {resized}"


def _in_our_words(protocol: str) -> str:
    """A protocol of the catalogue as `_protocol` would say it."""
    usual = {"1-crop": "center crop 224 of 256", "10-crop": "10-crop 224 of 256"}
    return usual.get(protocol, protocol).replace("fully convolutional", "dense with flips")


def _why_not(row: Published, content: Mapping[str, Any], images: int) -> list[str]:
    """The reasons for which the error of a record cannot be compared with a published one, the strongest first."""
    options, training = content["model"]["options"], content["training"]
    differing = [name for name, value in row.options if _plain(options.get(name)) != _plain(value)]
    distorted = bool(training and training["recipe"].get("distortion"))
    why = [f"its network has other {name}" for name in differing]
    if _by_another_recipe(row, content):
        why.append(f"it was trained by another recipe: {row.recipe}")
    if _in_our_words(row.protocol) != _protocol(content):
        why.append(f"it was measured by another protocol: {row.protocol}")
    if training and row.resized and tuple(training["recipe"].get("resize_range") or ()) != row.resized:
        smallest, largest = row.resized
        to = f"{smallest} to {largest}" if largest > smallest else str(smallest)
        why.append(f"it was trained on images whose shorter edge was resized to {to}")
    if training and distorted != row.distorted:
        why.append(f"it was trained {'with' if row.distorted else 'without'} distorted images")
    if row.other:
        why.append(row.other)
    if content["seen"] != images:
        why.append(f"this is the error on {content['seen']:,} of {images:,} images")
    if training is None and not row.source.startswith(PUBLISHER):
        why.append("this record does not hold how the weights were trained")
    if training and content.get("pretrained") and not row.continued:
        why.append("this training began with the weights of another one")
    if training and training["max_batches"] is not None:
        why.append("this training was cut short by trainer.max_batches")
    return why


def _distance(row: Published, content: Mapping[str, Any], reasons: int) -> tuple[int, bool, bool]:
    """How far a published error is from a record; another recipe puts it less far away than any other reason."""
    other = _by_another_recipe(row, content)
    return reasons - other, other, row.recipe != _recipe(content)


def _by_another_recipe(row: Published, content: Mapping[str, Any]) -> bool:
    return row.recipe != "" and _recipe(content) not in ("", row.recipe)


def _recipe(content: Mapping[str, Any]) -> str:
    """The name of the recipe that a record's network was trained by; empty if it is not known."""
    return str((content["training"] or {}).get("recipe", {}).get("name", ""))


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
