"""What a network sees: equal to the papers' tables, to another program, and to what is counted by hand."""

from __future__ import annotations

import contextlib
import io
import re

import numpy as np
import paper_tables
import pytest
import torch
from conftest import ROOT
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from test_zoo import deep_is_slow, meta_images, on_meta
from torch import nn

from harness.config.facts import Preprocessing
from harness.data.images.pixels import Normalise
from harness.insight import drawing
from harness.insight.effective_field import effective_field, holding
from harness.insight.exciting import most_exciting
from harness.insight.feature_maps import strongest_maps, strongest_unit
from harness.insight.filters import as_pictures, first_filters
from harness.insight.grad_cam import default_stage, grad_cam, over_image
from harness.insight.layers import layers_of
from harness.insight.occlusion import occlusion, squares
from harness.insight.receptive_field import Field, Span, receptive_field, receptive_fields
from harness.insight.searched_set import chosen_images
from harness.insight.stages import Stage, forward, stages
from models import MODELS, build_model
from models.network import Network


def network_of(name: str, **options: object) -> Network:
    torch.manual_seed(0)
    return build_model(name, **options).eval().requires_grad_(False)  # type: ignore[arg-type]


def images_of(count: int, channels: int, size: int) -> torch.Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(0))


# --------------------------------------------------------------------------------------------------------------- stages


@pytest.mark.parametrize("name", ["mlp", "lenet1", "lenet5_1998", "alexnet_2012", "vgg11_bn", "resnet18", "resnet20"])
def test_stages_are_those_of_the_papers_tables(name: str) -> None:
    network, images = on_meta(name), meta_images(MODELS[name])
    tabled = [Stage(stage, *shape) for stage, shape in paper_tables.STAGES[name] if len(shape) == 3]
    assert stages(network, images[0]) == [stage for stage in tabled if stage.name not in ("average", "bn")]


def test_maps_are_what_the_next_layer_gets() -> None:
    lenet, images = network_of("lenet5"), images_of(2, 1, 32)
    maps, logits = forward(lenet, images)
    assert torch.equal(logits, lenet(images))
    assert torch.equal(maps["c1"], lenet.get_submodule("c1")(images).tanh())
    assert torch.equal(maps["c5"], lenet.forward_features(images))
    resnet, images = network_of("resnet20"), images_of(2, 3, 32)
    maps, _ = forward(resnet, images)
    first = resnet.get_submodule("bn1")(resnet.get_submodule("conv1")(images)).relu()
    assert torch.equal(maps["conv1"], first) and torch.equal(maps["conv2_x"], resnet.get_submodule("conv2_x")(first))
    preact = network_of("preact_resnet110")
    assert torch.equal(forward(preact, images)[0]["conv4_x"], preact.forward_features(images))


def test_the_strongest_maps_come_first() -> None:
    network, (image,) = network_of("resnet20"), images_of(1, 3, 32)
    own = forward(network, image[None])[0]["conv3_x"][0]
    found = strongest_maps(network, image, 5)["conv3_x"]
    assert found.channels.tolist() == sorted(range(32), key=lambda channel: -float(own[channel].max()))[:5]
    assert torch.equal(found.maps, own[found.channels]) and found.of == 32
    channel, row, column = strongest_unit(network, image, "conv3_x")
    assert channel == found.channels[0] and own[channel, row, column] == own.max()
    _, row, column = strongest_unit(network, image, "conv3_x", channel=7)
    assert own[7, row, column] == own[7].max()


# ----------------------------------------------------------------------------------------------------- receptive fields


@pytest.mark.parametrize("name", deep_is_slow(paper_tables.RECEPTIVE_FIELD))
def test_theoretical_fields_are_those_of_the_papers_tables(name: str) -> None:
    stage, pixels = paper_tables.RECEPTIVE_FIELD[name]
    field = receptive_field(on_meta(name), meta_images(MODELS[name]), stage, 0, 0)
    assert field.rows.length == field.columns.length == pixels


def test_a_field_moves_with_its_unit() -> None:
    network, images = network_of("lenet5"), images_of(1, 1, 32)
    corner, other = receptive_fields(network, images, "c3", [(0, 0), (9, 4)])
    assert corner == Field(Span(0, 13), Span(0, 13)) and other == Field(Span(18, 31), Span(8, 21))
    with pytest.raises(KeyError, match="c4"):
        receptive_field(network, images, "c4", 0, 0)


