"""Random numbers that are pure functions of what they are for, never of what was drawn before.

SplitMix64 (Steele, Lea, Flood 2014, Fast Splittable Pseudorandom Number Generators), on int64 tensors, whose
arithmetic wraps: number `index` of the sequence whose state comes from (seed, epoch, stream). The order of an epoch
and the augmentation of an image so cannot depend on workers, devices, batches or interruptions.
"""

from __future__ import annotations

from enum import IntEnum, unique

import torch

HASH_VERSION = 1  # in every record; another way of drawing gets another number

ON_CPU = ("mps",)  # types of devices that lack float64, for whose draws the CPU computes

_GOLDEN = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_SHIFTS = (30, 27, 31)
_MASK = (1 << 64) - 1


@unique
class Stream(IntEnum):
    """What a number is drawn for; each has a sequence of its own."""

    ORDER = 0
    CROP_Y = 1
    CROP_X = 2
    FLIP = 3
    STEP = 4
    WINDOW = 5
    MIXING = 6  # its indices are steps of an epoch
    OPERATIONS = 20
    DISTORTION = 21
    LIGHTING = 22
    ERASING = 23
    DEPTH = 30  # of residual blocks


def _mix(value: int) -> int:
    for shift, multiplier in zip(_SHIFTS, (*_MULTIPLIERS, 1), strict=True):
        value = ((value ^ (value >> shift)) * multiplier) & _MASK
    return value


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def state(seed: int, epoch: int, stream: Stream) -> int:
    """64 unsigned bits that differ with each of seed, epoch and stream."""
    value = 0
    for part in (seed, epoch, int(stream)):
        value = _mix((value + part + _GOLDEN) & _MASK)
    return value


def _computing(indices: torch.Tensor) -> torch.Tensor:
    """Return the indices on the device that computes with them: their own, or the CPU for a Mac's GPU."""
    return indices.cpu() if indices.device.type in ON_CPU else indices


def bits(seed: int, epoch: int, stream: Stream, indices: torch.Tensor) -> torch.Tensor:
    """64 random bits for each index.

    Args:
        seed: of the run.
        epoch: counted from 0.
        stream: what they are for.
        indices: int64, any shape; positions of images in their split.

    Returns:
        int64 of the same shape and device, negative ones included.
    """
    value = (_computing(indices) + 1) * _signed(_GOLDEN) + _signed(state(seed, epoch, stream))
    for shift, multiplier in zip(_SHIFTS, (*_MULTIPLIERS, 1), strict=True):
        unsigned_shift = (value >> shift) & ((1 << (64 - shift)) - 1)
        value = (value ^ unsigned_shift) * _signed(multiplier)
    return value.to(indices.device)


def integers(below: int, seed: int, epoch: int, stream: Stream, indices: torch.Tensor) -> torch.Tensor:
    """A number from 0 to `below` - 1 for each index, uniform to one part in 2**31 / `below`; int64."""
    upper = (bits(seed, epoch, stream, _computing(indices)) >> 33) & ((1 << 31) - 1)
    return ((upper * below) >> 31).to(indices.device)


def uniform(count: int, seed: int, epoch: int, stream: Stream, indices: torch.Tensor) -> torch.Tensor:
    """`count` numbers for each index of int64 (N,), uniform in [0, 1) in steps of 2**-53; float64 (N, count).

    They are on the device of the indices, or on the CPU where that is a Mac's GPU, which has no float64.
    """
    indices = _computing(indices)
    drawn = bits(seed, epoch, stream, indices[:, None] * count + torch.arange(count, device=indices.device))
    return ((drawn >> 11) & ((1 << 53) - 1)).double() / (1 << 53)


def uniform_of(count: int, seed: int, epoch: int, stream: Stream, index: int) -> list[float]:
    """The numbers of `uniform` for one index, without tensors: a tenth of its time for a few numbers."""
    first = state(seed, epoch, stream) + index * count * _GOLDEN
    return [(_mix((first + number * _GOLDEN) & _MASK) >> 11) / (1 << 53) for number in range(1, count + 1)]


def order(seed: int, epoch: int, images: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """The order of an epoch: a permutation of 0 to `images` - 1, int64 (images,)."""
    own = torch.arange(images, device=device)
    return torch.argsort(bits(seed, epoch, Stream.ORDER, _computing(own)), stable=True).to(device)
