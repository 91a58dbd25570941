"""The theoretical receptive field: which pixels a unit of a feature map can depend on, by the network's windows alone.

The windows of convolutions and pooling are followed from the unit back to the image, along every path; where paths
meet, such as a residual block and its shortcut, the field is the smallest rectangle around what they reach. Channels,
weights and the content of the image play no part.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
import torch.fx
import torch.nn.functional as F
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata


class Span(NamedTuple):
    """Neighbouring rows or columns, from the first to the last; both count."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """The number of rows or columns."""
        return self.last - self.first + 1

    def inside(self, size: int) -> Span:
        """The part that lies on an image of this many rows or columns."""
        return Span(max(self.first, 0), min(self.last, size - 1))

    def under(self, window: int, stride: int, padding: int) -> Span:
        """The inputs of the windows whose outputs are these."""
        return Span(self.first * stride - padding, self.last * stride - padding + window - 1)

    def around(self, other: Span) -> Span:
        """The smallest span around both."""
        return Span(min(self.first, other.first), max(self.last, other.last))


@dataclass(frozen=True)
class Field:
    """A rectangle of pixels; its rows and columns may lie beyond the edges of the image, where there is padding."""

    rows: Span
    columns: Span

    def inside(self, height: int, width: int) -> Field:
        """The part that lies on an image."""
        return Field(self.rows.inside(height), self.columns.inside(width))

    def around(self, other: Field) -> Field:
        """The smallest rectangle around both."""
        return Field(self.rows.around(other.rows), self.columns.around(other.columns))


def receptive_field(network: nn.Module, images: torch.Tensor, stage: str, row: int, column: int) -> Field:
    """Find the pixels that the unit at one place of a stage's maps can depend on; see `receptive_fields`."""
    return receptive_fields(network, images, stage, [(row, column)])[0]


def receptive_fields(
    network: nn.Module, images: torch.Tensor, stage: str, places: Sequence[tuple[int, int]]
) -> list[Field]:
    """Find the pixels that units of a stage can depend on.

    Args:
        network: of the zoo.
        images: (1, C, H, W); only their shape counts. They may lie on the meta device, if the network does.
        stage: a stage that gives feature maps, by its name in the network.
        places: row and column of each unit in its map; the field is the same in every map.

    Raises:
        KeyError: no such stage.
        NotImplementedError: a layer whose windows are not known here.
    """
    traced = fx.symbolic_trace(network)
    with torch.no_grad():
        ShapeProp(traced).propagate(images)
    nodes = [node for node in traced.graph.nodes if next(iter(node.meta.get("nn_module_stack", ())), None) == stage]
    if not nodes:
        raise KeyError(stage)
    return [_image_field(traced, nodes[-1], Field(Span(row, row), Span(column, column))) for row, column in places]


def _image_field(traced: fx.GraphModule, start: fx.Node, unit: Field) -> Field:
    """Follow a unit of a node back to the image."""
    fields = {start: unit}
    for node in reversed(traced.graph.nodes):
        if node in fields:
            for source in node.all_input_nodes:
                if len(_shape(source)) >= 4:  # the others are weights
                    reached = _under(traced, node, source, fields[node])
                    fields[source] = fields[source].around(reached) if source in fields else reached
    (image,) = (node for node in traced.graph.nodes if node.op == "placeholder")
    return fields[image]


def _shape(node: fx.Node) -> tuple[int, ...]:
    """The shape of a node's value; of several tensors, such as those of a split, that of the first."""
    known = node.meta.get("tensor_meta", ())
    first = known[0] if known and not isinstance(known, TensorMetadata) else known
    return tuple(first.shape) if isinstance(first, TensorMetadata) else ()


def _under(traced: fx.GraphModule, node: fx.Node, source: fx.Node, field: Field) -> Field:
    """The part of a node's input that a field of its output depends on."""
    windows = _windows(traced, node)
    if windows is not None:
        (rows, columns) = windows
        return Field(field.rows.under(*rows), field.columns.under(*columns))
    if node.target is operator.getitem and isinstance(node.args[1], tuple):
        by_row, by_column = (index.step or 1 for index in node.args[1][-2:] if isinstance(index, slice))
        return Field(field.rows.under(1, int(by_row), 0), field.columns.under(1, int(by_column), 0))
    if node.target is F.pad:
        left, _, top, *_ = cast(tuple[int, ...], node.args[1])
        return Field(field.rows.under(1, 1, top), field.columns.under(1, 1, left))
    if _shape(node)[-2:] != _shape(source)[-2:]:
        # A network from elsewhere; a test has every network of the zoo.
        raise NotImplementedError(f"{node.format_node()}: the windows of this layer are not known")
    return field


Window = tuple[int, int, int]  # pixels, stride, padding


def _windows(traced: fx.GraphModule, node: fx.Node) -> tuple[Window, Window] | None:
    """The window of a convolution or of pooling along rows and along columns; None for anything else."""
    if node.op == "call_module":
        layer = traced.get_submodule(str(node.target))
        if isinstance(layer, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
            return _by_axis(layer.kernel_size, layer.stride, layer.padding)
    elif node.target is F.conv2d:
        weight = node.args[1]
        assert isinstance(weight, fx.Node)
        return _by_axis(_shape(weight)[-2:], node.kwargs.get("stride", 1), node.kwargs.get("padding", 0))
    elif node.target is F.avg_pool2d:
        return _by_axis(node.args[1], node.kwargs.get("stride", node.args[1]), node.kwargs.get("padding", 0))
    return None


def _by_axis(*values: Any) -> tuple[Window, Window]:
    """Window, stride and padding, each one number or two, along rows and along columns."""
    pairs = [value if isinstance(value, tuple) else (value, value) for value in values]
    rows, columns = zip(*pairs, strict=True)
    return rows, columns
