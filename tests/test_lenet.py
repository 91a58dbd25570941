"""LeNet: the network of 1998 against a list of its connections, and every choice that the file's docstring names."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
import torch.fx
import torch.nn.functional as F
from torch import nn

from harness.config import recipe
from harness.training.losses import LOSSES, lecun_map, lecun_mle
from models import build_model
from models.lenet import LeNet5, LeNet1998, PartialConvolution, RadialBasis, SubSampling, squash

# LeCun 1998, Table I, column by column: the maps of S2 that each map of C3 sees. models/lenet.py has it row by row.
SEEN_BY_C3 = [
    *([0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [0, 4, 5], [0, 1, 5]),
    *([0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [0, 3, 4, 5], [0, 1, 4, 5], [0, 1, 2, 5]),
    *([0, 1, 3, 4], [1, 2, 4, 5], [0, 2, 3, 5]),
    [0, 1, 2, 3, 4, 5],
]
# LeCun 1989, Table 1, column by column, counted from 0
SEEN_BY_H3 = [[0], [0, 1], [0, 1], [1], [0, 1], [0, 1], [2], [2, 3], [2, 3], [3], [2, 3], [2, 3]]

# LeCun 1998, section II-B: trainable parameters and connections of each layer
PARAMETERS_1998 = {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164, "output": 0}
CONNECTIONS_1998 = {
    "c1": 122_304,
    "s2": 5_880,
    "c3": 151_600,
    "s4": 2_000,
    "c5": 48_120,
    "f6": 10_164,
    "output": 840,
}


@dataclass
class ConnectionList:
    """LeNet-5 without arrays: a unit is a list of (source unit, parameter) and sums state times parameter over it.

    Unit 0 is the constant 1 that biases come from; units 1 to 1,024 are the pixels.
    """

    units: dict[str, list[list[tuple[int, int]]]] = field(default_factory=dict)
    first_unit: dict[str, int] = field(default_factory=lambda: {"input": 1})
    first_parameter: dict[str, int] = field(default_factory=dict)
    unit_count: int = 1 + 32 * 32
    parameter_count: int = 0

    def layer(self, name: str, parameters: dict[str, int], units: list[list[tuple[int, str, int]]]) -> None:
        """Add a layer: the sizes of its parameters, and each unit's connections (source, parameter, index in it)."""
        for parameter, size in parameters.items():
            self.first_parameter[f"{name}.{parameter}"] = self.parameter_count
            self.parameter_count += size
        self.units[name] = [
            [(source, self.first_parameter[f"{name}.{parameter}"] + index) for source, parameter, index in unit]
            for unit in units
        ]
        self.first_unit[name] = self.unit_count
        self.unit_count += len(units)

    def convolution(self, name: str, below: str, side: int, seen: list[list[int]], row_by_row: bool = False) -> None:
        """5x5 on maps of `side` pixels; kernels are stored map by map, or seen map by seen map (row by row)."""
        first, out = self.first_unit[below], side - 4
        crosses = sorted(
            ((m, s) for m in range(len(seen)) for s in seen[m]), key=lambda c: c[::-1] if row_by_row else c
        )
        kernel = {cross: number for number, cross in enumerate(crosses)}
        units = [
            [
                (first + (s * side + y + i) * side + x + j, "weight", (kernel[m, s] * 5 + i) * 5 + j)
                for s in seen[m]
                for i in range(5)
                for j in range(5)
            ]
            + [(0, "bias", m)]
            for m in range(len(seen))
            for y in range(out)
            for x in range(out)
        ]
        self.layer(name, {"weight": sum(map(len, seen)) * 25, "bias": len(seen)}, units)

    def sub_sampling(self, name: str, below: str, side: int, maps: int) -> None:
        first, out = self.first_unit[below], side // 2
        units = [
            [(first + (m * side + 2 * y + i) * side + 2 * x + j, "coefficient", m) for i in range(2) for j in range(2)]
            + [(0, "bias", m)]
            for m in range(maps)
            for y in range(out)
            for x in range(out)
        ]
        self.layer(name, {"coefficient": maps, "bias": maps}, units)

    def full(self, name: str, below: str, inputs: int, outputs: int) -> None:
        first = self.first_unit[below]
        units = [
            [(first + i, "weight", unit * inputs + i) for i in range(inputs)] + [(0, "bias", unit)]
            for unit in range(outputs)
        ]
        self.layer(name, {"weight": inputs * outputs, "bias": outputs}, units)

    def forward(self, pixels: list[float], parameters: list[float]) -> list[float]:
        """The state of every unit up to F6."""
        state = [1.0, *pixels]
        for units in self.units.values():
            for unit in units:
                a = sum(state[source] * parameters[parameter] for source, parameter in unit)
                state.append(1.7159 * math.tanh(2 / 3 * a))
        return state

    def backward(
        self, state: list[float], parameters: list[float], by_f6: list[float]
    ) -> tuple[list[float], list[float]]:
        """Gradients by the pixels and by the parameters, given those by the states of F6."""
        by_state = [0.0] * self.unit_count
        by_parameter = [0.0] * self.parameter_count
        by_state[-len(by_f6) :] = by_f6
        for name in reversed(self.units):
            for number, unit in enumerate(self.units[name], start=self.first_unit[name]):
                # f(a) = A tanh(S a) has the slope A S (1 - tanh^2) = S (A - f^2 / A)
                by_sum = by_state[number] * 2 / 3 * (1.7159 - state[number] ** 2 / 1.7159)
                for source, parameter in unit:
                    by_parameter[parameter] += by_sum * state[source]
                    by_state[source] += by_sum * parameters[parameter]
        return by_state[1 : 1 + 32 * 32], by_parameter


