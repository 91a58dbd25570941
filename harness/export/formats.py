"""The formats of other programs: how a network is written, and how its file runs in the format's own runtime.

Every file maps float32 images (N, C, H, W), normalised, to logits (N, K), for any N. Class names, preprocessing and
what else is known of the network go along as JSON, under the key `cnn_zoo` or in a file of its own.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from harness.errors import UserError
from harness.prediction.network import Loaded
from harness.run.checkpoint import KEY, read_content
from harness.weights.convert import under_our_keys, under_torchvisions_keys
from harness.weights.diagnosis import skeleton

Runnable = Callable[[torch.Tensor], torch.Tensor]
EXTRA_FILE = f"{KEY}.json"  # in a .pt2 archive
EXAMPLES = 3  # images of the batch that is traced: torch takes a size of 1 for a constant


@dataclass(frozen=True)
class Format:
    """How a format is written and read back.

    Attributes:
        write: returns the content of a file.
        run: reads a file back in the format's own runtime; returns a function from images to logits.
        tolerance: the largest difference from the network's logits that is allowed, as a fraction of the largest logit;
            0 demands equal numbers.
    """

    write: Callable[[Loaded], bytes]
    run: Callable[[Path, Loaded], Runnable]
    tolerance: float


def _write_safetensors(loaded: Loaded) -> bytes:
    from safetensors.torch import save

    tensors = {key: value.contiguous() for key, value in loaded.network.state_dict().items()}
    return save(tensors, {KEY: loaded.trained.described(), "format": "pt"})


def _run_safetensors(path: Path, loaded: Loaded) -> Runnable:
    from safetensors.torch import load_file

    return _with_tensors(loaded, load_file(path))


def _write_torchvision(loaded: Loaded) -> bytes:
    content, model = io.BytesIO(), loaded.trained.model
    standard = {key: value.shape for key, value in skeleton(model).state_dict().items()}
    torch.save(under_torchvisions_keys(model, loaded.network.state_dict(), standard), content)
    return content.getvalue()


def _run_torchvision(path: Path, loaded: Loaded) -> Runnable:
    shapes = {key: value.shape for key, value in loaded.network.state_dict().items()}
    tensors, unexpected = under_our_keys(loaded.trained.model, read_content(path), shapes)
    if unexpected:
        raise RuntimeError(f"{path.name}: {loaded.trained.model} has no tensors {', '.join(unexpected[:3])}")
    return _with_tensors(loaded, tensors)


def _with_tensors(loaded: Loaded, tensors: dict[str, torch.Tensor]) -> nn.Module:
    """Build a fresh network with the tensors of a file, all of them."""
    network = loaded.fresh()
    network.load_state_dict(tensors)
    return network


def _program(loaded: Loaded) -> torch.export.ExportedProgram:
    expected = loaded.trained.preprocessing
    images = torch.zeros(EXAMPLES, expected.channels, expected.size, expected.size)
    batch = torch.export.Dim("batch", min=1)
    return torch.export.export(loaded.network, (images,), dynamic_shapes=({0: batch},))


def _write_torch_export(loaded: Loaded) -> bytes:
    content = io.BytesIO()
    torch.export.save(_program(loaded), content, extra_files={EXTRA_FILE: loaded.trained.described()})
    return content.getvalue()


def _run_torch_export(path: Path, loaded: Loaded) -> Runnable:
    with path.open("rb") as file:
        return torch.export.load(io.BytesIO(file.read())).module()


def _write_onnx(loaded: Loaded) -> bytes:
    _need_onnx()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecations inside of the exporter
        program = torch.onnx.export(
            _program(loaded),
            input_names=["images"],
            output_names=["logits"],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    entry = proto.metadata_props.add()
    entry.key, entry.value = KEY, loaded.trained.described()
    content: bytes = proto.SerializeToString()
    return content


def _run_onnx(path: Path, loaded: Loaded) -> Runnable:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def _need_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"format=onnx needs {error.name}: pip install 'cnn-zoo[export]'") from error


FORMATS = {
    "safetensors": Format(_write_safetensors, _run_safetensors, 0.0),
    "torch_export": Format(_write_torch_export, _run_torch_export, 1e-5),
    "onnx": Format(_write_onnx, _run_onnx, 1e-4),
    "torchvision": Format(_write_torchvision, _run_torchvision, 0.0),
}
