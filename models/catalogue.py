"""What is known of every network without building it: plain data, importable without torch.

Parameters and multiply-adds are those of the network as `build_model(name)` gives it, at `input_size`; tests count
them. Multiply-adds are those of convolutions and fully connected layers alone: no bias, pooling or normalisation.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """An error rate that somebody published.

    Attributes:
        data: data set and split, such as `ImageNet val`.
        protocol: how it was measured, such as `10-crop`.
        top1_error: percent, None where it was not given.
        top5_error: percent, None where it was not given.
        source: paper and table.
    """

    data: str
    protocol: str
    top1_error: float | None
    top5_error: float | None
    source: str


@dataclass(frozen=True)
class Entry:
    """One network of the zoo.

    Attributes:
        name: its name everywhere: in configs, records, and the function in `models/<family>.py` that builds it.
        family: the file it is defined in.
        title: what it is, in a few words.
        paper: authors, title and venue.
        year: of the paper.
        parameters: trainable numbers.
        multiply_adds: of one image of `input_size`.
        input_size: side of the square images in pixels that the paper feeds it.
        min_size: the smallest side in pixels that it accepts.
        max_size: the largest, None where there is no limit.
        in_channels: channels of an image in the paper.
        num_classes: classes in the paper.
        fixed_classes: whether `num_classes` is part of the definition.
        published: error rates with their protocol.
        weights: names of pretrained weights.
    """

    name: str
    family: str
    title: str
    paper: str
    year: int
    parameters: int
    multiply_adds: int
    input_size: int
    min_size: int
    max_size: int | None
    in_channels: int
    num_classes: int
    fixed_classes: bool = False
    published: tuple[Published, ...] = ()
    weights: tuple[str, ...] = ()

    @staticmethod
    def named(name: str) -> Entry:
        """The entry called `name`; `ValueError` naming the nearest ones if there is none."""
        if name not in MODELS:
            near = difflib.get_close_matches(name, MODELS, n=3, cutoff=0.4) or sorted(MODELS)
            raise ValueError(f"no model is called {name!r}; did you mean {', '.join(near)}?")
        return MODELS[name]

    def check_input(self, image_size: int) -> None:
        """Raise `ValueError` if the network cannot take square images of this side, in pixels."""
        if self.min_size == self.max_size and image_size != self.min_size:
            raise ValueError(f"{self.name} takes images of {self.min_size} x {self.min_size} pixels, not {image_size}")
        if image_size < self.min_size:
            raise ValueError(f"{self.name} needs images of at least {self.min_size} pixels a side, not {image_size}")
        if self.max_size is not None and image_size > self.max_size:
            raise ValueError(f"{self.name} takes images of at most {self.max_size} pixels a side, not {image_size}")


_LECUN_1998 = "LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition, Proc. IEEE"

_ENTRIES = (
    Entry(
        name="mlp",
        family="mlp",
        title="fully connected baseline, 784-300-10 unless told otherwise",
        paper=_LECUN_1998,
        year=1998,
        parameters=238_510,
        multiply_adds=238_200,
        input_size=28,
        min_size=1,
        max_size=None,
        in_channels=1,
        num_classes=10,
        published=(Published("MNIST test", "whole image", 4.7, None, "LeCun 1998, Fig. 9: 28x28-300-10"),),
    ),
    Entry(
        name="lenet5",
        family="lenet",
        title="LeNet-5 as it is taught today: full C3, average pooling, softmax",
        paper=_LECUN_1998,
        year=1998,
        parameters=61_706,
        multiply_adds=416_520,
        input_size=32,
        min_size=32,
        max_size=32,
        in_channels=1,
        num_classes=10,
        published=(
            Published("MNIST test", "whole image", 0.95, None, "LeCun 1998, Fig. 9: LeNet-5, the paper's form"),
        ),
    ),
)

MODELS: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}


def model_names() -> list[str]:
    """Every name that `build_model` accepts, in the catalogue's order."""
    return list(MODELS)