@pytest.fixture(scope="module")
def connection_list() -> ConnectionList:
    net = ConnectionList()
    net.convolution("c1", "input", 32, [[0]] * 6)
    net.sub_sampling("s2", "c1", 28, 6)
    net.convolution("c3", "s2", 14, SEEN_BY_C3, row_by_row=True)
    net.sub_sampling("s4", "c3", 10, 16)
    net.convolution("c5", "s4", 5, [list(range(16))] * 120)
    net.full("f6", "c5", 120, 84)
    return net


def paper_net(seed: int = 0) -> LeNet1998:
    torch.manual_seed(seed)
    network = build_model("lenet5_1998")
    assert isinstance(network, LeNet1998)
    return network


def test_1998_equals_the_list_of_its_connections(connection_list: ConnectionList) -> None:
    network = paper_net().double()
    image = torch.rand(1, 1, 32, 32, dtype=torch.float64, requires_grad=True)
    weigh = torch.randn(10, dtype=torch.float64)  # the gradient is that of this sum of the logits
    logits = network(image)[0]
    (logits * weigh).sum().backward()

    named = dict(network.named_parameters())
    assert list(connection_list.first_parameter) == list(named)
    parameters = [value for parameter in named.values() for value in parameter.flatten().tolist()]
    state = connection_list.forward(image.flatten().tolist(), parameters)
    f6, codes = state[-84:], network.output.codes.tolist()
    assert logits.tolist() == pytest.approx(
        [-sum((x - w) ** 2 for x, w in zip(f6, code, strict=True)) for code in codes], rel=1e-12
    )
    by_f6 = [sum(-2 * float(weigh[k]) * (f6[j] - codes[k][j]) for k in range(10)) for j in range(84)]
    by_pixel, by_parameter = connection_list.backward(state, parameters, by_f6)
    assert image.grad is not None
    assert image.grad.flatten().tolist() == pytest.approx(by_pixel, rel=1e-9, abs=1e-11)
    ours = [value for parameter in named.values() for value in parameter.grad.flatten().tolist()]  # type: ignore[union-attr]
    assert ours == pytest.approx(by_parameter, rel=1e-9, abs=1e-11)
    assert all(by_parameter)  # so that no comparison above was of zero with zero


def test_list_of_connections_counts_as_the_paper(connection_list: ConnectionList) -> None:
    assert {name: sum(map(len, units)) for name, units in connection_list.units.items()} | {
        "output": 10 * 84
    } == CONNECTIONS_1998
    used = {name: len({p for unit in units for _, p in unit}) for name, units in connection_list.units.items()}
    assert used | {"output": 0} == PARAMETERS_1998


