"""The card of released weights: data, recipe, errors, limits, licences."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from harness.evaluation.intervals import wilson
from harness.evaluation.published import line_about
from harness.evaluation.schema import telling
from harness.run.printable import markdown, printable
from harness.run.printable import markdown_code as code


class Notes(NamedTuple):
    """What a card says of data: what else images must be like, and under which licence they are."""

    limits: str
    licence: str


NOTES = {
    "mnist": Notes(
        "It knows single digits, white on black, of a person's hand, centred by their mass and about 20 pixels high in "
        "28. To anything else, a digit in black on white as well, it gives an answer that means nothing.",
        "MNIST (LeCun, Cortes, Burges) was made of NIST's databases and published for research; others pass it on "
        "under CC BY-SA 3.0. No image is in the file.",
    ),
    "imagenette": Notes(
        "It knows ten classes of photographs that are easily told apart: tench, English springer, cassette player, "
        "chain saw, church, French horn, garbage truck, gas pump, golf ball, parachute. It gives one of these answers "
        "to any picture.",
        "ImageNet's photographs belong to their photographers and are for research; imagenette (fastai) is a selection "
        "of them. No image is in the file.",
    ),
    "cifar10_jpeg": Notes(
        "It knows ten kinds of animals and vehicles in pictures of 32x32 pixels that were compressed as JPEG. Its "
        "errors are never beside those of CIFAR-10 itself.",
        "CIFAR-10 (Krizhevsky, Nair, Hinton) was published for research, without a licence. No image is in the file.",
    ),
    "digits": Notes(
        "It knows single digits of 8x8 pixels in 17 greys, white on black, enlarged as `data=digits` does. To anything "
        "else it gives an answer that means nothing.",
        "Optical Recognition of Handwritten Digits (Alpaydin, Kaynak), UCI Machine Learning Repository, CC BY 4.0. No "
        "image is in the file.",
    ),
}
ELSEWHERE = (
    "- **Where**: too large to come with the program. Get it from the releases of this project; it belongs into "
    "`models/weights/`, beside this card. Or train it by the command above and call `python tools/release.py RUN "
    "--name {name}`, which puts it there if it is the same network: the SHA-256 over its tensors is `{network}`."
)
UNKNOWN = Notes("It knows nothing but images like those it was trained on.", "see the publisher of the data.")


def card(row: Mapping[str, Any], precision: str, records: Sequence[Mapping[str, Any]], words: Sequence[str]) -> str:
    """Return the card of released weights as Markdown.

    Args:
        row: the weights' line in the list of released weights.
        precision: of the numbers in the file, in words.
        records: contents of the records of all seeds; the first is that of the released run.
        words: the words of the command line that trained it.
    """
    first = records[0]
    model, data, training, inputs = (first[key] for key in ("model", "data", "training", "preprocessing"))
    notes = NOTES.get(data["name"], UNKNOWN)
    options = "".join(f", {code('model.' + key + '=' + json.dumps(value))}" for key, value in model["options"].items())
    network = f"{code(row['model'])}{options}, {model['parameters']:,} parameters; images of"
    trained = code(f"python train.py {' '.join(words)}")
    lines = [
        f"# {markdown(row['model'])}, {code('weights=' + row['name'])}",
        "",
        printable(f"    python tools/predict.py --model {row['model']} --weights {row['name']} photo.png"),
        printable(f"    python eval.py model={row['model']} weights={row['name']} data={data['name']}"),
        "",
        f"- **Network**: {network} {inputs['channels']} x {inputs['size']} x {inputs['size']} pixels.",
        f"- **Data**: {code('data=' + data['name'])}: {training['images']:,} images to train on, "
        f"{data['images']:,} to test.",
        f"- **Recipe**: {code('recipe=' + training['recipe']['name'])}, {training['epochs']} epochs: {trained}. The "
        "file holds every setting, the record and the errors of each epoch.",
        f"- **File**: {code(row['file'])}, {row['bytes']:,} bytes, {precision}, SHA-256 `{row['sha256']}`. Evaluated "
        "again, it gives the counts of the record, and the same likeliest class for every image.",
        *([] if row["shipped"] else [ELSEWHERE.format(**row)]),
        "",
        *_errors(records),
        "",
        "## Limits and licences",
        "",
        f"- {notes.limits}",
        "- Licence of the weights: BSD-3-Clause, like this program.",
        f"- Licence of the data: {notes.licence}",
    ]
    return "\n".join(lines) + "\n"


def _rates(content: Mapping[str, Any], shown: Sequence[int]) -> list[str]:
    return [f"{content[f'top{k}_error']:.2f}" for k in shown]


def _errors(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """The errors of all seeds, their mean, and the published one."""
    first = records[0]
    shown = telling(len(first["class_names"]))
    errors = [content["top1_error"] for content in records]
    mean, images = statistics.mean(errors), first["data"]["images"]
    low, high = wilson(mean * images / 100, images)
    spread = f" ± {statistics.stdev(errors):.2f} (standard deviation)" if len(errors) > 1 else ""
    seeds = "1 seed" if len(errors) == 1 else f"{len(errors)} seeds"
    seed = first["training"]["seed"]
    published = first["published"] and f"Seed {seed} beside others: {markdown(line_about(first['published']))}."
    return [
        "## Errors on the test split (%)",
        "",
        f"| seed | {' | '.join(f'top-{k}' for k in shown)} |",
        f"| --- | {' | '.join('---' for _ in shown)} |",
        *(f"| {content['training']['seed']} | {' | '.join(_rates(content, shown))} |" for content in records),
        "",
        f"Top-1 of {seeds}: mean {mean:.2f}{spread}; 95% interval by the number of images {low:.2f} to {high:.2f}. The "
        f"file is that of seed {seed}, whatever it scored.",
        *(["", published] if published else []),
    ]
