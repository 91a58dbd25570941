"""Files of every kind that are read, damaged: each gives a result or one line, in time, and runs nothing.

The mutations are drawn from fixed seeds. Most change values inside a file that stays whole, so that they reach the
reader behind the container; each kind says how many must. A few of each kind run always, and 300 in the slow tests.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import gzip
import hashlib
import io
import json
import pickle
import random
import struct
import tarfile
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import damage
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from damage import ODD, Canary
from PIL import Image
from safetensors.torch import save as save_safetensors
from test_compare import write_record
from test_folder import make_devkit as new_devkit
from test_parquet import NAMES, png

import hubconf
from harness.command import cli
from harness.comparison.records import compare, find_records, read_record
from harness.comparison.tables import comparison_csv, markdown
from harness.config.compose import compose, compose_groups
from harness.config.data import DataConfig
from harness.config.facts import DataSet, Preprocessing
from harness.config.weights import read_map
from harness.data.images.decode import decode
from harness.data.images.digests import digests_of
from harness.data.images.folder import ask_for_facts, cache_file, index_folder
from harness.data.images.opening import UnreadableError, mode_of
from harness.data.sources import hub_photos, imagenet, imagenet_archives, parquet
from harness.data.sources.imagenet import IMAGENET_CLASSES
from harness.data.sources.torchvision_files import TorchvisionFiles
from harness.errors import UserError
from harness.evaluation.record import read_unreadable
from harness.prediction.network import load_file
from harness.run.checkpoint import Trained, checkpoint_of_run, checkpoint_to_resume
from harness.run.history import read_timing
from harness.run.log import spoken
from harness.run.resume import read_config
from harness.training.own_pictures import read_division
from harness.weights.find import timm_preprocessing
from harness.weights.load import Weights
from models import build_model

Read = Callable[[], object]
SECONDS = 10.0  # at most, of one file
FEW, MANY = 5, 300  # mutations of each kind
CONTAINER = r"damaged or not a|damaged, or no|not YAML|not JSON|may hold code|cannot be read"


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        write: writes a mutant into a folder, and returns how the project reads it.
        reaching: share of the mutants that must get past the container.
        container: regular expression of lines that refuse the container, before what it holds is looked at.
    """

    write: Callable[[random.Random, Path], Read]
    reaching: float = 0.5
    container: str = CONTAINER


KINDS: dict[str, Kind] = {}


def kind(reaching: float = 0.5, container: str = CONTAINER) -> Callable[[Any], Any]:
    def known(write: Callable[[random.Random, Path], Read]) -> Callable[[random.Random, Path], Read]:
        KINDS[write.__name__.replace("_", " ")] = Kind(write, reaching, container)
        return write

    return known


# ------------------------------------------------------------------------------------------------------------ weights


@functools.cache
def small() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model("mlp", hidden=[3])


def described() -> dict[str, Any]:
    """What a checkpoint of a small network says of it."""
    content: dict[str, Any] = json.loads(description())
    return content


@functools.cache
def description() -> str:
    preprocessing = Preprocessing(1, 28, None, None, (0.5,), (0.5,))
    config = compose("train", ["model=mlp", "model.hidden=[3]", "data=digits"])
    training = {"seed": 0, "epochs": 1, "max_batches": None, "recipe": vars(config.recipe)}
    names = tuple(map(str, range(10)))
    plain = Trained("mlp", {"hidden": [3]}, names, preprocessing, config.data, training).as_plain()
    return json.dumps(plain)


def epoch() -> dict[str, Any]:
    counts = {"correct_top1": 5, "correct_top5": 8, "seen": 10}
    losses = {"train_loss": 1.0, "train": counts, "validation_loss": 1.0, "validation": dict(counts)}
    return {"epoch": 1, "step": 9, "learning_rate": 0.1, **losses}


def checkpoint() -> dict[str, Any]:
    state = {f"network.{key}": value for key, value in small().state_dict().items()}
    own = {"cnn_zoo": described(), "cnn_zoo_progress": {"history": [epoch()]}}
    return {"state_dict": state, "epoch": 0, "global_step": 9, **own}


def torch_file(draw: random.Random, content: Any) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(content, file, _use_new_zipfile_serialization=draw.random() < 0.85)
    return file.getvalue()


def rezipped(draw: random.Random, content: bytes) -> bytes:
    """A zip with one of its files changed or gone, and the right checksums."""
    if not content.startswith(b"PK"):
        return damage.raw(draw, content)
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(made, "w") as after:
        pickles = [name for name in before.namelist() if name.endswith(".pkl")]
        chosen = draw.choice(pickles * 6 + before.namelist())
        for name in before.namelist():
            inside = before.read(name)
            if name != chosen or draw.random() < 0.95:
                after.writestr(name, damage.raw(draw, inside) if name == chosen else inside)
    return made.getvalue()


def damaged_torch_file(draw: random.Random, content: dict[str, Any], states: list[str]) -> bytes:
    """A file of `torch.save` of which values, tensors, the pickle or bytes are changed."""
    way = draw.random()
    if way < 0.4:
        odd = [*ODD, Canary(CANARY.place), torch.zeros(2), damage.nested(50), b"x", (1,), {1: 2}]
        return torch_file(draw, damage.values(draw, content, odd))
    if way < 0.8:
        holder = next((content[state] for state in states if state in content), content)
        changed = damage.tensors(draw, holder)
        return torch_file(draw, changed if holder is content else {**content, states[0]: changed})
    whole = torch_file(draw, content)
    return rezipped(draw, whole) if way < 0.95 else damage.raw(draw, whole)


class CanaryPlace:
    """Where a file's code would make a folder if it ran."""

    place = Path()


CANARY = CanaryPlace()