def connections(network: nn.Module, side: int) -> dict[str, int]:
    """Each layer on inputs, weights and biases that are all one: a unit's output is the number of its connections."""
    network = network.double().eval()
    counts = {}
    for name, layer in network.named_children():

        def count(
            layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor, name: str = name
        ) -> torch.Tensor:
            if name not in counts:
                counts[name] = 0  # the call below comes here again
                counts[name] = int(layer(torch.ones_like(inputs[0])).abs().sum())
            return output

        layer.register_forward_hook(count)
    with torch.no_grad():
        for value in (*network.parameters(), *(b for b in network.buffers() if b.is_floating_point())):
            value.fill_(1.0)
        if isinstance(network, LeNet1998):
            network.output.codes.fill_(0.0)  # (1 - 0)^2 is one
        network(torch.rand(1, 1, side, side, dtype=torch.float64))
    return counts


def test_1998_has_the_papers_connections_and_parameters() -> None:
    network = paper_net()
    assert {n: sum(p.numel() for p in layer.parameters()) for n, layer in network.named_children()} == PARAMETERS_1998
    assert connections(network, 32) == CONNECTIONS_1998
    assert (sum(PARAMETERS_1998.values()), sum(CONNECTIONS_1998.values())) == (60_000, 340_908)


def test_lenet1_has_the_connections_of_1989_and_lenet4_about_those_of_1998() -> None:
    counts = connections(build_model("lenet1"), 28)
    assert counts == {"c1": 59_904, "s2": 2_880, "c3": 32_768, "s4": 960, "output": 1_930}
    assert sum(counts.values()) == 98_442  # LeCun 1989
    network = build_model("lenet4")
    assert sum(p.numel() for p in network.get_submodule("f5").parameters()) == 48_120  # so not 17,000 in all
    assert sum(connections(network, 32).values()) == 262_306  # LeCun 1998: about 260,000


def maps_seen_by(c3: nn.Module, input_maps: int) -> list[list[int]]:
    """For each output map the input maps that change it."""
    x = torch.randn(1, input_maps, 5, 5)
    moved = []
    for s in range(input_maps):
        changed = x.clone()
        changed[:, s] += 1
        moved.append((c3(changed) != c3(x)).flatten().tolist())
    return [[s for s in range(input_maps) if moved[s][m]] for m in range(len(moved[0]))]


@pytest.mark.parametrize(("name", "maps", "seen"), [("lenet5_1998", 6, SEEN_BY_C3), ("lenet1", 4, SEEN_BY_H3)])
def test_c3_sees_the_maps_of_the_papers_table(name: str, maps: int, seen: list[list[int]]) -> None:
    c3 = build_model(name).get_submodule("c3")
    assert sum(p.numel() for p in c3.parameters()) == sum(map(len, seen)) * 25 + len(seen)
    assert maps_seen_by(c3, maps) == seen


def test_lenet4_joins_its_maps_as_the_docstring_says() -> None:
    network = build_model("lenet4")
    table = maps_seen_by(network.get_submodule("c3"), 8)
    assert {len(subset) for subset in table} == {3}
    assert len({tuple(subset) for subset in table}) == 16  # no two alike
    assert [sum(s in subset for subset in table) for s in range(8)] == [6] * 8
    seen: list[torch.Tensor] = []
    network.get_submodule("s2").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(torch.rand(1, 1, 32, 32))
    assert torch.equal(seen[0][:, 0::2], seen[0][:, 1::2])  # two maps of S2 for each of C1


def test_sub_sampling_adds_four_pixels_and_is_trainable() -> None:
    layer = SubSampling(2)
    with torch.no_grad():
        layer.coefficient.copy_(torch.tensor([0.5, -1.0]))
        layer.bias.copy_(torch.tensor([0.25, 0.0]))
    out = layer(torch.arange(8.0).reshape(1, 2, 2, 2))  # sums 6 and 22
    assert out.flatten().tolist() == [3.25, -22.0]


