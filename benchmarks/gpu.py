"""What this program makes of a GPU, against what a person would write instead; the most telling part first.

- `resnet20`: an epoch of images of CIFAR's size in device memory, against the usual loop over a DataLoader whose
  workers transform image by image; and what each setting that makes training faster is worth, and determinism costs;
- `resnet50`: training steps on images in device memory, against a plain compiled loop, and against the bound that
  arithmetic and memory of this device set;
- `evaluation`: the same network's evaluation of one batch, against a plain compiled loop;
- `files`: training and evaluation from JPEG files, against a batch in device memory, and what bounds them.

A part's variants are measured in turns, and its record is written as soon as it ends.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks import throughput
from benchmarks.rounds import in_turns, machine, ratio
from benchmarks.training import RECIPE
from harness import build
from harness.config.data import DataConfig
from harness.config.facts import Preprocessing
from harness.config.protocol import ProtocolConfig
from harness.config.recipe import RecipeConfig
from harness.config.trainer import TrainerConfig
from harness.data.images.image_set import ImageSet
from harness.data.loading.loader import Batch
from harness.data.loading.module import TrainData
from harness.data.sources.splits import Splits
from harness.errors import UserError
from harness.evaluation.counts import count_correct
from harness.evaluation.scores import class_scores, prepare
from harness.run.checkpoint import Trained
from harness.run.files import write_json
from harness.run.machine import available_cores
from harness.run.processes import gather
from harness.run.progress import ProgressBar
from harness.training.classifier import Classifier
from harness.training.recorder import Recorder
from models import build_model
from models.layers import multiply_adds

PARTS = ("resnet20", "resnet50", "evaluation", "files")
PASSES = 14  # over the outputs of convolutions in a compiled step with batch norms: bound (b) of the roofline
OPTIMISER_BYTES = 30  # read and written for each parameter of a step


@dataclass(frozen=True)
class Sizes:
    """How much is measured: the defaults suit a GPU for data centres."""

    small: str = "resnet20"
    small_images: int = 50_000
    small_batch: int = 128
    large: str = "resnet50"
    pixels: int = 224
    batch: int = 256
    steps: int = 20
    copied: int = 2**30  # bytes, to measure the memory
    matrix: int = 8192  # side, to measure the arithmetic
    compiled: bool = True


def measure(folder: Path, minutes: float, accelerator: str, root: str | None, sizes: Sizes, rounds: int) -> list[str]:
    """Measure the parts that have no record in a folder yet, and write theirs; none starts when the time is over.

    Args:
        folder: of the records, `PART.json`.
        minutes: after which no other part starts.
        accelerator: `gpu` or `cpu`.
        root: folder with ImageNet's pictures in classes, for the part `files`; None leaves that out.
        sizes: how much is measured.
        rounds: of a part's variants in turns.

    Returns:
        A line for each part: where its record is, or why it has none.
    """
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError("--accelerator gpu: this machine has none; --accelerator cpu proves that all of it works")
    started, lines = time.monotonic(), []
    for part in PARTS:
        record = folder / f"{part}.json"
        if record.exists():
            lines.append(f"{part}: measured before; {record}")
        elif part == "files" and root is None:
            lines.append(f"{part}: left out; --root names the pictures")
        elif time.monotonic() - started > 60 * minutes:
            lines.append(f"{part}: left out; {minutes:g} minutes are over")
        else:
            began = time.monotonic()
            measured = _part(part, accelerator, root, sizes, rounds)
            folder.mkdir(parents=True, exist_ok=True)
            write_json(record, {"benchmark": f"gpu {part}", "rounds": rounds, **measured, "machine": machine()})
            lines.append(f"{part}: {time.monotonic() - began:.0f} seconds; {record}")
    return lines


def _part(part: str, accelerator: str, root: str | None, sizes: Sizes, rounds: int) -> dict[str, Any]:
    if part == "resnet20":
        return _small(accelerator, sizes, rounds)
    if part == "resnet50":
        return _large(accelerator, sizes, rounds)
    if part == "evaluation":
        return _evaluation(accelerator, sizes, rounds)
    assert root is not None
    shape = (sizes.large, sizes.batch, sizes.steps, sizes.compiled)
    return throughput.measure(root, rounds, accelerator, *shape)


def _small(accelerator: str, sizes: Sizes, rounds: int) -> dict[str, Any]:
    """A small network, whose steps are shorter than the usual loop takes to make a batch."""
    split = _random_split(sizes.small_images, 32)
    recipe = dataclasses.replace(
        RECIPE, batch_size=sizes.small_batch, crop_padding=4, flip=True, precision="bf16-mixed", channels_last=True
    )
    settings: dict[str, dict[str, Any]] = {"ours": {}, "ours_fused": {"fused": True}}
    settings["ours_not_deterministic"] = {"deterministic": False}
    if sizes.compiled:
        settings["ours_compiled"] = {"compile": True}
    if sizes.compiled and accelerator == "gpu":
        settings["ours_cuda_graphs"] = {"compile": True, "cuda_graphs": True}
    runs = {
        name: _Ours(sizes.small, split, dataclasses.replace(recipe, **changes), accelerator)
        for name, changes in settings.items()
    }
    usual = _Usual(sizes.small, split, sizes.small_batch, _device(accelerator))
    rates = in_turns({**{name: run.rate for name, run in runs.items()}, "usual": usual.rate}, rounds)
    return {
        "model": sizes.small,
        "batch_size": sizes.small_batch,
        "images": sizes.small_images,
        "workers_of_the_usual_loop": usual.workers,
        "to_usual": {name: ratio(rates, name, "usual") for name in runs},
        "to_ours": {name: ratio(rates, name, "ours") for name in runs if name != "ours"},
        "images_per_second": _medians(rates),
    }


def _large(accelerator: str, sizes: Sizes, rounds: int) -> dict[str, Any]:
    """A large network, which keeps the device busy: our path, and the fastest plain loop."""
    device = _device(accelerator)
    split = _random_split(sizes.batch * sizes.steps, sizes.pixels)
    recipe = dataclasses.replace(
        RECIPE,
        batch_size=sizes.batch,
        precision="bf16-mixed",
        channels_last=True,
        compile=sizes.compiled,
        fused=True,
        deterministic=False,
    )
    ours = _Ours(sizes.large, split, recipe, accelerator)
    deterministic = _Ours(sizes.large, split, dataclasses.replace(recipe, deterministic=True), accelerator)
    plain = _Plain(sizes, device)
    rates = in_turns({"ours": ours.rate, "ours_deterministic": deterministic.rate, "plain": plain.rate}, rounds)
    bound = _bound(sizes, device)
    return {
        "model": sizes.large,
        "pixels": sizes.pixels,
        "batch_size": sizes.batch,
        "compiled": sizes.compiled,
        "ours_to_plain": ratio(rates, "ours", "plain"),
        "deterministic_to_ours": ratio(rates, "ours_deterministic", "ours"),
        "share_of_bound": median(rates["ours"]) / bound["images_per_second"],
        "bound": bound,
        "images_per_second": _medians(rates),
    }


def _evaluation(accelerator: str, sizes: Sizes, rounds: int) -> dict[str, Any]:
    """Counts of one batch that lies on the device: our scores and counts, and a plain loop's top-k."""
    device = _device(accelerator)
    how = ProtocolConfig("benchmark", sizes.batch, "bf16-mixed", channels_last=True, compile=sizes.compiled)
    ours, plain = _network(sizes.large, device).eval(), _network(sizes.large, device).eval()
    prepare(ours, how)
    prepare(plain, how)
    images = torch.rand(sizes.batch, 3, sizes.pixels, sizes.pixels, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(sizes.batch, device=device) % 1000

    def our_step() -> None:
        count_correct(class_scores(ours, images, how, sizes.batch), labels)

    def plain_step() -> None:
        (plain(images).topk(5).indices == labels[:, None]).sum()

    steps = {"ours": our_step, "plain": plain_step}
    rates = in_turns({name: partial(_scored, step, sizes, device) for name, step in steps.items()}, rounds)
    return {
        "model": sizes.large,
        "pixels": sizes.pixels,
        "batch_size": sizes.batch,
        "compiled": sizes.compiled,
        "ours_to_plain": ratio(rates, "ours", "plain"),
        "images_per_second": _medians(rates),
    }


def _scored(step: Callable[[], None], sizes: Sizes, device: torch.device) -> float:
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        step()
        started = _time(device)
        for _ in range(sizes.steps):
            step()
        return sizes.steps * sizes.batch / (_time(device) - started)


class _Clocked(Classifier):
    """What `train.py` trains; takes the seconds from an epoch's first step to the end of its last."""

    def on_train_epoch_start(self) -> None:
        """Start."""
        super().on_train_epoch_start()
        self.began = _time(self.device)

    def on_train_batch_end(self, outputs: object, batch: Batch, batch_idx: int) -> None:
        """Stop after the last."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        if batch_idx + 1 == self.steps_per_epoch:
            self.seconds = _time(self.device) - self.began


class _Ours:
    """Training as `train.py` does it, with its bar, counters and checks, but for validation and the record."""

    def __init__(self, model: str, split: ImageSet, recipe: RecipeConfig, accelerator: str) -> None:
        size = split.images.shape[-1]
        self.preprocessing = Preprocessing(3, size, None, None, (0.5,) * 3, (0.25,) * 3)
        self.recipe, self.accelerator = recipe, accelerator
        protocol = ProtocolConfig("whole_image", 1000, "32-true")
        splits = Splits(split, split, split)
        self.data = TrainData(splits, self.preprocessing, recipe, protocol, seed=0, max_batches=None)
        network = _network(model, torch.device("cpu"))
        self.classifier = _Clocked(network, recipe, self.data.steps_per_epoch, seed=0)
        self.images = len(split.labels)

    def rate(self) -> float:
        """Images per second of one epoch."""
        team = gather(TrainerConfig("benchmark", self.accelerator, 1, "auto", torch.get_num_threads()))
        config = DataConfig("digits", "", False, 0, [0.5] * 3, [0.25] * 3)
        trained = Trained("benchmark", {}, ("a",) * 10, self.preprocessing, config, {})
        self.classifier.history = []  # each time is a run of its own
        with tempfile.TemporaryDirectory() as folder:
            callbacks = [ProgressBar(True), Recorder(Path(folder), trained, 2, 1000)]
            options = {"max_epochs": 1, "limit_val_batches": 0}
            deterministic = self.recipe.deterministic
            precision = self.recipe.precision
            trainer = build.build_trainer(team, Path(folder), precision, callbacks, deterministic, **options)
            trainer.fit(self.classifier, datamodule=self.data)
        return self.images / self.classifier.seconds


class _Transformed(Dataset[tuple[torch.Tensor, int]]):
    """What torchvision's CIFAR-10 is: an image becomes a picture, is transformed, and then a tensor, one at a time."""

    def __init__(self, split: ImageSet) -> None:
        self.pixels = split.images.movedim(1, -1).numpy()
        self.labels = split.labels.tolist()
        cut = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
        self.transform = transforms.Compose([*cut, transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.25] * 3)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


class _Usual:
    """The loop of a tutorial, in the same arithmetic: a DataLoader with workers, pinned memory, SGD."""

    def __init__(self, model: str, split: ImageSet, batch_size: int, device: torch.device) -> None:
        self.device = device
        self.workers = min(available_cores(), 16) if device.type == "cuda" else 0
        self.loader = DataLoader(
            _Transformed(split),
            batch_size,
            shuffle=True,
            num_workers=self.workers,
            pin_memory=device.type == "cuda",
            persistent_workers=self.workers > 0,
        )
        self.network = _network(model, device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.05, momentum=0.9)

    def rate(self) -> float:
        """Images per second of one epoch; what a trainer before it asked of the device is undone."""
        _fastest_algorithms()
        started = _time(self.device)
        for images, labels in self.loader:
            here = images.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)
            _step(self.network, self.optimizer, here, labels.to(self.device, non_blocking=True))
        return len(cast(_Transformed, self.loader.dataset)) / (_time(self.device) - started)


