"""A loader over whole images in files, for protocols under which a network sees more than a window of each."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.config.facts import Preprocessing
from harness.data.images.image_files import ImageFiles
from harness.data.loading.file_loader import FileLoader
from harness.data.loading.loader import Batch, Pictures
from harness.data.loading.order import EvalOrder, Start
from harness.data.loading.workers import Decoded, PictureDecoder


class PictureLoader(FileLoader):
    """Every image of a split exactly once, whole, at one scale or several; device r of R takes images r, r + R, ...

    Every device yields as many batches; the last ones may hold no image.

    Args:
        split: the images.
        preprocessing: of the network; its central crop is not made.
        scales: shorter edges in pixels, none smaller than the network's input.
        batch_size: images of a batch on this device.
        decoder: `fast` or `pil`.
        workers: processes that decode.
        device: that uses the batches.
        rank: of this device among `devices`.
        devices: how many share the split.
    """

    def __init__(
        self,
        split: ImageFiles,
        preprocessing: Preprocessing,
        scales: Sequence[int],
        *,
        batch_size: int,
        decoder: str,
        workers: int,
        device: torch.device | str = "cpu",
        rank: int = 0,
        devices: int = 1,
    ) -> None:
        order = EvalOrder(len(split), batch_size, rank=rank, devices=devices)
        whole = PictureDecoder(preprocessing, decoder, scales, split.as_viewed)
        super().__init__(split, order, whole, workers, device)
        self.input_size = preprocessing.size

    def finished(self, start: Start, decoded: Decoded, keys: torch.Tensor, global_size: int) -> Batch:
        """Divide the pixels among the images, and normalise."""
        assert decoded.sizes is not None, "of whole images"
        pixels, end = decoded.images.to(self.device, non_blocking=True), 0
        scaled: list[list[torch.Tensor]] = []
        for sizes in decoded.sizes.tolist():
            scaled.append([])
            for height, width in sizes:
                begin, end = end, end + height * width * 3
                picture = pixels[begin:end].view(1, height, width, 3).movedim(-1, 1)
                scaled[-1].append(self.normalise(picture)[0])
        indices = torch.from_numpy(decoded.indices)
        labels = self.split.labels[indices].to(self.device, non_blocking=True)
        pictures, none = Pictures(scaled, self.input_size), torch.empty(0, device=self.device)
        unreadable = tuple(decoded.unreadable)
        return Batch(none, labels, indices.to(self.device), global_size, unreadable, pictures=pictures)