def test_squashing_function() -> None:
    a = torch.tensor([-1.0, 0.0, 1.0, 100.0], dtype=torch.float64)
    assert squash(a).tolist() == pytest.approx([-1.0, 0.0, 1.0, 1.7159], abs=1e-4)
    zero = torch.zeros((), requires_grad=True)
    assert torch.autograd.grad(squash(zero), zero)[0].item() == pytest.approx(1.7159 * 2 / 3)


def test_codes_are_fixed_bitmaps_of_the_ten_digits() -> None:
    network = paper_net()
    codes = network.output.codes
    assert codes.shape == (10, 7 * 12)
    assert set(codes.flatten().tolist()) == {-1.0, 1.0}
    assert list(network.output.parameters()) == []
    assert "output.codes" in network.state_dict()
    apart = torch.cdist(codes, codes).square() / 4  # pixels that differ
    assert apart[~torch.eye(10, dtype=torch.bool)].min() >= 8
    picture = ["".join(".#"[int(p > 0)] for p in row) for row in codes[4].view(12, 7)]
    assert picture == [
        ".....#.",
        "....##.",
        "...#.#.",
        "...#.#.",
        "..#..#.",
        ".#...#.",
        ".#...#.",
        "#....#.",
        "#######",
        ".....#.",
        ".....#.",
        ".....#.",
    ]
    ink = (codes > 0).view(10, 12, 7)
    assert torch.equal(ink[0], ink[0].flip(1)) and torch.equal(ink[8], ink[8].flip(1))  # left is right
    assert torch.equal(ink[0], ink[0].flip(0))


def test_logits_are_minus_the_squared_distance() -> None:
    output = RadialBasis()
    states = output.codes + 0.5  # at a distance of 84 / 4 from the right code
    logits = output(states)
    assert torch.equal(logits.argmax(1), torch.arange(10))
    assert torch.allclose(logits.diagonal(), torch.full((10,), -21.0))
    assert torch.allclose(logits, -torch.cdist(states, output.codes).square(), atol=1e-3)


@pytest.mark.parametrize("name", ["lenet1", "lenet4", "lenet5_1998"])
def test_initialisation_is_the_papers(name: str) -> None:
    torch.manual_seed(0)
    maps = {"lenet1": 4, "lenet4": 8, "lenet5_1998": 6}[name]
    for layer in build_model(name).children():
        if isinstance(layer, PartialConvolution):
            seen = maps_seen_by(layer, maps)
            drawn = [bias[None] * 25 * len(subset) for subset, bias in zip(seen, layer.bias, strict=True)]
            columns = [m for s in range(maps) for m in range(len(seen)) if s in seen[m]]
            drawn += [k.flatten() * 25 * len(seen[m]) for m, k in zip(columns, layer.weight, strict=True)]
        elif isinstance(layer, SubSampling):
            drawn = [layer.coefficient * 4, layer.bias * 4]
        elif isinstance(layer, (nn.Conv2d, nn.Linear)):
            assert layer.bias is not None
            drawn = [layer.weight.flatten() * layer.weight[0].numel(), layer.bias * layer.weight[0].numel()]
        else:
            continue
        for values in drawn:  # times the fan-in, so from U(-2.4, 2.4)
            assert values.abs().max() <= 2.4
            assert abs(values.mean().item()) <= 6 / math.sqrt(len(values))
            if len(values) > 1:
                assert values.std().item() == pytest.approx(2.4 / math.sqrt(3), rel=0.3 if len(values) > 24 else 0.6)


