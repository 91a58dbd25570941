"""Write a network to ONNX in 8-bit integers, and refuse it if its answers may have become worse.

The scales of each layer's inputs come from training pictures, those of the weights from each output channel. What it
costs is measured on the test split: the images that one of the two networks alone has wrong.
"""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
import torch

from harness.config.data import DataConfig
from harness.config.weights import beside
from harness.data.sources.splits import Split
from harness.data.sources.table import load, load_test
from harness.errors import UserError
from harness.evaluation.intervals import paired_difference
from harness.export.endings import check_out
from harness.export.formats import FORMATS, Runnable
from harness.prediction.network import Loaded
from harness.prediction.own_data import batches_of
from harness.run.files import atomic, write_json

CALIBRATION = 256  # training pictures, evenly spread over the split
BATCH = 16
MOST_LOST = 0.5  # percent points of top-1 error that may be lost, by the upper end of the interval
ROUNDS = 5  # of both files in turns, to compare their speed

Floats = npt.NDArray[np.float32]


class WorseError(Exception):
    """The network in integers may answer worse than is allowed; nothing was written."""


@dataclass(frozen=True)
class Int8:
    """What a network in integers is like, beside the same in floats.

    Attributes:
        data: name of the data set.
        calibration_images: number of training pictures that gave the scales.
        test_images: number of images of the test split that could be read.
        top1_error: of the network in integers, in percent.
        float_top1_error: of the network in floats, in percent.
        lost: number of images that the integers alone have wrong.
        gained: number of images that the floats alone have wrong.
        loss_interval_95: of the difference of the errors, in percent points.
        file_bytes: size of the file.
        float_file_bytes: size of the file in floats.
        images_per_second: of both, `int8` and `float32`, in batches of `BATCH`, in onnxruntime on this machine.
        speed_ratio: median over rounds of integers over floats, the lowest, and the highest.
        threads: number of threads of both.
    """

    data: str
    calibration_images: int
    test_images: int
    top1_error: float
    float_top1_error: float
    lost: int
    gained: int
    loss_interval_95: tuple[float, float]
    file_bytes: int
    float_file_bytes: int
    images_per_second: dict[str, float]
    speed_ratio: tuple[float, float, float]
    threads: int

    @property
    def allowed(self) -> bool:
        """Whether so little is lost, and so many images say so, that the file may be used."""
        return self.loss_interval_95[1] < MOST_LOST

    def __str__(self) -> str:
        (low, high), loss = self.loss_interval_95, self.top1_error - self.float_top1_error
        return (
            f"int8 has {self.top1_error:.2f}% wrong and float32 {self.float_top1_error:.2f}% of {self.test_images:,} "
            f"test images: {self.lost} lost, {self.gained} gained, {loss:+.2f} points "
            f"(95% interval {low:+.2f} to {high:+.2f})"
        )


def export_int8(loaded: Loaded, data: DataConfig, out: Path, force: bool) -> Int8:
    """Write a network in integers, and its record beside it.

    Args:
        loaded: the network, on the CPU.
        data: settings of the data that it was trained on.
        out: a new file that ends in .onnx.
        force: whether it is written however much is lost.

    Raises:
        UserError: the file exists, a package is missing, or the data cannot be read.
        WorseError: more than `MOST_LOST` points may be lost; nothing was written.
    """
    check_out(out, "onnx")
    if beside(out).exists():
        raise UserError(f"out={out}: {beside(out)}, where its record goes, exists; name a new file")
    training, test = load(data).train, load_test(data)
    chosen = np.unique(np.linspace(0, len(training) - 1, min(CALIBRATION, len(training))).astype(np.int64))
    content = FORMATS["onnx"].write(loaded)
    with tempfile.TemporaryDirectory() as place:
        floats = Path(place, "float32.onnx")
        floats.write_bytes(content)
        integers = _quantised(floats, _images(loaded, training.subset(chosen), data))
        measured = _measured(loaded, test, data, {"int8": integers, "float32": floats}, len(chosen))
        if not (measured.allowed or force):
            raise WorseError(
                f"{measured}; the upper end has to be below {MOST_LOST} points"
                + (
                    ""
                    if measured.lost > measured.gained
                    else f", for which {measured.test_images:,} images are too few"
                )
                + "; force=true writes it anyway"
            )
        with atomic(out) as file:
            file.write(integers.read_bytes())
    write_json(beside(out), {"format": "onnx int8", **asdict(measured), "forced": force and not measured.allowed})
    return measured


def _images(loaded: Loaded, split: Split, data: DataConfig) -> Iterator[Floats]:
    for batch in batches_of(loaded, split, data, BATCH):
        if len(batch.labels):
            yield batch.images.numpy()


def _quantised(floats: Path, images: Iterator[Floats]) -> Path:
    """Return the file of the network in integers, in the folder of the one in floats."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quant_pre_process,
        quantize_static,
    )

    class Calibration(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def get_next(self) -> dict[str, Floats] | None:
            batch = next(images, None)
            return None if batch is None else {"images": batch}

    prepared, integers = floats.with_name("prepared.onnx"), floats.with_name("int8.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quant_pre_process(floats, prepared, skip_symbolic_shape=True)  # the size of a batch is a symbol
        quantize_static(
            prepared,
            integers,
            Calibration(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    return integers


def _measured(loaded: Loaded, test: Split, data: DataConfig, files: dict[str, Path], calibration: int) -> Int8:
    runs = {name: FORMATS["onnx"].run(path, loaded) for name, path in files.items()}
    right = {name: [torch.zeros(0, dtype=torch.bool)] for name in runs}
    first: torch.Tensor | None = None
    for batch in batches_of(loaded, test, data, BATCH):
        if len(batch.labels):
            first = batch.images if first is None else first
            for name, run in runs.items():
                right[name].append(run(batch.images).argmax(1) == batch.labels)
    if first is None:
        raise UserError(f"data={data.name}: no image of the test split can be read")
    int8, float32 = (torch.cat(right[name]) for name in ("int8", "float32"))
    lost, gained, images = int((float32 & ~int8).sum()), int((int8 & ~float32).sum()), len(int8)
    rates = _rates(runs, first)
    ratios = [a / b for a, b in zip(rates["int8"], rates["float32"], strict=True)]
    return Int8(
        data=data.name,
        calibration_images=calibration,
        test_images=images,
        top1_error=100 * int((~int8).sum()) / images,
        float_top1_error=100 * int((~float32).sum()) / images,
        lost=lost,
        gained=gained,
        loss_interval_95=paired_difference(lost, gained, images),
        file_bytes=files["int8"].stat().st_size,
        float_file_bytes=files["float32"].stat().st_size,
        images_per_second={name: median(values) for name, values in rates.items()},
        speed_ratio=(median(ratios), min(ratios), max(ratios)),
        threads=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    )


def _rates(runs: dict[str, Runnable], images: torch.Tensor) -> dict[str, list[float]]:
    """Images per second of each, in turns, after a round that is thrown away."""
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS + 1):
        for name, run in runs.items():
            started, done = time.perf_counter(), 0
            while (seconds := time.perf_counter() - started) < 0.2:
                run(images)
                done += len(images)
            rates[name].append(done / seconds)
    return {name: values[1:] for name, values in rates.items()}