class _Plain:
    """The fastest plain loop that we know: compiled, channels last, bfloat16, a fused optimiser, one batch."""

    def __init__(self, sizes: Sizes, device: torch.device) -> None:
        self.sizes, self.device = sizes, device
        self.network = _network(sizes.large, device).to(memory_format=torch.channels_last)
        if sizes.compiled:
            self.network.compile()
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.05, momentum=0.9, fused=True)
        images = torch.rand(sizes.batch, 3, sizes.pixels, sizes.pixels, device=device)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels = torch.arange(sizes.batch, device=device) % 10

    def rate(self) -> float:
        """Images per second of as many steps as our epoch has."""
        _fastest_algorithms()
        started = _time(self.device)
        for _ in range(self.sizes.steps):
            _step(self.network, self.optimizer, self.images, self.labels)
        return self.sizes.steps * self.sizes.batch / (_time(self.device) - started)


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor) -> None:
    with torch.autocast(images.device.type, torch.bfloat16):
        loss = F.cross_entropy(network(images), labels)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _bound(sizes: Sizes, device: torch.device) -> dict[str, float]:
    """Images per second that a compiled training step cannot pass, by this device's arithmetic and memory.

    Bytes: `PASSES` over the outputs of all convolutions in 16 bits, and the optimiser's. Operations: three times those
    of the forward pass, without the gradient for the image itself.
    """
    network = _network(sizes.large, torch.device("cpu"))
    outputs, first = _convolution_outputs(network, sizes.pixels)
    operations = 6 * multiply_adds(network, 3, sizes.pixels) - 2 * first
    parameters = sum(parameter.numel() for parameter in network.parameters())
    moved = outputs * 2 * PASSES + OPTIMISER_BYTES * parameters / sizes.batch
    memory, arithmetic = _bytes_per_second(sizes.copied, device), _operations_per_second(sizes.matrix, device)
    return {
        "bytes_per_image": moved,
        "operations_per_image": operations,
        "bytes_per_second": memory,
        "operations_per_second": arithmetic,
        "images_per_second": min(memory / moved, arithmetic / operations),
    }


