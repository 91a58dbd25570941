"""Windows of many pictures resized at once on a device, antialiased, to the very pixels that `geometry.resize` gives.

A resized row is a weighted sum of a row's pixels, so resizing is a product with a matrix, first for the columns, then
for the rows. As torch does it on uint8, the weights are whole numbers over a power of two, and the sums are rounded
after each of the two. With 16 bits at most, every sum of 32-bit floats is exact, in whatever order a device adds.
"""

from __future__ import annotations

import torch

MOST_BITS = 16  # a level has 8, and 32-bit floats hold 24
MOST_SCALE = 3  # of which a window may be larger than its result: beyond, torch takes more bits
HELD = 2**15  # weights are below this, as torch's are
AT_ONCE = 256  # windows, whose pixels are 32-bit floats meanwhile


def resized_windows(
    pixels: torch.Tensor, starts: torch.Tensor, widths: torch.Tensor, boxes: torch.Tensor, size: int
) -> torch.Tensor:
    """Windows of pictures at another size.

    Args:
        pixels: uint8 (P,), the pixels of all pictures, RGB.
        starts: int64 (N,), where those of each window's picture begin.
        widths: int64 (N,), how wide that picture is.
        boxes: int64 (N, 4), top, left, height and width of each window, the last two at most `MOST_SCALE` sizes.
        size: side of the results in pixels.

    Returns:
        uint8 (N, 3, size, size) on the device of all these, channels last in memory.
    """
    made = pixels.new_empty((len(boxes), 3, size, size)).contiguous(memory_format=torch.channels_last)
    for first in range(0, len(boxes), AT_ONCE):
        some = slice(first, first + AT_ONCE)
        made[some] = _resized(pixels, starts[some], widths[some], boxes[some], size)
    return made


def _resized(
    pixels: torch.Tensor, starts: torch.Tensor, widths: torch.Tensor, boxes: torch.Tensor, size: int
) -> torch.Tensor:
    top, left, height, width = boxes.unbind(1)
    row = top[:, None] + _up_to(height)  # (N, H); beyond a window its last pixel comes again, with weight 0
    column = left[:, None] + _up_to(width)  # (N, W)
    place = starts[:, None, None] + 3 * (row * widths[:, None])[:, :, None] + 3 * column[:, None]  # (N, H, W)
    windows = torch.stack([pixels[place + channel] for channel in range(3)], dim=1).float()  # (N, 3, H, W)
    narrow = _rounded(windows @ _weights(width, size)[:, None].transpose(-1, -2))  # (N, 3, H, size)
    return _rounded(_weights(height, size)[:, None] @ narrow)


def _up_to(lengths: torch.Tensor) -> torch.Tensor:
    every = torch.arange(int(lengths.max()), device=lengths.device)
    return torch.minimum(every, lengths[:, None] - 1)


def _rounded(sums: torch.Tensor) -> torch.Tensor:
    return sums.add_(0.5).floor_().clamp_(0, 255)


def _weights(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """What each of `size` results takes of each pixel of a row of `lengths`, float32 (N, size, longest)."""
    scale = lengths.double()[:, None, None] / size
    reach = scale.clamp(min=1)
    middle = (torch.arange(size, device=lengths.device, dtype=torch.float64)[:, None] + 0.5) * scale
    pixel = torch.arange(int(lengths.max()), device=lengths.device, dtype=torch.float64)
    weights = (1 - ((pixel + 0.5 - middle) / reach).abs()).clamp(min=0) * (pixel < lengths[:, None, None])
    weights /= weights.sum(-1, keepdim=True)
    largest = weights.amax((1, 2), keepdim=True)
    bits = torch.zeros_like(largest)
    for more in range(1, MOST_BITS + 1):
        bits = torch.where(0.5 + largest * 2**more < HELD, more, bits)
    return ((weights * 2**bits + 0.5).floor() / 2**bits).float()
