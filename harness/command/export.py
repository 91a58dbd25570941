"""Write a network for other programs, read the file back, and compare its logits with the network's.

    python tools/export.py runs/resnet18-folder/DATE_TIME --format onnx --out resnet18.onnx
    python tools/export.py --model resnet50 --weights IMAGENET1K_V2 format=torch_export out=resnet50.pt2
    python tools/export.py runs/resnet18-folder/DATE_TIME format=onnx quantize=int8 out=resnet18-int8.onnx

FORMAT       file          what reads it back
safetensors  .safetensors  safetensors, into a fresh network; weights=FILE and predict read it, too
torch_export .pt2          torch.export.load
onnx         .onnx         onnxruntime; pip install 'cnn-zoo[export]'
torchvision  .pth          a fresh network; load_state_dict of torchvision's network of the same name reads it, too

A file maps float32 images (N, C, H, W), normalised, of any N, to logits (N, K). It is compared with the network on
random and on real images, one at a time and three at once, and only then put in its place. Class names, preprocessing
and what else is known go along as JSON: in the metadata `cnn_zoo` of safetensors and ONNX, in the extra file
`cnn_zoo.json` of .pt2, and in NAME.json beside NAME.pth. If the logits differ, the file is removed and the exit code is
1; it is 2 for a mistake.

With quantize=int8 an ONNX file computes in 8-bit integers, scaled on pictures of the training split. The test split
says what that costs: the file is refused, with exit code 1, unless the 95% interval of the loss ends below 0.5 points,
or force=true. NAME.json beside it has the record. Small networks become slower: look at the printed ratio.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.command import arguments
from harness.errors import UserError
from harness.export.endings import ENDINGS, check_out
from harness.run import program
from harness.run.printable import say


def main() -> int:
    """Read the command line and export; returns the exit code."""
    parser = arguments.Parser(
        description=program.typed(str(__doc__)), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", nargs="?", type=Path, metavar="NETWORK", help="a run folder or a file of a network")
    arguments.add_network(parser)
    parser.add_argument("--format", choices=ENDINGS, required=True, help="see above")
    parser.add_argument("--out", type=Path, required=True, help="a new file")
    parser.add_argument("--quantize", choices=("int8",), help="compute in 8-bit integers; format=onnx alone")
    parser.add_argument("--force", choices=("true",), help="write it however much the integers lose")
    parser.add_argument("--images", nargs="+", help="pictures to compare on (default: scikit-learn's digits)")
    return arguments.main(parser, export)


def export(given: argparse.Namespace) -> int:
    """Load the network, write it, and print how far the file's logits are from it; returns the exit code."""
    arguments.check_network(given, given.network)
    check_out(given.out, given.format)
    if given.quantize is not None:
        return _export_int8(given)
    if given.force is not None:
        raise UserError("force=true: belongs with quantize=int8")
    pictures = arguments.pictures(given.images) if given.images else []

    from harness.export.export import DifferenceError, export
    from harness.prediction.network import load

    loaded = load(given.network, given.weights, given.model, given.data, given.weights_map)
    try:
        compared = export(loaded, given.format, given.out, pictures)
    except DifferenceError as error:
        say(f"{program.name()}: {given.out}: {error}", sys.stderr)
        return 1
    for line in compared:
        say(
            f"{line.images}, in batches of 1 and 3: largest difference {line.largest_difference:.2g} of logits up to "
            f"{line.largest_logit:.3g}"
        )
    say(f"{given.out}: {loaded.trained.model}, {given.out.stat().st_size:,} bytes")
    return 0


def _export_int8(given: argparse.Namespace) -> int:
    if given.format != "onnx":
        raise UserError(f"quantize={given.quantize}: goes with format=onnx, and this is format={given.format}")
    if given.images:
        raise UserError("--images: with quantize=int8 the test split is what is compared on; leave it out")
    data = arguments.data_set(given.data)

    from harness.export.int8 import WorseError, export_int8
    from harness.prediction.network import load
    from harness.prediction.own_data import own_data

    loaded = load(given.network, given.weights, given.model, given.data, given.weights_map)
    chosen = data or own_data(loaded)
    if chosen is None:
        raise UserError("quantize=int8: needs pictures; name the data set: data=NAME, and data.root=FOLDER")
    try:
        int8 = export_int8(loaded, chosen, given.out, given.force is not None)
    except WorseError as error:
        say(f"{program.name()}: {given.out}: {error}", sys.stderr)
        return 1
    say(int8)
    middle, low, high = int8.speed_ratio
    say(
        f"{given.out}: {loaded.trained.model}, {int8.file_bytes:,} bytes instead of {int8.float_file_bytes:,}; "
        f"{middle:.2f} times as fast as in float32 ({low:.2f} to {high:.2f}) on {int8.threads} threads of this machine"
    )
    return 0