@kind()
def checkpoints_of_ours(draw: random.Random, folder: Path) -> Read:
    run = folder / "run"
    for name in ("last.ckpt", "previous.ckpt"):
        (run / "checkpoints").mkdir(parents=True, exist_ok=True)
        (run / "checkpoints" / name).write_bytes(damaged_torch_file(draw, checkpoint(), ["state_dict"]))

    def read() -> None:
        readers: tuple[Callable[[Path], object], ...] = (checkpoint_to_resume, checkpoint_of_run, load_file)
        all_of(*(functools.partial(reader, run) for reader in readers))

    return read


def all_of(*reads: Read) -> None:
    """Read in every way, and raise the last refusal."""
    said: UserError | None = None
    for read in reads:
        try:
            read()
        except UserError as error:
            said = error
    if said is not None:
        raise said


def loaded(file: Path, model: str, **options: Any) -> object:
    weights = Weights(str(file), model)
    return weights.load_into(build_model(model, **options), training=True, class_names=["a", "b", "c"])


@kind()
def weights_of_other_programs(draw: random.Random, folder: Path) -> Read:
    content = {"state_dict": dict(small().state_dict()), "epoch": 1, "args": {"lr": 0.1}}
    (folder / "a.pth").write_bytes(damaged_torch_file(draw, content, ["state_dict"]))
    return lambda: loaded(folder / "a.pth", "mlp", hidden=[3], num_classes=3)


@kind()
def weights_by_torch_hub(draw: random.Random, folder: Path) -> Read:
    content = checkpoint() if draw.random() < 0.5 else dict(small().state_dict())
    (folder / "a.pth").write_bytes(damaged_torch_file(draw, content, ["state_dict"]))

    def read() -> object:
        try:
            return getattr(hubconf, "mlp")(weights=str(folder / "a.pth"), hidden=[3])  # noqa: B009  # made when it is loaded
        except ValueError as error:  # as its pages say
            raise UserError(error) from error

    return read


