"""`python -m models` prints the catalogue, `python -m models NAME` one network layer by layer.

`python -m models 'resnet*'` prints a family with every published error, `python -m models --markdown` docs/zoo.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase

from .catalogue import MODELS, Entry

HEAD = (
    *("name", "paper", "year", "parameters", "multiply-adds", "input", "features", "classifier"),
    *("top-1/top-5 error (%)", "weights"),
)
RIGHT = ("year", "parameters", "multiply-adds", "features")
SHORT = ("name", "year", "parameters", "multiply-adds", "input", "top-1/top-5 error (%)", "weights")
LAYER = ("layer", "kind", "output", "parameters", "multiply-adds")

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
        apart = f"; not comparable: {known.other}" if known.other else ""
        lines.append(f"{rates} {known.data}, {known.protocol} [{known.source}]{apart}")
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


def short_row(entry: Entry) -> tuple[str, ...]:
    """The cells of an entry that fit a terminal: the first error rate that has both, and the first weights.

    A star stands behind an error rate that is not of this very network and data.
    """
    known = next((rate for rate in entry.published if rate.top1_error and rate.top5_error), None)
    known = known or next(iter(entry.published), None)
    rates = (
        "/".join("-" if rate is None else f"{rate:g}" for rate in (known.top1_error, known.top5_error))
        if known
        else "-"
    )
    names = [*entry.weights, *(released.name for released in entry.released)]
    return (
        entry.name,
        str(entry.year),
        f"{entry.parameters:,}",
        f"{entry.multiply_adds:,}",
        f"{entry.in_channels}x{entry.input_size}x{entry.input_size}",
        f"{rates} {known.data}{'*' if known.other else ''}" if known else rates,
        names[0] + (f" +{len(names) - 1}" if names[1:] else "") if names else "-",
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a terminal."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if title in RIGHT else cell.ljust(width)
            for cell, width, title in zip(line, widths, head, strict=True)
        ).rstrip()
        for line in lines
    )


def family(pattern: str) -> str:
    """The table of the networks whose names match a pattern, and below it every error rate that was published."""
    entries = [entry for name, entry in MODELS.items() if fnmatchcase(name, pattern)]
    if not entries:
        Entry.named(pattern)  # raises `ValueError`, with the nearest names
    lines = [table(SHORT, [short_row(entry) for entry in entries])]
    for entry in entries:
        lines += ["", f"{entry.name}: {entry.title}", f"    {entry.paper}, {entry.year}"]
        lines += [f"    {error}" for error in errors(entry)]
    return "\n".join(lines)


def network(name: str) -> str:
    """A network layer by layer."""
    from .layers import layers_of  # late: it imports torch

    layers = layers_of(name)
    rows = [
        (layer.name, layer.kind, "x".join(map(str, layer.shape)), f"{layer.parameters:,}", f"{layer.multiply_adds:,}")
        for layer in layers
    ]
    entry = MODELS[name]
    total = ("all", "", "", f"{entry.parameters:,}", f"{entry.multiply_adds:,}")
    image = ("image", "", f"{entry.in_channels}x{entry.input_size}x{entry.input_size}", "", "")
    return f"{name}: {entry.title}\n{entry.paper}, {entry.year}\n\n{table(LAYER, [image, *rows, total])}"


def markdown() -> str:
    """The text of docs/zoo.md, with what the columns mean and the papers' titles."""
    lines = [
        "# The zoo",
        "",
        "Which networks are there, and what did their authors measure?",
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


def main(program: str = "python -m models") -> int:
    """Print the catalogue; torch is imported for a single network alone. Returns the exit code.

    Args:
        program: what the user started, for the help.
    """
    parser = argparse.ArgumentParser(prog=program, description="Print the catalogue of networks.")
    parser.add_argument("name", nargs="?", help="a network, layer by layer; or a pattern such as 'resnet*'")
    parser.add_argument("--markdown", action="store_true", help="as the text of docs/zoo.md")
    given = parser.parse_args()
    try:
        if given.markdown:
            shown = markdown()
        elif given.name is None:
            star = f"* of another network or other images: {program} NAME-OR-PATTERN says which"
            shown = f"{table(SHORT, [short_row(entry) for entry in MODELS.values()])}\n{star}"
        else:
            shown = network(given.name) if given.name in MODELS else family(given.name)
    except ValueError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    try:
        print(shown, flush=True)
    except BrokenPipeError:  # `| head`: Python would complain once more when it closes standard output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
