"""Show what a network sees on pictures, as one page of HTML that works without a network, and its pictures as PNG.

    python tools/visualize.py runs/lenet5-digits/DATE_TIME photos --unit c3:4
    python tools/visualize.py --model lenet5 --weights MNIST photo.png --out inside
    python tools/visualize.py --model resnet50 --weights IMAGENET1K_V2 photos data=imagenet data.root=data/imagenet

First name the network, then the pictures, as for predict. The page shows the first layer's filters; of each picture the
likeliest classes, Grad-CAM and occlusion for them, and the strongest feature maps of each stage; of one unit its
theoretical and effective receptive field and the images of a set that excite it most; and the shape, parameters,
multiply-adds and time of each layer. The set is the test split of the data that the network was trained on here, or
that --data names. The exit code is 0, or 2 for a mistake.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.command import arguments
from harness.errors import UserError
from harness.prediction.output import Names
from harness.run.files import new_folder
from harness.run.printable import say
from harness.run.program import typed

MOST = 100  # pictures of one page


def main() -> int:
    """Read the command line and write the page; returns the exit code."""
    parser = arguments.Parser(
        usage="%(prog)s NETWORK|--model M --weights W PICTURE...  [--option ...]",
        description=typed(str(__doc__)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="+", metavar="WORD", help="NETWORK PICTURE...")
    arguments.add_network(parser, also="; also the set in which images that excite the unit are looked for")
    parser.add_argument(
        "--unit",
        metavar="STAGE[:CHANNEL[:ROW,COLUMN]]",
        help="the unit that is looked at, such as conv4_x:12:3,4 (default: of the last convolution with more than one "
        "position, where it is strongest on the first picture)",
    )
    parser.add_argument("--top", type=arguments.positive, default=3, help="classes of each picture (default 3)")
    parser.add_argument("--out", type=Path, help="a new folder (default: chosen, beside a run or in this folder)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    return arguments.main(parser, visualize)


def visualize(given: argparse.Namespace) -> int:
    """Find the pictures, look at them through the network, and write the page; returns the exit code."""
    network, words = (None, given.words) if given.weights else (Path(given.words[0]), given.words[1:])
    arguments.check_network(given, network, data_of_weights=False)
    if not words:
        raise UserError(f"{network}: say which pictures behind it: files, folders, patterns, or -")
    arguments.check_new_folder(given.out)
    paths = arguments.pictures(words)
    if len(paths) > MOST:
        raise UserError(f"{len(paths):,} pictures: a page shows at most {MOST}; name fewer")

    from harness.insight.one_unit import Wanted
    from harness.insight.page import INDEX, write
    from harness.insight.progress import shown
    from harness.insight.report import look
    from harness.prediction.network import load
    from harness.prediction.predict import choose_device
    from harness.weights.find import imagenet_names

    wanted, data = Wanted.parsed(given.unit), arguments.data_set(given.data)
    device = choose_device(given.device)
    loaded = load(network, given.weights, given.model, given.data, given.weights_map)
    names = Names(loaded.trained.class_names, imagenet_names(loaded.trained.class_names))
    with shown() as progress:
        report = look(loaded, paths, wanted, data, top=given.top, device=device, progress=progress)
    folder = new_folder(given.out or _place(network, loaded.trained.model))
    write(report, names, folder)
    say(folder / INDEX)
    return 0


def _place(network: Path | None, model: str) -> Path:
    """Where the page goes if the user does not say it: beside a run, otherwise into the working folder."""
    if network is not None and network.is_dir():
        return network.with_name(f"{network.resolve().name}-visualize")
    return Path(f"{model}-visualize")
