"""A split whose images lie in files: names and labels in memory, pixels on the disk. Nothing here loads torch."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from harness.data.images.folder import Folder, Place, printable

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ImageFiles:
    """Images of one split, unread.

    Attributes:
        folder: their index.
        positions: (N,), which of its images.
        labels: int64 (N,), positions in the data set's class names.
        prefix: begins every image's id, such as `imagenet/val`.
        as_viewed: whether they are decoded as a viewer shows them; see `harness.data.images.decode`.
        answers: all right answers of each image, int64 (N, L), the last of them repeated where there are fewer; None
            where `labels` has the only one.
    """

    folder: Folder
    positions: npt.NDArray[np.signedinteger[Any]]
    labels: torch.Tensor
    prefix: str
    as_viewed: bool = False
    answers: torch.Tensor | None = None

    @classmethod
    def labelled(
        cls,
        folder: Folder,
        positions: npt.NDArray[np.signedinteger[Any]],
        labels: npt.NDArray[np.int64],
        prefix: str,
        as_viewed: bool = False,
    ) -> ImageFiles:
        """The same with labels that are a NumPy array, whose memory it shares."""
        import torch

        return cls(folder, positions, torch.from_numpy(labels), prefix, as_viewed)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def ids(self) -> Sequence[str]:
        """N names that stay the same whatever the order and the split: `imagenet/val/n01440764/a.JPEG`."""
        return [self.id_of(index) for index in range(len(self))]

    def id_of(self, index: int) -> str:
        """The id of one image."""
        return f"{self.prefix}/{printable(self.name(index))}"

    def name(self, index: int) -> bytes:
        """Path of one image relative to the folder."""
        return self.folder.name(int(self.positions[index]))

    def path(self, index: int) -> bytes:
        """Where one image lies, for a person."""
        return self.folder.path(int(self.positions[index]))

    def place(self, index: int) -> Place:
        """Where one image lies, for what reads it."""
        return self.folder.place(int(self.positions[index]))

    def size_of(self, index: int) -> int:
        """Bytes of one image; -1 for one that cannot be asked."""
        return self.folder.size(int(self.positions[index]))

    def subset(self, indices: npt.NDArray[np.int64]) -> ImageFiles:
        """The images at these positions, int64 (n,)."""
        positions, labels = self.positions[np.asarray(indices)], self.labels[indices]
        answers = None if self.answers is None else self.answers[indices]
        return dataclasses.replace(self, positions=positions, labels=labels, answers=answers)

    def fingerprint(self) -> str:
        """SHA-256 over ids, labels and sizes in bytes, in order; the content of the files is not read."""
        digest = hashlib.sha256()
        for index, label in enumerate((self.labels if self.answers is None else self.answers).tolist()):
            digest.update(f"{self.id_of(index)}\n{label} {self.size_of(index)}\n".encode())
        return digest.hexdigest()

    def listing(self) -> str:
        """SHA-256 over the names in the folder, and which of them these are with which labels: no file is asked for."""
        digest = hashlib.sha256(self.prefix.encode())
        where = (self.folder.directories, self.folder.until, self.folder.names, self.folder.ends)
        for array in (*where, self.positions.astype(np.int64), self.labels.numpy()):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()