def as_safetensors(header: Any, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@kind(0.2, "damaged or not a file of safetensors")
def safetensors(draw: random.Random, folder: Path) -> Read:
    state = {key: value.clone() for key, value in small().state_dict().items()}
    way = draw.random()
    if way < 0.6:
        changed = {}
        for key, value in damage.tensors(draw, state).items():
            if isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_quantized:
                changed[str(key)] = (torch.zeros_like(value, device="cpu") if value.is_meta else value).contiguous()
        text = json.dumps(damage.values(draw, described())) if draw.random() < 0.5 else None
        said = {"cnn_zoo": text} if text is not None else {"format": "pt"}
        whole = save_safetensors({key: value.clone() for key, value in changed.items()}, said)
    else:
        whole = save_safetensors(state, {"cnn_zoo": json.dumps(described())})
        length = struct.unpack("<Q", whole[:8])[0]
        header, body = json.loads(whole[8 : 8 + length]), whole[8 + length :]
        whole = as_safetensors(damage.values(draw, header), body) if way < 0.85 else damage.raw(draw, whole)
    (folder / "a.safetensors").write_bytes(whole)

    def read() -> object:
        try:
            return load_file(folder / "a.safetensors")
        except UserError as error:
            if "does not say which network it is of" not in str(error):
                raise
            return loaded(folder / "a.safetensors", "mlp", hidden=[3], num_classes=3)

    return read


def json_file(draw: random.Random, content: Any) -> bytes:
    """A file of JSON: mostly with other values, sometimes with other text."""
    way = draw.random()
    if way < 0.8:
        return json.dumps(damage.values(draw, content)).encode()
    whole = json.dumps(content, indent=1)
    pieces = ("[" * 100_000, "{", "}", ",", '"', "NaN", "1e999", "\\ud800", "null", "9" * 5000)
    return damage.text(draw, whole, pieces) if way < 0.95 else damage.raw(draw, whole.encode())


@kind()
def descriptions_beside_weights(draw: random.Random, folder: Path) -> Read:
    torch.save(small().state_dict(), folder / "a.pth")
    digest = hashlib.sha256((folder / "a.pth").read_bytes()).hexdigest()
    (folder / "a.json").write_bytes(json_file(draw, {**described(), "sha256": digest}))
    return lambda: load_file(folder / "a.pth")


@kind()
def settings_of_timms_weights(draw: random.Random, folder: Path) -> Read:
    known = {"input_size": [3, 224, 224], "crop_pct": 0.875, "interpolation": "bicubic"}
    known |= {"mean": [0.5] * 3, "std": [0.5] * 3, "test_input_size": [3, 288, 288], "test_crop_pct": 1.0}
    (folder / "config.json").write_bytes(json_file(draw, {"architecture": "resnet18", "pretrained_cfg": known}))
    return lambda: timm_preprocessing(folder / "config.json", "weights=timm:resnet18")


YAML_PIECES = (
    *("a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b]\n", "&x [*x]", "*x"),
    *("[" * 3000, "- ", "{", ": ", "\t", "!!python/object/apply:os.mkdir [CANARY]\n", "? ", "<<: 1\n", "'", '"', "#"),
    *(
        "2001-99-99",
        "!!binary x",
        "!!set {a}",
        "!!int x",
        "---\n",
        "0x",
        "1_0",
        "\x00",
        "${a}",
        "${oc.env:HOME}",
        "???",
    ),
)


def yaml_file(draw: random.Random, content: Any) -> bytes:
    """A file of YAML: with other values, aliases, tags, or other text."""
    way = draw.random()
    if way < 0.6:
        return str(yaml.safe_dump(damage.values(draw, content), sort_keys=False, allow_unicode=True)).encode()
    whole: str = yaml.safe_dump(content, sort_keys=False)
    pieces = [piece.replace("CANARY", str(CANARY.place)) for piece in YAML_PIECES]
    return damage.text(draw, whole, pieces) if way < 0.95 else damage.raw(draw, whole.encode())


@kind()
def key_maps(draw: random.Random, folder: Path) -> Read:
    theirs = {f"{place}.{part}": value for place, (part, value) in enumerate(small().state_dict().items())}
    torch.save(theirs, folder / "a.pth")
    pairs = dict(zip(theirs, small().state_dict(), strict=True))
    (folder / "map.yaml").write_bytes(yaml_file(draw, pairs))

    def read() -> object:
        read_map(folder / "map.yaml")
        weights = Weights(str(folder / "a.pth"), "mlp", str(folder / "map.yaml"))
        return weights.load_into(build_model("mlp", hidden=[3]), training=True)

    return read


# ---------------------------------------------------------------------------------------------- settings, and records


@functools.cache
def settings() -> dict[str, Any]:
    """The settings of a run, as its folder keeps them."""
    from dataclasses import asdict

    plain: dict[str, Any] = json.loads(json.dumps(asdict(compose("train", ["model=mlp", "data=digits"]))))
    return plain


@kind(0.3)
def settings_of_a_run(draw: random.Random, folder: Path) -> Read:
    (folder / "config.yaml").write_bytes(yaml_file(draw, settings()))
    return lambda: read_config(folder / "config.yaml")


WORDS = ("seed=0", "recipe.epochs=3", "recipe.milestones=[1,2]", "data.mean=[0.5]", "model.hidden=[3]", "weights=a.pth")
WORD_PIECES = (
    *(
        "[",
        "]",
        "{",
        "}",
        ",",
        "=",
        "'",
        '"',
        "\\",
        "${",
        "}",
        "+",
        "~",
        "@",
        ":",
        " ",
        "\x00",
        "\n",
        "é",
        "???",
        "null",
    ),
    *("nan", "inf", "-1", "1e999", "9" * 400, "[" * 300, "(", "choice(1,2)", "range(1,9)", "${oc.env:HOME}", "."),
)


@kind(0.3, "cannot be read; write key=value")
def words_of_a_command_line(draw: random.Random, folder: Path) -> Read:
    words = ["model=mlp", *WORDS]
    for _ in range(draw.choice((1, 1, 2))):
        place = draw.randrange(len(words))
        words[place] = damage.text(draw, words[place], WORD_PIECES).decode("utf-8", "replace")
    return lambda: compose(draw.choice(("train", "train", "eval")), words)


@kind(0.3)
def experiments_of_a_user(draw: random.Random, folder: Path) -> Read:
    content = {"defaults": [{"override /model": "mlp"}, "_self_"], "seed": 3, "recipe": {"epochs": 2}}
    (folder / "experiment").mkdir()
    head = "# @package _global_\n" if draw.random() < 0.9 else ""
    (folder / "experiment" / "own.yaml").write_bytes(head.encode() + yaml_file(draw, content))
    return lambda: compose("train", ["experiment=own"], str(folder))


def csv_file(draw: random.Random, table: list[list[Any]]) -> bytes:
    way, text = draw.random(), io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(damage.rows(draw, table) if way < 0.7 else table)
    if way < 0.7:
        return text.getvalue().encode("utf-8", "replace")
    pieces = ('"', ",", "\x00", "\r", ";", "x" * 200_000, "\n", "=1+1", str(2**40))
    return damage.text(draw, text.getvalue(), pieces) if way < 0.95 else damage.raw(draw, text.getvalue().encode())


@kind(0.5, "not JSON")
def records(draw: random.Random, folder: Path) -> Read:
    own = write_record(folder / "own", "m", {1, 2})
    write_record(folder / "other", "n", {2, 3})
    content = json.loads(own.read_text())
    predictions = own.with_name("predictions.csv")
    if draw.random() < 0.3:
        table = list(csv.reader(io.StringIO(predictions.read_text())))
        predictions.write_bytes(csv_file(draw, table))
        content["predictions"]["sha256"] = hashlib.sha256(predictions.read_bytes()).hexdigest()
        own.write_text(json.dumps(content))
    else:
        own.write_bytes(json_file(draw, content))

    def read() -> object:
        found, _ = find_records([str(folder)])
        for comparison in compare(found):
            comparison_csv([comparison])
            markdown([comparison])
        return read_record(own)

    return read


@kind(0.3)
def tables_of_a_run(draw: random.Random, folder: Path) -> Read:
    division: list[list[Any]] = [["image", "class", "split", "bytes", "sha256"], ["a/1.jpg", "a", "train", 9, "0" * 64]]
    division += [["a/2.jpg", "a", "test", 9, "1" * 64]]
    (folder / "split.csv").write_bytes(csv_file(draw, division))
    (folder / "unreadable.csv").write_bytes(csv_file(draw, [["image", "reason"], ["a/1.jpg", "not an image"]]))
    (folder / "timing.csv").write_bytes(csv_file(draw, [["epoch", "train_seconds"], [1, 2.5], [2, 2.5]]))

    def read() -> object:
        read_timing(folder / "timing.csv", 2)
        read_unreadable(folder / "unreadable.csv")
        return read_division(folder / "split.csv")

    return read


# --------------------------------------------------------------------------------------------------------------- data


def data_config(name: str, root: Path) -> DataConfig:
    return DataConfig(name, str(root), False, 0, [0.5], [0.5])


def idx(dims: list[int], body: bytes, kind_of: int = 8) -> bytes:
    return struct.pack(">HBB", 0, kind_of, len(dims)) + b"".join(struct.pack(">I", d % 2**32) for d in dims) + body


@kind(0.2, "lacks the files")
def idx_files(draw: random.Random, folder: Path) -> Read:
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, count in (("train", 20), ("t10k", 10)):
        for what, dims, size in (("images-idx3", [count, 28, 28], 784), ("labels-idx1", [count], 1)):
            body = (
                bytes(draw.randrange(10) for _ in range(count * size)) if draw.random() < 0.5 else bytes(count * size)
            )
            if draw.random() < 0.2:
                changed = damage.values(draw, [dims], [0, 1, 2, 3, 2**31, 2**32 - 1, count + 1])
                inside = changed[0] if isinstance(changed, list) and changed else []
                dims = [dim for dim in inside if isinstance(dim, int)][:3] if isinstance(inside, list) else []
            whole = idx(dims, body, draw.choice((8,) * 30 + (9, 11, 12, 13, 14)))
            if draw.random() < 0.3:
                whole = damage.raw(draw, whole)
            elif draw.random() < 0.2:
                place = len(whole) - draw.randrange(1, len(body) + 1) if body else 0
                whole = whole[:place] + b"\xff" + whole[place + 1 :]
            (raw / f"{split}-{what}-ubyte").write_bytes(whole)
    source = TorchvisionFiles(DataSet(28, 32, 1, tuple("0123456789"), 20, 10), "MNIST")
    return lambda: source.load(data_config("mnist", folder))


def cifar_files(draw: random.Random, folder: Path) -> None:
    place = folder / "cifar-10-batches-py"
    place.mkdir()

    odd = [
        *ODD,
        np.zeros((2, 3072), np.uint8),
        np.zeros((2, 3072), np.float32),
        [2**40, 0],
        [-1, 0],
        ["a", "b"],
        [None] * 2,
    ]
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        batch = {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]}
        changed = damage.values(draw, batch, odd) if draw.random() < 0.3 else batch
        (place / name).write_bytes(pickle.dumps(changed))
    (place / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))


