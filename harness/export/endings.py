"""The names of the formats and the endings of their files. It imports without torch."""

from __future__ import annotations

from pathlib import Path

from harness.config.weights import beside
from harness.errors import UserError

ENDINGS = {"safetensors": ".safetensors", "torch_export": ".pt2", "onnx": ".onnx", "torchvision": ".pth"}
BESIDE = ("torchvision",)  # their files can hold tensors alone: the description of the network is a file beside them


def check_out(out: Path, format_name: str) -> None:
    """Raise `UserError` unless the file can be made: the right ending, a folder, and nothing there or beside it."""
    if out.suffix != ENDINGS[format_name]:
        raise UserError(f"out={out}: files of format={format_name} end in {ENDINGS[format_name]}")
    if not out.parent.is_dir():
        raise UserError(f"out={out}: there is no folder {out.parent}")
    for path in (out, *([beside(out)] if format_name in BESIDE else [])):
        if path.exists():
            raise UserError(f"out={out}: {path} exists; name a new file")
