"""Pack a data set into tars of WebDataset, which data=shards reads, and other programs as well.

    python tools/shard.py data=folder data.root=PHOTOS out=SHARDS
    python tools/shard.py data=cifar10 out=SHARDS size=100

SHARDS is a new folder: train-000000.tar and so on, a picture and its label (.jpg and .cls) behind each other; the names
of the classes in shards.json; and an index beside the tars. What the data set has in files is packed as it is, byte by
byte; what it has in memory becomes PNG, which loses nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import cast

from harness.command import arguments
from harness.config.compose import compose_groups
from harness.config.data import DataConfig
from harness.errors import UserError
from harness.run.printable import say
from harness.run.program import typed


def main() -> int:
    """Read the command line, pack, and read back; returns the exit code."""
    parser = arguments.Parser(description=typed(str(__doc__)), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        required=True,
        help="data set, such as folder, imagenet, cifar10; data.root=FOLDER and any other of its settings",
    )
    parser.add_argument("--out", type=Path, required=True, help="new folder for the tars")
    parser.add_argument("--size", type=arguments.positive, default=1024, help="of a tar in MiB, about (default 1024)")
    return arguments.main(parser, shard)


def shard(given: argparse.Namespace) -> int:
    """Pack; returns the exit code."""
    from harness.data.sources.packing import pack
    from harness.run.log import spoken

    words = [word if "=" in word else f"data={word}" for word in given.data]
    (data,) = compose_groups("eval", words, "data")
    if data is None:
        raise UserError(f"data.{words[0].partition('.')[2]}: say which data set as well, such as data=folder")
    with spoken(True):
        sets = pack(cast(DataConfig, data), given.out, given.size * 2**20)
    for name, images in sets.items():
        say(f"{given.out}: {name}: {images:,} pictures")
    return 0