@kind(0.5, "lacks the files")
def pickles_of_cifar(draw: random.Random, folder: Path) -> Read:
    cifar_files(draw, folder)
    source = TorchvisionFiles(DataSet(32, None, 3, tuple("abcdefghij"), 10, 2), "CIFAR10")

    def read() -> object:
        with pytest.MonkeyPatch.context() as patch:  # otherwise their MD5 is asked first, which no mutant has
            patch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
            return source.load(data_config("cifar10", folder))

    return read


@functools.cache
def pictures() -> list[bytes]:
    made = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return [png(made)] * 3


@functools.cache
def photos() -> Any:
    """Settings of pictures of the hub, which were fetched before."""
    (config,) = compose_groups("train", ["data=hub_photos", "data.repo=a/b", f"data.revision={'0' * 40}"], "data")
    return config


@kind(0.2, "damaged, or not a parquet file")
def parquet_files(draw: random.Random, folder: Path) -> Read:
    for name in ("train", "test"):
        way = draw.random()
        images: list[Any] = damage.values(draw, [*pictures(), *pictures()], [None, b"", b"x", png_of(draw)])
        labels: list[Any] = damage.values(draw, [0, 1, 2] * 2, [None, -1, 3, 2**31, 2**40, 2**62])
        rows = min(len(images), len(labels))
        try:
            numbers = pa.array(labels[:rows], draw.choice((pa.int64(),) * 8 + (pa.int32(), pa.uint64(), pa.float32())))
            table = pa.table({"img": pa.array(images[:rows], pa.binary()), "label": numbers})
            pq.write_table(table, io.BytesIO())
        except (pa.ArrowException, OverflowError, TypeError):
            table = pa.table({"img": pictures(), "label": [0, 1, 1]})
        known: Any = {"info": {"features": {"label": {"names": NAMES, "_type": "ClassLabel"}}}}
        if draw.random() < 0.6:
            table = table.replace_schema_metadata({"huggingface": json_file(draw, known)})
        if draw.random() < 0.2:
            table = table.rename_columns(
                draw.choice((["img", "labels"], ["img", "img"], ["label", "label"], ["a", "b"]))
            )
        file = io.BytesIO()
        pq.write_table(table, file)
        whole = file.getvalue()
        (folder / f"{name}.parquet").write_bytes(damage.raw(draw, whole) if way < 0.15 else whole)
    config = DataConfig("parquet", str(folder), False, 0, [0.5] * 3, [0.5] * 3)
    files = {name: [folder / f"{name}.parquet"] for name in ("train", "test")}

    def read() -> None:
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()):
            patch.setattr("harness.data.sources.hub_photos.find_files", lambda _: files)
            unpacked = dataclasses.replace(photos(), root=str(folder / "unpacked"))
            all_of(
                lambda: parquet.describe(config),
                lambda: parquet.load(config),
                lambda: hub_photos.unpacked(unpacked),
                lambda: hub_photos.load(unpacked),
            )

    return read


def encoded(draw: random.Random) -> bytes:
    file, mode = io.BytesIO(), draw.choice(("RGB", "L", "P", "RGBA", "1", "I;16"))
    form = draw.choice(
        ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "ICO", "JPEG2000", "DDS", "PCX", "SGI")
    )
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)).convert("RGB")
    try:
        (image if mode == "RGB" else image.convert("L").convert(mode)).save(file, form)
    except (OSError, ValueError, KeyError):
        file = io.BytesIO()
        image.save(file, "PNG")
    return file.getvalue()


def png_of(draw: random.Random) -> bytes:
    """A PNG with damaged chunks under right checksums."""
    import zlib

    whole = pictures()[0]
    chunks, start = [], 8
    while start < len(whole):
        length = int.from_bytes(whole[start : start + 4], "big")
        chunks.append((whole[start + 4 : start + 8], whole[start + 8 : start + 8 + length]))
        start += 12 + length
    place = draw.randrange(len(chunks))
    chunks[place] = (chunks[place][0], damage.raw(draw, chunks[place][1]))
    made = [struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks]
    return whole[:8] + b"".join(made)


@kind(0.5, "^not an image|^an empty file")
def picture_files(draw: random.Random, folder: Path) -> Read:
    content = png_of(draw) if draw.random() < 0.2 else damage.raw(draw, encoded(draw), draw.choice((0, 4, 8)))

    def read() -> object:
        mode_of(content)
        decode(content, "fast")
        return decode(content, "pil", as_viewed=True)

    return read


@functools.cache
def meta() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        new_devkit(Path(folder), [1])
        return (Path(folder) / "ILSVRC2012_devkit_t12" / "data" / "meta.mat").read_bytes()


def make_devkit(root: Path, lines: list[int]) -> None:
    """A development kit, whose larger file is made once."""
    data = root / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    (data / "meta.mat").write_bytes(meta())
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{line}\n" for line in lines))


