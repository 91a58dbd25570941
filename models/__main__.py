"""`python -m models` prints the catalogue as a table, `python -m models --markdown` as the text of docs/zoo.md."""

from __future__ import annotations

import argparse
import os
import sys

from .catalogue import MODELS, Entry

HEAD = (
    *("name", "paper", "year", "parameters", "multiply-adds", "input", "features", "classifier"),
    *("top-1/top-5 error (%)", "weights"),
)
RIGHT = ("year", "parameters", "multiply-adds", "features")

IN_PYTHON = """## In Python

```python
import torch

from models import build_model
from models.builders import resnet20

network = build_model("resnet50", num_classes=10)  # by name
network = resnet20(shortcut="B")  # the same, with the names and types of its options
features = network.forward_features(torch.zeros(1, 3, 32, 32))  # (1, network.num_features, 8, 8)
logits = network.forward_head(features)  # (1, 10), what network(images) gives
classifier = network.get_classifier()  # the layer that gives the logits
```

`torch.hub` gives networks and weights to other programs, and needs neither Lightning nor Hydra:

```python
network = torch.hub.load("path/to/this/repository", "resnet50", source="local", weights="IMAGENET1K_V2")
```

`weights=` takes a name of the table, or the path of a checkpoint or a state_dict. Names that do not begin with
IMAGENET are ours, and come with the repository: `models/weights/` has a card for each. torchvision knows how its own
images have to be prepared: `torchvision.models.get_model_weights("resnet50")["IMAGENET1K_V2"].transforms()`."""


def errors(entry: Entry) -> list[str]:
    """Each published error rate with what it was measured on, how, and where it stands."""
    lines = []
    for known in entry.published:
        rates = "/".join("-" if rate is None else str(rate) for rate in (known.top1_error, known.top5_error))
        lines.append(f"{rates} {known.data}, {known.protocol} [{known.source}]")
    return lines or ["-"]


def row(entry: Entry) -> tuple[str, ...]:
    """The cells of an entry, without its error rates."""
    authors, _, _ = entry.paper.partition(":")
    return (
        entry.name,
        authors,
        str(entry.year),
        f"{entry.parameters:,}",
        f"{entry.multiply_adds:,}",
        f"{entry.in_channels}x{entry.input_size}x{entry.input_size}",
        f"{entry.num_features:,}",
        entry.classifier,
        ", ".join((*entry.weights, *(row.name for row in entry.released))) or "-",
    )


def text() -> str:
    """The table for a terminal. Each error rate has a line of its own."""
    lines: list[tuple[str, ...]] = [HEAD]
    for entry in MODELS.values():
        *cells, weights = row(entry)
        for number, error in enumerate(errors(entry)):
            lines.append((*cells, error, weights) if number == 0 else ("",) * len(cells) + (error, ""))
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if title in RIGHT else cell.ljust(width)
            for cell, width, title in zip(line, widths, HEAD, strict=True)
        ).rstrip()
        for line in lines
    )


def markdown() -> str:
    """The text of docs/zoo.md, with what the columns mean and the papers' titles."""
    lines = [
        "# The zoo",
        "",
        "Written by `python -m models --markdown > docs/zoo.md`; change `models/catalogue.py` and run it again.",
        "",
        "Parameters are trainable numbers. Multiply-adds are those of the convolutions and fully connected layers for",
        "one image of the given channels and sides. Features are the channels of `network.forward_features(images)`;",
        "`network.num_features` is the same number. The classifier is the name of the layer that gives the logits.",
        "Errors are what others published, in percent, top-1/top-5, with the data, the protocol and the source. Two of",
        "them can be compared only where data and protocol are the same.",
        "",
        "| " + " | ".join(HEAD) + " |",
        "| " + " | ".join("---:" if title in RIGHT else "---" for title in HEAD) + " |",
    ]
    for entry in MODELS.values():
        name, *cells, weights = row(entry)
        lines.append("| " + " | ".join((f"`{name}`", *cells, "<br>".join(errors(entry)), weights)) + " |")
    papers = dict.fromkeys(f"- {entry.paper}, {entry.year}" for entry in MODELS.values())
    names = [f"- `{entry.name}`: {entry.title}" for entry in MODELS.values()]
    lines += ["", "## What the names stand for", "", *names, "", "## Papers", "", *papers, "", IN_PYTHON]
    return "\n".join(lines)


def main(program: str = "python -m models") -> None:
    """Print the catalogue; no network is built and torch is not imported.

    Args:
        program: what the user started, for the help.
    """
    parser = argparse.ArgumentParser(prog=program, description="Print the catalogue of networks.")
    parser.add_argument("--markdown", action="store_true", help="as the text of docs/zoo.md")
    shown = markdown() if parser.parse_args().markdown else text()
    try:
        print(shown, flush=True)
    except BrokenPipeError:  # `| head`: Python would complain once more when it closes standard output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