def test_export_and_trace_of_the_connection_table_take_any_batch() -> None:
    network = paper_net().eval()
    images = torch.rand(5, 1, 32, 32)
    exported = torch.export.export(network, (images[:2],), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    assert torch.allclose(exported.module()(images), network(images), rtol=1e-4)
    assert torch.equal(torch.fx.symbolic_trace(network)(images), network(images))


def test_only_ten_classes() -> None:
    with pytest.raises(ValueError, match="num_classes must be 10, not 11; lenet5 takes any number"):
        build_model("lenet5_1998", num_classes=11)


@pytest.mark.parametrize(("name", "side"), [("lenet1", 28), ("lenet4", 32), ("lenet5_1998", 32), ("lenet5", 32)])
def test_one_size_of_images(name: str, side: int) -> None:
    network = build_model(name)
    for height, width in [(side - 1, side), (side, side + 4)]:
        with pytest.raises(ValueError, match=f"takes images of {side} x {side} pixels, not {height} x {width}"):
            network(torch.rand(1, 1, height, width))


@pytest.mark.parametrize("name", ["lenet1", "lenet4"])
def test_output_units_are_not_squashed(name: str) -> None:
    network = build_model(name)
    output = network.get_submodule("output")
    assert isinstance(output, nn.Linear) and output.bias is not None
    with torch.no_grad():
        output.bias.fill_(100.0)
    side = 28 if name == "lenet1" else 32
    assert network(torch.rand(1, 1, side, side)).min() > 50


def test_todays_lenet5_departs_as_its_docstring_says() -> None:
    torch.manual_seed(0)
    network = build_model("lenet5")
    assert isinstance(network, LeNet5)
    assert sum(p.numel() for p in network.c3.parameters()) == 2_416
    assert list(network.s2.parameters()) == list(network.s4.parameters()) == []
    assert isinstance(network.output, nn.Linear)
    for layer in (network.c1, network.c3, network.c5, network.f6, network.output):
        assert layer.bias is not None and not layer.bias.any()
        fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(layer.weight)
        bound = math.sqrt(6 / (fan_in + fan_out))  # Glorot 2010, eq. 16
        assert 0.95 * bound < layer.weight.abs().max() <= bound
    image = torch.rand(2, 1, 32, 32)
    x = F.avg_pool2d(torch.tanh(network.c1(image)), 2)  # nothing squashed after s2, and tanh not scaled
    x = F.avg_pool2d(torch.tanh(network.c3(x)), 2)
    x = torch.tanh(network.f6(torch.tanh(network.c5(x)).flatten(1)))
    assert torch.allclose(network(image), network.output(x))


def test_losses_are_the_papers() -> None:
    torch.manual_seed(0)
    logits = -10 * torch.rand(5, 10, dtype=torch.float64)
    labels = torch.tensor([3, 0, 9, 9, 1])
    y = -logits
    right = y[torch.arange(5), labels]
    assert lecun_mle(logits, labels).item() == pytest.approx(right.mean().item())
    for j in (0.1, 1.0, 5.0):
        penalties = (math.exp(-j) + torch.exp(-y).sum(1)).log()
        loss = lecun_map(logits, labels, rubbish=j)
        assert loss.item() == pytest.approx((right + penalties).mean().item())
        assert loss > 0  # "therefore this loss function is positive"
        extra = torch.cat([logits, torch.full((5, 1), -j, dtype=torch.float64)], dim=1)
        assert torch.equal(loss, F.cross_entropy(extra, labels))
    assert lecun_map(logits, labels) == lecun_map(logits, labels, rubbish=1.0)


def test_map_does_not_push_far_classes_further() -> None:
    logits = torch.tensor([[-1.0, -2.0, -90.0]], requires_grad=True)
    torch.autograd.backward(lecun_map(logits, torch.tensor([0])))
    assert logits.grad is not None
    assert logits.grad[0, 1] > 0.1 > 1e-30 > logits.grad[0, 2] >= 0


@pytest.mark.parametrize("rubbish", [0.0, -1.0, math.nan])
def test_map_refuses_a_constant_that_is_not_positive(rubbish: float) -> None:
    with pytest.raises(ValueError, match="must be above zero"):
        lecun_map(torch.zeros(1, 10), torch.tensor([0]), rubbish=rubbish)


def test_config_knows_every_loss() -> None:
    assert set(recipe.LOSSES) == set(LOSSES)


@pytest.mark.parametrize("name", list(LOSSES))
def test_table_of_losses(name: str) -> None:
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = LOSSES[name]
    logits = torch.randn(4, 10, requires_grad=True)
    value = loss(logits, torch.tensor([0, 1, 2, 3]))
    torch.autograd.backward(value)
    assert value.shape == () and logits.grad is not None and logits.grad.isfinite().all()