@kind(0.5, r"UnicodeDecodeError|\(Error:|MatReadError")
def labels_of_imagenet(draw: random.Random, folder: Path) -> Read:
    (folder / "val").mkdir()
    for number in (1, 2):
        (folder / "val" / f"ILSVRC2012_val_{number:08d}.JPEG").write_bytes(pictures()[0])
    if draw.random() < 0.6:
        table = [["ImageId", "PredictionString"]]
        table += [[f"ILSVRC2012_val_{n:08d}", f"{IMAGENET_CLASSES[n]} 1 2 3 4"] for n in (1, 2)]
        (folder / "LOC_val_solution.csv").write_bytes(csv_file(draw, table))
    else:
        make_devkit(folder, [1000, 500])
        data = folder / "ILSVRC2012_devkit_t12" / "data"
        truth, synsets = data / "ILSVRC2012_validation_ground_truth.txt", data / "meta.mat"
        if draw.random() < 0.7:
            lines = [draw.choice(("1000", "500", str(2**40), "-1", "0", "x", "", "1.5", "\x00")) for _ in range(3)]
            truth.write_text("\n".join(lines))
        else:
            synsets.write_bytes(damage.raw(draw, synsets.read_bytes()))
    return lambda: imagenet.load_test(data_config("imagenet", folder))


TYPES = (tarfile.REGTYPE,) * 6 + (
    *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE),
    *(tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, b"Z"),
)


def tar(draw: random.Random, files: dict[str, bytes], damaged: float = 0.5) -> bytes:
    """An archive with odd members and the right checksums."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=draw.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if draw.random() < damaged:
                member.name = draw.choice(
                    (name, name, f"/tmp/{name}", f"../../{name}", "..", ".", "a/..", "", "x\ny", "." * 200)
                )
                member.type = draw.choice(TYPES)
                member.linkname = draw.choice((name, "..", "/etc/passwd", "nowhere", *files))
                member.mtime = draw.choice((0, 2**33, -1, 1.5))
            regular = member.type in (tarfile.REGTYPE, tarfile.CONTTYPE, b"Z")
            member.size = len(content) if regular else 0
            archive.addfile(member, io.BytesIO(content) if regular else None)
    whole = made.getvalue()
    if draw.random() < 0.2:
        whole = damage.raw(draw, whole)
    if draw.random() < 0.1:
        whole = gzip.compress(whole)
    return whole


def check_inside(root: Path) -> None:
    """Nothing lies outside the folder that was to be written, and no link in it."""
    assert [path.name for path in root.parent.iterdir()] == [root.name]
    assert {path.name for path in root.iterdir()} <= {"train", "val", "ILSVRC2012_devkit_t12"}
    assert not any(path.is_symlink() for path in root.rglob("*"))


@kind(0.3, "damaged, or no archive")
def archives_of_imagenet(draw: random.Random, folder: Path) -> Read:
    first, second = IMAGENET_CLASSES[:2]
    classes = {f"{wnid}.tar": tar(draw, {f"{wnid}_{i}.JPEG": b"x" for i in (1, 2)}, 0.4) for wnid in (first, second)}
    (folder / "train.tar").write_bytes(tar(draw, classes, 0.3))
    (folder / "val.tar").write_bytes(tar(draw, {f"ILSVRC2012_val_{n:08d}.JPEG": b"x" for n in (1, 2)}, 0.5))
    make_devkit(folder, [1000, 500])
    data = folder / "ILSVRC2012_devkit_t12" / "data"
    files = {f"ILSVRC2012_devkit_t12/data/{path.name}": path.read_bytes() for path in sorted(data.iterdir())}
    (folder / "kit.tar.gz").write_bytes(gzip.compress(tar(draw, files, 0.2)))
    root = folder / "in" / "root"

    def read() -> None:
        try:
            all_of(
                lambda: imagenet_archives.unpack_train(folder / "train.tar", root / "train"),
                lambda: imagenet_archives.unpack_val(folder / "val.tar", folder / "kit.tar.gz", root / "val"),
            )
        finally:
            check_inside(root)

    root.mkdir(parents=True)
    return read


def renpz(draw: random.Random, path: Path) -> None:
    """Change arrays of a file of NumPy's, or its bytes."""
    if draw.random() < 0.2:
        path.write_bytes(damage.raw(draw, path.read_bytes()))
        return
    with np.load(path) as file:
        arrays: dict[str, Any] = {key: file[key] for key in file.files}
    for _ in range(draw.choice((1, 1, 2))):
        key = draw.choice(list(arrays))
        change = draw.choice(("number", "cut", "drop", "kind", "double", "noise"))
        value = arrays[key]
        if change == "cut":
            arrays[key] = value[:-1] if value.ndim else np.array([value])
        elif change == "drop":
            del arrays[key]
            break
        elif change == "kind":
            arrays[key] = (
                value.astype(draw.choice((np.float64, np.int8, np.str_))) if value.dtype.kind in "iu" else value
            )
        elif change == "double":
            arrays[key] = np.concatenate([np.atleast_1d(value)] * 2)
        elif value.dtype.kind in "iu":
            number = draw.choice((0, 1, 100, 127))
            arrays[key] = (
                np.full_like(value, number) if change == "number" else value[::-1] if value.ndim else value + 1
            )
    np.savez(path, **arrays)


