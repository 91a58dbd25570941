"""Check that tensors hold numbers that a network can take: dense, with values, of its kind, and finite."""

from __future__ import annotations

from typing import Any

import torch

from harness.errors import UserError
from harness.weights.convert import COUNTER, Tensors


def check_kinds(tensors: Tensors, where: object) -> None:
    """Raise `UserError` if a tensor is sparse, quantised or complex, or has no values."""
    for key, value in tensors.items():
        problem = _kind(value)
        if problem is not None:
            raise UserError(f"{where}: {key} {problem}")


def check_values(tensors: Tensors, own: Tensors, where: str) -> None:
    """Raise `UserError` if a tensor cannot take the place of a network's own one of the same key and shape."""
    check_kinds(tensors, where)
    for key, value in tensors.items():
        mine = own[key]
        if value.is_floating_point() != mine.is_floating_point():
            raise UserError(
                f"{where}: {key} holds {_name(value)} where the network has {_name(mine)}; save it as {_name(mine)}"
            )
        if value.is_floating_point() and not value.to(mine.dtype).isfinite().all():
            raise UserError(f"{where}: {key} has numbers that are not finite; use another file")
        if not value.is_floating_point() and not key.endswith(COUNTER) and not torch.equal(value, mine):
            raise UserError(f"{where}: {key} is not the network's, whose connections are fixed; use another file")


def _kind(value: Any) -> str | None:
    """Say what is odd about a tensor, and what to do; None for a usual one."""
    if not isinstance(value, torch.Tensor):
        return f"is no tensor but {type(value).__name__}; use another file"
    if value.is_meta:
        return "is on the device meta, where tensors have no values; save the network after it has got its weights"
    if value.is_quantized:
        return "is quantised; save it with .dequantize()"
    if value.layout is not torch.strided or value.is_nested:
        return "is sparse or nested; save it with .to_dense()"
    if value.is_complex():
        return "holds complex numbers; use another file"
    return None


def _name(value: torch.Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")