def test_a_layer_of_unknown_windows_is_no_guess() -> None:
    class Enlarging(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3)
            self.behind = nn.Conv2d(1, 1, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            larger = nn.functional.interpolate(self.conv(images), scale_factor=2)
            result: torch.Tensor = self.behind(larger)
            return result

    with pytest.raises(NotImplementedError, match="interpolate"):
        receptive_field(Enlarging(), images_of(1, 1, 8), "behind", 0, 0)


@pytest.mark.parametrize(
    ("name", "stage", "size", "place", "full"),
    [
        ("lenet5", "c3", 32, (9, 4), True),
        ("lenet5_1998", "s4", 32, (1, 3), True),
        ("lenet4", "c3", 32, (2, 7), True),
        ("resnet20", "conv2_x", 32, (0, 31), False),
        ("resnet20", "conv4_x", 32, (7, 0), False),
        ("preact_resnet110", "conv2_x", 32, (9, 30), False),
        ("resnet18", "conv2_x", 64, (15, 2), False),
        ("alexnet_2012", "conv2", 64, (2, 6), False),
    ],
)
def test_no_gradient_lies_outside_of_the_theoretical_field(
    name: str, stage: str, size: int, place: tuple[int, int], full: bool
) -> None:
    entry = MODELS[name]
    network = network_of(name, num_classes=10)
    images = images_of(2, entry.in_channels, size)
    field = receptive_field(network, images[:1], stage, *place).inside(size, size)
    found = torch.zeros(size, size)
    for channel in range(4):  # a rectified unit may be off
        found += effective_field(network, images, stage, channel, *place)
    rows, columns = (found > 0).any(1).nonzero().flatten(), (found > 0).any(0).nonzero().flatten()
    assert field.rows.first <= rows[0] and rows[-1] <= field.rows.last
    assert field.columns.first <= columns[0] and columns[-1] <= field.columns.last
    if full:  # averages and tanh let every pixel through
        assert int((found > 0).sum()) == field.rows.length * field.columns.length


def test_the_effective_field_is_the_mean_of_the_images() -> None:
    network, images = network_of("lenet5"), images_of(2, 1, 32)
    both = effective_field(network, images, "c3", 5, 4, 4)
    single = [effective_field(network, image[None], "c3", 5, 4, 4) for image in images]
    assert torch.allclose(both, (single[0] + single[1]) / 2)
    step = torch.zeros(32, 32)
    step[12, 13] = 1e-2
    ends = [forward(network, images[:1] + sign * step)[0]["c3"][0, 5, 4, 4] for sign in (1, -1)]
    assert float(single[0][12, 13]) == pytest.approx(abs(float(ends[0] - ends[1])) / 2e-2, rel=0.01)


def test_the_fewest_pixels_that_hold_a_share() -> None:
    field = torch.tensor([[1.0, 5.0], [3.0, 91.0]])
    assert holding(field, 0.95).tolist() == [[False, True], [False, True]]
    assert holding(field, 0.9).sum() == 1 and holding(field, 0.97).sum() == 3
    assert not holding(torch.zeros(2, 2)).any()


# ---------------------------------------------------------------------------------------------------- what counts where


@pytest.mark.parametrize(
    ("name", "stage", "size"), [("lenet5", "s4", 32), ("resnet20", "conv4_x", 32), ("resnet18", "conv3_x", 96)]
)
def test_grad_cam_is_that_of_the_grad_cam_package(name: str, stage: str, size: int) -> None:
    network = network_of(name, num_classes=10)
    images = images_of(3, MODELS[name].in_channels, size)
    classes = torch.tensor([[1, 4], [0, 9], [7, 2]])
    ours = over_image(grad_cam(network, images, classes, stage), (size, size))
    low, high = ours.amin((2, 3), keepdim=True), ours.amax((2, 3), keepdim=True)
    assert (high > 0).sum() > 3
    stretched = (ours - low) / (high - low).clamp_min(1e-7)  # theirs stretches each map from 0 to 1
    network.requires_grad_(True)
    for column in range(2):
        targets = [ClassifierOutputTarget(int(chosen)) for chosen in classes[:, column]]
        with GradCAM(model=network, target_layers=[network.get_submodule(stage)]) as other:
            theirs = other(input_tensor=images, targets=targets)
        assert np.allclose(stretched[:, column].numpy(), theirs, atol=1e-4)


def test_grad_cam_weighs_the_last_convolution_that_has_places() -> None:
    expected = {"mlp": None, "lenet1": "c3", "lenet5": "c3", "alexnet": "conv5", "vgg16": "conv5_3"}
    expected |= {"resnet18": "conv5_x", "resnet20": "conv4_x"}
    for name, stage in expected.items():
        assert default_stage(stages(on_meta(name), meta_images(MODELS[name])[0])) == stage


class Bright(nn.Module):
    """Class 1 is a bright patch of 3x3 pixels at row 5, column 2."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        patch = images[:, 0, 5:8, 2:5].mean((1, 2))
        return torch.stack([torch.zeros_like(patch), 4 * patch], 1)


def test_occlusion_finds_the_object() -> None:
    image = torch.full((1, 12, 12), -1.0)
    image[0, 5:8, 2:5] = 1.0
    falls = occlusion(Bright(), image, torch.tensor([1, 0]), window=3, step=1)
    assert falls.shape == (2, 12, 12) and torch.allclose(falls[0], -falls[1], atol=1e-6)
    assert divmod(int(falls[0].argmax()), 12) == (6, 3) and falls[0].max() > 0.1
    outside = falls[0].clone()
    outside[3:10, 0:7] = 0  # where a window that covers the pixel also covers the object
    assert outside.abs().max() == 0


def test_each_pixel_has_the_mean_of_the_squares_that_hide_it() -> None:
    network, (image,) = network_of("resnet20"), images_of(1, 3, 11)
    classes = torch.tensor([3, 1])
    places = [0, 3, 6, 7]  # every third, and the last of 11 pixels that a square of 4 fits at
    falls: dict[tuple[int, int], list[torch.Tensor]] = {}
    whole = network(image[None]).softmax(1)[0, classes]
    for y, x in ((y, x) for y in places for x in places):
        hidden = image.clone()
        hidden[:, y : y + 4, x : x + 4] = 0
        fall = whole - network(hidden[None]).softmax(1)[0, classes]
        for pixel in ((row, column) for row in range(y, y + 4) for column in range(x, x + 4)):
            falls.setdefault(pixel, []).append(fall)
    found = occlusion(network, image, classes, window=4, step=3)
    assert squares(11, 4, 3) == len(places) ** 2
    for (row, column), values in falls.items():
        assert torch.allclose(found[:, row, column], torch.stack(values).mean(0), atol=1e-5)


def test_exciting_images_are_those_that_brute_force_finds() -> None:
    network, images = network_of("lenet5"), images_of(23, 1, 32)
    images[17] = images[4]  # of equals the first comes first
    batches = [(torch.arange(23)[part], images[part]) for part in (slice(0, 10), slice(10, 11), slice(11, 23))]
    found = most_exciting(network, batches, "c3", 6, 23)
    maps = torch.cat([forward(network, part)[0]["c3"][:, 6] for _, part in batches])
    largest = maps.amax((1, 2)).tolist()
    order = sorted(range(23), key=lambda position: (-largest[position], position))
    assert [one.position for one in found] == order and order.index(17) == order.index(4) + 1
    assert [one.position for one in most_exciting(network, batches, "c3", 6, 3)] == order[:3]
    for one in found:
        assert one.value == largest[one.position] == float(maps[one.position, one.row, one.column])
        assert torch.equal(one.image, images[one.position])


def test_a_search_that_would_take_long_looks_at_evenly_spread_images() -> None:
    assert chosen_images(360, 10**6).tolist() == list(range(360))
    chosen = chosen_images(50_000, 4 * 10**9)
    assert len(chosen) == 500 and set(np.diff(chosen)) == {100} and chosen[0] == 0
    assert len(chosen_images(50_000, 10**13)) == 9


# ----------------------------------------------------------------------------------------------------- layers, drawings


@pytest.mark.parametrize("name", ["mlp", "lenet5_1998", "resnet20"])
def test_layers_add_up_to_the_catalogue(name: str) -> None:
    entry, network = MODELS[name], network_of(name)
    layers = layers_of(network, images_of(1, entry.in_channels, entry.input_size)[0])
    own, inner = [layer for layer in layers if not layer.depth], [layer for layer in layers if not layer.holds_others]
    for some in (own, inner):
        assert sum(layer.multiply_adds for layer in some) == entry.multiply_adds
        assert sum(layer.parameters for layer in some) == entry.parameters
    shapes = [(layer.name, layer.shape) for layer in own]
    assert [one for one in shapes if one in paper_tables.STAGES[name]] == paper_tables.STAGES[name]
    assert all(layer.milliseconds > 0 for layer in layers)


def test_filters_have_the_shape_of_what_they_look_at() -> None:
    name, weights = first_filters(network_of("resnet20"), 32, 3)
    assert name == "conv1" and weights.shape == (16, 3, 3, 3)
    network = network_of("mlp")
    name, weights = first_filters(network, 28, 1)
    image = images_of(1, 1, 28)
    sums = (weights * image).sum((1, 2, 3)) + network.get_parameter("fc1.bias")
    assert name == "fc1" and torch.allclose(sums, network.get_submodule("fc1")(image.flatten(1))[0], atol=1e-4)
    pictures = as_pictures(torch.tensor([[[[0.0, -2.0, 1.0]]], [[[0.0, 0.0, 0.0]]]]))
    assert pictures.flatten().tolist() == [0.5, 0.0, 0.75, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_drawn_as_the_network_gets_it(channels: int) -> None:
    how = Preprocessing(channels, 8, None, None, (0.3, 0.4, 0.5)[:channels], (0.2, 0.3, 0.1)[:channels])
    pixels = torch.arange(channels * 64, dtype=torch.uint8).view(1, channels, 8, 8)
    drawn = drawing.picture(Normalise(how, "cpu")(pixels)[0], how)
    assert np.array_equal((drawn * 255).round(), pixels[0].expand(3, -1, -1).movedim(0, 2).numpy())


def test_a_frame_lies_around_the_field_and_ends_at_the_edge() -> None:
    black = np.zeros((32, 32, 3))
    drawn = drawing.framed(black, Field(Span(4, 9), Span(-5, 11)))
    assert drawn.shape == (224, 224, 3) and not black.any()
    rows, columns = np.nonzero(drawn.any(2))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4 * 7, 10 * 7 - 1, 0, 12 * 7 - 1)
    assert not drawn[5 * 7 : 9 * 7, 7 : 11 * 7].any()  # nothing inside is covered
    assert not drawing.framed(black, Field(Span(40, 50), Span(0, 3))).any()


def test_maps_share_one_scale() -> None:
    values = torch.stack([torch.full((5, 4), value) for value in (2.0, 0.0, 1.0)])
    drawn = drawing.maps(values)
    starts = [0, 76 + 4, 2 * (76 + 4)]
    brightness = [drawn[0, start].sum() for start in starts]
    assert drawn.shape == (95, 3 * 76 + 2 * 4, 3) and brightness[1] < brightness[2] < brightness[0]


def test_the_program_of_the_page_in_docs_prints_what_stands_below_it() -> None:
    text = (ROOT / "docs" / "look-inside.md").read_text(encoding="utf-8")
    ((program, expected),) = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", text, re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, "look-inside.md", "exec"), {})
    assert printed.getvalue() == expected


def test_few_colours_are_close_and_small() -> None:
    photo = np.random.default_rng(0).random((64, 64, 3)).repeat(3, 0).repeat(3, 1)
    heat = drawing.with_heat(photo, torch.linspace(0, 1, 192).expand(192, -1))
    whole, few = (drawing.png(heat, all_colours=every) for every in (True, False))
    pixels = [np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int) for content in (whole, few)]
    assert np.array_equal(pixels[0], (heat * 255 + 0.5).astype(int)) and len(few) < len(whole) / 1.5
    assert np.abs(pixels[0] - pixels[1]).max() < 40 and np.abs(pixels[0] - pixels[1]).mean() < 4
