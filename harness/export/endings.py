"""The names of the formats and the endings of their files; importable without torch."""

from __future__ import annotations

from pathlib import Path

from harness.config.weights import beside
from harness.errors import UserError

ENDINGS = {"safetensors": ".safetensors", "torch_export": ".pt2", "onnx": ".onnx", "torchvision": ".pth"}
BESIDE = ("torchvision",)  # whose files can hold nothing but numbers: what is known stands in a file beside them


def check_out(out: Path, format_name: str) -> None:
    """Raise `UserError` if the file, or the one beside it, exists already or cannot be written there."""
    if out.suffix != ENDINGS[format_name]:
        raise UserError(f"out={out}: files of format={format_name} end in {ENDINGS[format_name]}")
    if not out.parent.is_dir():
        raise UserError(f"out={out}: there is no folder {out.parent}")
    for path in (out, *([beside(out)] if format_name in BESIDE else [])):
        if path.exists():
            raise UserError(f"out={out}: {path} exists; name a new file")
