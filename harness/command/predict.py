"""Name the likeliest classes of each picture, by a network that was trained here or elsewhere.

    python tools/predict.py runs/resnet18-folder/DATE_TIME photos 'more/*.jpg'
    python tools/predict.py --model resnet50 --weights IMAGENET1K_V2 photos out=names.csv
    find / -name '*.jpg' | python tools/predict.py best_on_validation.ckpt -

First name the network: a run folder, a checkpoint, a file that export wrote, or --model and --weights. Then name the
pictures: files, folders and what lies in them, patterns, or - for paths on standard input. They are preprocessed as in
an evaluation (the middle, at the network's size), and as any viewer shows them. Files that cannot be read are
listed at the end. The exit code is 0 if any picture was read, 1 if none was, and 2 for a mistake.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from harness.command import arguments
from harness.errors import UserError
from harness.prediction.output import Names, check_out, report
from harness.run.printable import say
from harness.run.program import typed


def main() -> int:
    """Read the command line and predict; returns the exit code."""
    parser = arguments.Parser(
        usage="%(prog)s NETWORK|--model M --weights W PICTURE...  [--option ...]",
        description=typed(str(__doc__)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="+", metavar="WORD", help="NETWORK PICTURE...")
    arguments.add_network(parser)
    parser.add_argument("--top", type=arguments.positive, default=5, help="classes of each picture (default 5)")
    parser.add_argument("--out", type=Path, help="a new file for the answers: FILE.csv or FILE.jsonl (JSON lines)")
    parser.add_argument(
        "--batch_size", "--batch-size", type=arguments.positive, default=64, help="pictures at once (default 64)"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    parser.add_argument("--workers", type=arguments.at_least_0, help="processes that decode (default: chosen)")
    return arguments.main(parser, predict)


def predict(given: argparse.Namespace) -> int:
    """Find the pictures, ask the network, and report its answers; returns the exit code."""
    network, words = (None, given.words) if given.weights else (Path(given.words[0]), given.words[1:])
    arguments.check_network(given, network)
    if not words:
        raise UserError(f"{network}: say which pictures behind it: files, folders, patterns, or -")
    if given.out:
        check_out(given.out)
    paths = arguments.pictures(words)

    from rich.console import Console
    from rich.progress import track

    from harness.prediction.network import load
    from harness.prediction.predict import Prediction, choose_device, predict
    from harness.weights.find import imagenet_names

    device = choose_device(given.device)
    loaded = load(network, given.weights, given.model, given.data, given.weights_map)
    if not loaded.named:
        say(f"{loaded.trained.model}: the names of its classes are not known: they are called by number")
    names = Names(loaded.trained.class_names, imagenet_names(loaded.trained.class_names))
    answers: Iterable[Prediction] = predict(
        loaded, paths, top=given.top, batch_size=given.batch_size, device=device, workers=given.workers
    )
    if sys.stderr.isatty():
        answers = track(answers, "predicting", len(paths), console=Console(stderr=True), transient=True)
    predictions = list(answers)
    report(predictions, names, given.out)
    return 0 if any(prediction.problem is None for prediction in predictions) else 1
