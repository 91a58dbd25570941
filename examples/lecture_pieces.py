"""The interactive pieces of the lecture: one text of HTML that a page needs, with nothing to load from elsewhere.

    python examples/lecture_pieces.py pieces.html

writes a page with all four pieces and nothing else. A lecture puts `pieces()` once before `</body>`, and
`<div class="piece" data-piece="windows"></div>` wherever it wants a piece. The JavaScript lies in `examples/lecture/`.
"""

from __future__ import annotations

import argparse
import base64
import copy
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

from harness import load
from harness.errors import EXIT_CODE, UserError, file_error
from harness.run.files import write_text
from models.lenet import PartialConvolution

PIECES = ("windows", "stride_padding", "draw", "shift")
FOLDER = Path(__file__).parent / "lecture"
SCRIPTS = ("forward", "weights", "page", "strokes", "windows", "stride_padding", "draw", "shift", "pieces")
NETWORKS = (  # model, weights, and what the page calls them
    ("mlp", "MNIST", "MLP 784-300-10"),
    ("lenet5_1998", "MNIST", "LeNet-5 of 1998"),
    ("lenet5", "MNIST", "LeNet-5 of today"),
    ("lenet5_1998", "MNIST_DISTORTED", "LeNet-5 of 1998"),
)


def pieces() -> str:
    """Return the style and the script of all pieces, for the end of a page's body.

    Raises:
        UserError: the weights of a network are missing or damaged.
    """
    embedded = {"networks": networks(), "scanned": scanned_digits(), **examples()}
    style = (FOLDER / "pieces.css").read_text(encoding="utf-8")
    scripts = [(FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    script = "\n".join([f"const EMBEDDED = {json.dumps(embedded, separators=(',', ':'))};", *scripts])
    return f'<style>\n{style}</style>\n<script type="module">\n{script}</script>\n'


def networks() -> dict[str, Any]:
    """The networks of the page by `model-weights`: facts, and tensors in half precision."""
    found = {}
    for model, weights, title in NETWORKS:
        loaded = load(model, weights=weights)
        preprocessing, training = loaded.trained.preprocessing, loaded.trained.training
        assert training is not None, "weights of ours say how they were trained"
        found[f"{model}-{weights}"] = {
            "model": model,
            "title": title,
            "training": training_in_words(training["recipe"]),
            "size": preprocessing.size,
            "mean": preprocessing.mean[0],
            "std": preprocessing.std[0],
            "tensors": {key: as_halves(value) for key, value in tensors(loaded.network).items()},
        }
    return found


def training_in_words(recipe: dict[str, Any]) -> str:
    """Say whether training saw shifted digits: a network that did tolerates shifts better."""
    if recipe["distortion"]:
        return f"trained on digits shifted by up to {recipe['distortion'][0]:g} pixels, scaled, squeezed and sheared"
    if recipe["crop_padding"]:
        return f"trained on digits shifted by up to {recipe['crop_padding']} pixels"
    return "trained on digits as they are, in the middle"


def tensors(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A network's numbers by name; of a partial convolution as the full one that has zeros where nothing connects."""
    found = {key: value for key, value in network.state_dict().items() if not key.endswith(".by_column")}
    for name, layer in network.named_modules():
        if isinstance(layer, PartialConvolution):
            found[f"{name}.weight"] = full_kernels(layer)
    return found


def full_kernels(layer: PartialConvolution) -> torch.Tensor:
    """The kernels of all pairs of maps, (out_maps, in_maps, 5, 5): a convolution's answer to one pixel of one map."""
    unbiased = copy.deepcopy(layer)
    torch.nn.init.zeros_(unbiased.bias)
    impulses = torch.zeros(layer.in_maps, layer.in_maps, 9, 9)
    impulses[range(layer.in_maps), range(layer.in_maps), 4, 4] = 1
    with torch.no_grad():
        answers: torch.Tensor = unbiased(impulses)  # (in_maps, out_maps, 5, 5), turned by 180 degrees
    return answers.flip(2, 3).transpose(0, 1)


def as_halves(tensor: torch.Tensor) -> dict[str, Any]:
    """A tensor's shape and its numbers in half precision, little-endian, in base64."""
    content = tensor.contiguous().numpy().astype("<f2").tobytes()
    return {"shape": list(tensor.shape), "halves": base64.b64encode(content).decode()}


def scanned_digits() -> dict[str, Any]:
    """The first digit of each class in scikit-learn's data, enlarged from 8x8 to 24x24 pixels: uint8 in base64."""
    data = load_digits()
    first = [data.images[np.flatnonzero(data.target == digit)[0]] for digit in range(10)]
    grey = [Image.fromarray((image * 255 / 16).astype(np.uint8)) for image in first]
    images = [image.resize((24, 24), Image.Resampling.BICUBIC) for image in grey]
    pixels = np.stack([np.asarray(image) for image in images])
    return {"shape": list(pixels.shape), "bytes": base64.b64encode(pixels.tobytes()).decode()}


def examples() -> dict[str, Any]:
    """The lecture's image and kernel as `example`; as `larger`, ones that hold them at their corner and middle."""
    random = np.random.RandomState(1234)  # the numbers of conv_arithmetic's figures [Dumoulin and Visin 2016]
    image, kernel = random.randint(0, 4, (5, 5)), random.randint(0, 3, (3, 3))
    larger_image, larger_kernel = random.randint(0, 4, (8, 8)), random.randint(0, 3, (5, 5))
    larger_image[:5, :5], larger_kernel[1:4, 1:4] = image, kernel
    return {
        "example": {"image": image.tolist(), "kernel": kernel.tolist()},
        "larger": {"image": larger_image.tolist(), "kernel": larger_kernel.tolist()},
    }


def bare_page() -> str:
    """A page with all pieces and nothing else."""
    places = "\n".join(f'<div class="piece" data-piece="{name}"></div>' for name in PIECES)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Convolutional networks: interactive pieces</title>\n</head>\n"
        f"<body>\n{places}\n{pieces()}</body>\n</html>\n"
    )


def main() -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, metavar="PAGE.html", help="a new file")
    page = parser.parse_args().page
    try:
        if page.exists():
            raise UserError(f"{page}: this file exists; name a new one")
        write_text(page, bare_page())
    except (UserError, OSError) as error:
        said = file_error(error) if isinstance(error, OSError) else error
        print(f"lecture_pieces.py: {said}", file=sys.stderr)
        return EXIT_CODE
    return 0


if __name__ == "__main__":
    sys.exit(main())