@kind(0.3)
def caches(draw: random.Random, folder: Path) -> Read:
    root = folder / "pictures"
    for name in ("a/1.png", "a/2.png", "b/in/3.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(pictures()[0])
    old = time.time_ns() - 10**11
    import os

    for path in (*root.rglob("*"), root):
        os.utime(path, ns=(old, old))

    def read() -> object:
        from harness.data.images import folder as indexing

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
            patch.setattr(indexing, "_KNOWN", {})
            patch.setattr("harness.data.images.digests.SETTLED", -(10**12))  # these files were made a moment ago
            made = index_folder(root)
            names = [made.name(position) for position in range(len(made))]
            digests_of(root, names, ask_for_facts(root, names), keep=True)
            indexing._KNOWN.clear()
            for which in ("index", "digests"):
                renpz(draw, cache_file(which, root))
            again = index_folder(root)
            assert [again.name(position) for position in range(len(again))] == names == list(again.every_name())
            assert again.label.tolist() == [0, 0, 1] and again.classes == ("a", "b")
            found = digests_of(root, names, ask_for_facts(root, names), keep=True)
            assert found == [hashlib.sha256(pictures()[0]).hexdigest()] * 3
            return found

    return read


# -------------------------------------------------------------------------------------------------------------- tests


def judged(name: str, number: int, folder: Path) -> str | None:
    """What the project says of a mutant, None for a result; a traceback, a long wait or a run of code is a failure."""
    folder.mkdir()
    CANARY.place = folder / "executed"
    read = KINDS[name].write(random.Random(f"{name} {number}"), folder)
    said, began, started = None, time.process_time(), time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read()
        except (UserError, UnreadableError) as error:
            said = str(error) or "nothing"
    took = max(time.process_time() - began, (time.monotonic() - started) / 6)  # others may use this machine
    assert took < SECONDS, f"{name} {number}: a long wait"
    assert not CANARY.place.exists(), f"{name} {number}: code in the file ran"
    return said


def judge_all(name: str, numbers: range, folder: Path) -> None:
    import re

    reached, failures = 0, []
    for number in numbers:
        try:
            said = judged(name, number, folder / str(number))
        except Exception as error:  # what this test looks for
            failures.append(f"{number}: {type(error).__name__}: {error}"[:300])
            continue
        reached += said is None or not re.search(KINDS[name].container, said)
    assert not failures, f"{len(failures)} of {len(numbers)}:\n" + "\n".join(failures[:20])
    least = KINDS[name].reaching * len(numbers) if len(numbers) > FEW else 1  # a share of a few is luck
    assert reached >= least, f"only {reached} of {len(numbers)} got past the container"


@pytest.mark.parametrize("name", KINDS)
def test_a_few_damaged_files(name: str, tmp_path: Path) -> None:
    judge_all(name, range(FEW), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_many_damaged_files(name: str, tmp_path: Path) -> None:
    judge_all(name, range(MANY), tmp_path)


# ----------------------------------------------------------------------------------------- examples with their answers


ODD_TENSORS = {
    "sparse": "is sparse or nested; save it with .to_dense()",
    "sparse in rows": "is sparse or nested; save it with .to_dense()",
    "quantised": "is quantised; save it with .dequantize()",
    "meta": "is on the device meta, where tensors have no values",
    "complex": "holds complex numbers; use another file",
    "int8": "holds int8 where the network has float32; save it as float32",
    "bool": "holds bool where the network has float32",
    "NaN": "has numbers that are not finite; use another file",
    "infinite": "has numbers that are not finite",
    "huge": "has numbers that are not finite",  # in double precision they were
}


def saved(tmp_path: Path, content: Any, name: str = "a.pth") -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(content, tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("ours", [False, True], ids=["another program's", "ours"])
@pytest.mark.parametrize("odd", ODD_TENSORS)
def test_a_tensor_that_no_network_can_take_is_named(tmp_path: Path, odd: str, ours: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = damage.TENSORS[odd](small().state_dict()["fc1.weight"])
    content = checkpoint() if ours else {"state_dict": dict(small().state_dict())}
    content["state_dict"]["network.fc1.weight" if ours else "fc1.weight"] = value
    file = saved(tmp_path, content, "a.ckpt")
    readers: list[Read] = [lambda: load_file(file)] if ours else [lambda: loaded(file, "mlp", hidden=[3])]
    if ours:
        readers.append(lambda: loaded(file, "mlp", hidden=[3]))
    for read in readers:
        with pytest.raises(UserError) as caught:
            read()
        assert f"fc1.weight {ODD_TENSORS[odd]}" in str(caught.value) and "a.ckpt" in str(caught.value)


def test_integers_that_are_the_networks_own_must_be_those(tmp_path: Path) -> None:
    state = build_model("lenet5_1998").state_dict()
    assert loaded(saved(tmp_path, dict(state)), "lenet5_1998")
    state["c3.by_column"] = state["c3.by_column"] + 100  # an index out of range
    with pytest.raises(UserError, match=r"c3.by_column is not the network's, whose connections are fixed"):
        loaded(saved(tmp_path, dict(state)), "lenet5_1998")


def test_arrays_in_the_other_order_of_bytes_are_read(tmp_path: Path) -> None:
    state = {key: value.numpy().astype(">f4") for key, value in small().state_dict().items()}
    network = build_model("mlp", hidden=[3])
    Weights(str(saved(tmp_path, state)), "mlp").load_into(network, training=True)
    assert torch.equal(network.get_parameter("fc1.weight"), small().get_parameter("fc1.weight"))


def test_a_dictionary_that_holds_itself_often_is_no_wait(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    content |= {f"k{number}": content for number in range(150)}
    started = time.monotonic()
    with pytest.raises(UserError, match="holds no weights"):
        loaded(saved(tmp_path, content), "mlp")
    assert time.monotonic() - started < SECONDS


def with_description(**changes: Any) -> dict[str, Any]:
    return {**described(), **changes}


DESCRIPTIONS: dict[str, tuple[Any, str]] = {
    "a newer version": (lambda: with_description(version=3), "checkpoint version 3; .*a newer version of this program"),
    "no version": (lambda: {k: v for k, v in described().items() if k != "version"}, "checkpoint version None"),
    "a newer key": (
        lambda: with_description(preprocessing={**described()["preprocessing"], "gamma": 2}),
        "Preprocessing has 'gamma', which a newer version of this program may know",
    ),
    "a newer setting": (
        lambda: with_description(data={**described()["data"], "shuffle": True}),
        "its description of the network is damaged .*no schema has the keys .*shuffle",
    ),
    "a newer option": (
        lambda: with_description(options={"hidden": [3], "bias": False}),
        "MLPConfig has 'bias', which a",
    ),
    "a newer network": (lambda: with_description(model="vit"), "this zoo has no network 'vit'; a newer version"),
    "a list": (lambda: [], "its description of the network is damaged|not a checkpoint of this project"),
    "nothing": (lambda: None, "its description of the network is damaged|not a checkpoint of this project"),
    "no classes": (lambda: with_description(class_names=[]), "class_names are no names"),
    "numbers for classes": (lambda: with_description(class_names=[1, 2]), "class_names are no names"),
    "a size of 2^40": (
        lambda: with_description(preprocessing={**described()["preprocessing"], "size": 2**40}),
        "images of 1 channels and 1099511627776 pixels",
    ),
    "a mean of NaN": (
        lambda: with_description(preprocessing={**described()["preprocessing"], "mean": [float("nan")]}),
        "must be finite",
    ),
    "a layer of 2^40": (lambda: with_description(options={"hidden": [2**40]}), "model.hidden=.*each must be .*100000"),
    "another layer": (
        lambda: with_description(options={"hidden": [99_999]}),
        "says that it is of mlp, but its tensors",
    ),
}


@pytest.mark.parametrize(
    ("case", "ending"),
    [
        *((case, ending) for case in DESCRIPTIONS for ending in ("ckpt", "safetensors")),
        *(("a newer version", "json"), ("a newer key", "json")),
    ],
)
def test_missing_odd_and_newer_descriptions(tmp_path: Path, case: str, ending: str) -> None:
    make, line = DESCRIPTIONS[case]
    state = dict(small().state_dict())
    if ending == "ckpt":
        file = saved(tmp_path, {**checkpoint(), "cnn_zoo": make()}, "a.ckpt")
    elif ending == "safetensors":
        file = tmp_path / "a.safetensors"
        file.write_bytes(save_safetensors(state, {"cnn_zoo": json.dumps(make())}))
    else:
        file = saved(tmp_path, state)
        content = {**make(), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        file.with_suffix(".json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=line) as caught:
        load_file(file)
    assert "\n" not in str(caught.value) and str(file.with_suffix("")) in str(caught.value)


def test_a_newer_key_of_what_is_not_read_is_no_mistake(tmp_path: Path) -> None:
    file = saved(tmp_path, {**checkpoint(), "cnn_zoo": with_description(licence="any"), "callbacks": 1}, "a.ckpt")
    assert load_file(file).class_names == tuple("0123456789")


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize("text", [BOMB, "a: &a [*a]\n"], ids=["bomb", "inside itself"])
@pytest.mark.parametrize("place", ["key map", "settings of a run", "experiment", "recipe"])
def test_aliases_that_stand_for_more_than_memory_holds_are_refused(tmp_path: Path, place: str, text: str) -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match="its aliases stand for more than 100,000 values; write out what is meant"):
        if place == "key map":
            (tmp_path / "map.yaml").write_text(text)
            read_map(tmp_path / "map.yaml")
        elif place == "settings of a run":
            (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings()) + text)
            read_config(tmp_path / "config.yaml")
        else:
            (tmp_path / place).mkdir()
            (tmp_path / place / "own.yaml").write_text("# @package _global_\n" + text)
            compose("train", [f"{place}=own"], str(tmp_path))
    assert time.monotonic() - started < SECONDS


def test_aliases_in_bounds_are_read(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nrecipe: {epochs: &five 5, batch_size: *five}\n"
    (tmp_path / "experiment" / "own.yaml").write_text(text)
    config = compose("train", ["experiment=own"], str(tmp_path))
    assert config.recipe.epochs == config.recipe.batch_size == 5


@pytest.mark.parametrize("label", [2**40, 2**62, 100_000])
def test_a_label_of_a_trillion_makes_no_trillion_classes(tmp_path: Path, label: int) -> None:
    for name in ("train", "test"):
        table = pa.table({"img": pictures(), "label": [0, 1, label if name == "train" else 1]})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    started = time.monotonic()
    with pytest.raises(UserError, match=f"a label of {label:,}, and 100,000 classes are the most"):
        parquet.describe(data_config("parquet", tmp_path))
    assert time.monotonic() - started < SECONDS


@pytest.mark.parametrize("label", [10, 255])
def test_a_label_of_mnist_past_its_classes(tmp_path: Path, label: int) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, count in (("train", 20), ("t10k", 10)):
        (raw / f"{split}-images-idx3-ubyte").write_bytes(idx([count, 28, 28], bytes(count * 784)))
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(idx([count], bytes(count - 1) + bytes([label])))
    source = TorchvisionFiles(DataSet(28, 32, 1, tuple("0123456789"), 20, 10), "MNIST")
    with pytest.raises(UserError, match=f"is not mnist: a label of {label}, and there are 10 classes"):
        source.load(data_config("mnist", tmp_path))


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        ([0, 2**40], "a label of 1,099,511,627,776, and there are 10 classes"),
        ([0, -1], "a label of -1, and there are 10 classes"),
        ([0, 2**70], "labels are object"),
        ([0, None], "labels are object"),
        ([0, 1.5], "labels are float64"),
        ([0, "1"], "labels are <U"),
        ([0], r"labels are int64 \(1,\) for 2 images"),
    ],
)
def test_labels_of_cifar_that_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels: list[Any], line: str
) -> None:
    cifar_files(random.Random(0), tmp_path)
    batch = {"data": np.zeros((2, 3072), np.uint8), "labels": labels}
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(batch))
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    source = TorchvisionFiles(DataSet(32, None, 3, tuple("abcdefghij"), 10, 2), "CIFAR10")
    with pytest.raises(UserError, match=line):
        source.load_test(data_config("cifar10", tmp_path))


def test_a_pickle_that_is_not_cifars_is_never_opened(tmp_path: Path) -> None:
    cifar_files(random.Random(0), tmp_path)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(Canary(tmp_path / "executed")))
    source = TorchvisionFiles(DataSet(32, None, 3, tuple("abcdefghij"), 10, 2), "CIFAR10")
    with pytest.raises(UserError, match="lacks the files of cifar10, or holds damaged ones"):
        source.load_test(data_config("cifar10", tmp_path))
    assert not (tmp_path / "executed").exists()


def test_a_label_of_imagenet_that_is_no_class(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG").write_bytes(pictures()[0])
    (tmp_path / "LOC_val_solution.csv").write_text(f"ImageId,PredictionString\nILSVRC2012_val_00000001,{2**40} 1 1\n")
    with pytest.raises(UserError, match=r"not Kaggle's list of labels \(KeyError: '1099511627776'\)"):
        imagenet.load_test(data_config("imagenet", tmp_path))
    (tmp_path / "LOC_val_solution.csv").unlink()
    make_devkit(tmp_path, [2**40])
    with pytest.raises(UserError, match=r"not the development kit of ILSVRC 2012 \(KeyError: 1099511627776\)"):
        imagenet.load_test(data_config("imagenet", tmp_path))


def member(name: str, type_: bytes = tarfile.REGTYPE, linkname: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type_, linkname
    return info


def archived(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


FIRST = IMAGENET_CLASSES[0]
MEMBERS: dict[str, tuple[Callable[[str], tarfile.TarInfo], str]] = {
    "a link out": (lambda name: member(name, tarfile.SYMTYPE, "/etc/passwd"), "is a link"),
    "a link to another": (lambda name: member(name, tarfile.SYMTYPE, "other.JPEG"), "is a link"),
    "a link to itself": (lambda name: member(name, tarfile.SYMTYPE, name), "is a link"),
    "a hard link": (lambda name: member(name, tarfile.LNKTYPE, "other.JPEG"), "is a link"),
    "a folder": (lambda name: member(name, tarfile.DIRTYPE), "is no file"),
    "a pipe": (lambda name: member(name, tarfile.FIFOTYPE), "is no file"),
    "an absolute path": (lambda name: member(f"/tmp/{name}"), "a path that leads out of its folder or hides a file"),
    "a path upwards": (lambda name: member(f"../../{name}"), "a path that leads out of its folder or hides a file"),
    "a path through": (lambda name: member(f"a/../../{name}"), "a path that leads out of its folder or hides a file"),
}


@pytest.mark.parametrize("which", ["train", "a class", "val", "kit"])
@pytest.mark.parametrize("case", MEMBERS)
def test_archives_that_lead_elsewhere_are_refused(tmp_path: Path, case: str, which: str) -> None:
    make, line = MEMBERS[case]
    root = tmp_path / "in" / "root"
    root.mkdir(parents=True)
    (tmp_path / "other.JPEG").write_bytes(b"other")
    make_devkit(tmp_path, [1000])
    data = tmp_path / "ILSVRC2012_devkit_t12"
    if which == "kit":
        truth = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
        kit = archived((make(truth), b""))
        line = line if "path" not in case else "is not in it"
    else:
        kit = archived(*((member(str(p.relative_to(tmp_path))), p.read_bytes()) for p in sorted(data.rglob("*.*"))))
    (tmp_path / "kit.tar.gz").write_bytes(gzip.compress(kit))
    other = (member("other.JPEG"), b"other")
    name = {"train": f"{FIRST}.tar", "a class": f"{FIRST}_1.JPEG"}.get(which, "ILSVRC2012_val_00000001.JPEG")
    body = archived(other) if which == "train" and make(name).isreg() else b""
    odd = archived(*([] if which in ("train", "val") else [other]), (make(name), body))
    whole = archived((member(f"{FIRST}.tar"), odd)) if which == "a class" else odd
    (tmp_path / "odd.tar").write_bytes(whole)
    with pytest.raises(UserError, match=line) as caught:
        if which in ("train", "a class"):
            imagenet_archives.unpack_train(tmp_path / "odd.tar", root / "train")
        else:
            imagenet_archives.unpack_val(tmp_path / "odd.tar", tmp_path / "kit.tar.gz", root / "val")
    assert "\n" not in str(caught.value)
    check_inside(root)
    assert not list((root / "train").glob("n*")), "a class that is not whole has no folder"


def test_tables_of_a_run_that_are_damaged_are_named(tmp_path: Path) -> None:
    (tmp_path / "timing.csv").write_text("epoch,train_seconds\n1\n")
    assert read_timing(tmp_path / "timing.csv", 1) == [("1",)]
    (tmp_path / "unreadable.csv").write_text("image,why\na.jpg,x\n")
    with pytest.raises(UserError, match=r"unreadable.csv: damaged: row 1 has no reason"):
        read_unreadable(tmp_path / "unreadable.csv")
    (tmp_path / "split.csv").write_text(f"image,class,split,bytes,sha256\na,b,train,many,{'0' * 64}\n")
    with pytest.raises(UserError, match=r"split.csv: damaged: bytes must be whole numbers"):
        read_division(tmp_path / "split.csv")
    (tmp_path / "split.csv").write_bytes(b"image,class\xff")
    with pytest.raises(UserError, match=r"split.csv: damaged, not a table that can be read"):
        read_division(tmp_path / "split.csv")


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"schema": "cnn-zoo result"}', "{}"])
def test_a_record_that_is_damaged_is_passed_over_and_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "result.json").write_text(text)
    found, passed_over = find_records([str(tmp_path)])
    assert found == [] and len(passed_over) == 1 and "result.json: " in passed_over[0]
    with pytest.raises(UserError, match=r"result.json: (damaged|not a record that can be used)"):
        read_record(tmp_path / "result.json")


def test_a_key_in_two_lines_of_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with spoken(True):
        assert cli._fail("weights=a.pth: 1 unexpected: a\nb.weight", 2) == 2
    assert capsys.readouterr().err.count("\n") == 1