def _convolution_outputs(network: nn.Module, pixels: int) -> tuple[int, int]:
    """Numbers that all convolutions give for an image, and the multiply-adds of the first."""
    sizes: list[tuple[int, int]] = []

    def note(layer: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        weight = cast(nn.Conv2d, layer).weight
        sizes.append((output.numel(), output.numel() * weight[0].numel()))

    hooks = [layer.register_forward_hook(note) for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, pixels, pixels))
    for hook in hooks:
        hook.remove()
    return sum(size for size, _ in sizes), sizes[0][1]


def _bytes_per_second(size: int, device: torch.device) -> float:
    """What a copy within the device's memory reads and writes."""
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / _seconds(lambda: target.copy_(source), device)


def _operations_per_second(side: int, device: torch.device) -> float:
    """Of a product of two square matrices in bfloat16; a multiply-add is two."""
    matrix = torch.randn(side, side, dtype=torch.bfloat16, device=device)
    return 2 * side**3 / _seconds(lambda: matrix @ matrix, device)


def _seconds(action: Callable[[], object], device: torch.device) -> float:
    """The fastest of ten, after one that warms up: a bound is what the device can do."""
    action()
    times = []
    for _ in range(10):
        started = _time(device)
        action()
        times.append(_time(device) - started)
    return min(times)


def _random_split(images: int, size: int) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, size, size), dtype=torch.uint8, generator=generator)
    return ImageSet(pixels, torch.arange(images) % 10, range(images))  # type: ignore[arg-type]  # names are never asked for


def _network(model: str, device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    return build_model(model).to(device)


def _fastest_algorithms() -> None:
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = True


def _medians(rates: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: median(values) for name, values in rates.items()}


def _device(accelerator: str) -> torch.device:
    return torch.device("cuda" if accelerator == "gpu" else "cpu")


def _time(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
