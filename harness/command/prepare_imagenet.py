"""Turn the official archives of ImageNet (ILSVRC 2012) into folders of classes, and check that nothing is missing.

    python tools/prepare_imagenet.py DOWNLOADS ROOT

DOWNLOADS holds ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz, as image-net.org
hands them out; without the first, only `val` is made. ROOT gets `train/<wnid>/` and `val/<wnid>/`. A run that was
interrupted goes on where it stopped; nothing that is there is written over.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.command import arguments
from harness.run.program import typed


def main() -> int:
    """Read the command line, unpack and verify; returns the exit code."""
    parser = arguments.Parser(description=typed(str(__doc__)), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("downloads", type=Path, help="folder of the archives")
    parser.add_argument("root", type=Path, help="folder that gets train/ and val/: data.root")
    return arguments.main(parser, prepare)


def prepare(given: argparse.Namespace) -> int:
    """Unpack the archives that are there, and verify the folders; returns the exit code."""
    from harness.data.sources.imagenet import FACTS
    from harness.data.sources.imagenet_archives import DEVKIT, TRAIN, VAL, unpack_train, unpack_val, verify

    downloads, root, known = given.downloads, given.root, FACTS
    unpack_val(downloads / VAL, downloads / DEVKIT, root / "val")
    verify(root / "val", known.test)
    if (downloads / TRAIN).exists():
        unpack_train(downloads / TRAIN, root / "train")
        verify(root / "train", known.train)
    return 0
