# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Convolutional neural networks, measured
#
# Why do images need networks of their own, what do convolution and pooling do, and how did the field get from LeNet to
# ResNet?
# Each claim is a few lines of code that you can run and change. Where people often say more than they know, this page
# measures, and says what it has measured.
#
# The page is a program: `python examples/cnn_lecture.py` runs it in about a minute, without a network and without a
# GPU, and stops with an error if a claim does not hold. It opens as a notebook in Visual Studio Code, and in Jupyter
# with jupytext. You need some Python and the idea of a fully connected layer. Every section ends in an exercise.

# %%
import json
import sys
from pathlib import Path

HERE = Path(globals().get("__file__", "cnn_lecture.py")).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # the repository, and the figures, which lie beside this file

import lecture_figures as figures
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.shift import DISTANCES, errors_by_shift, shifted
from harness import compose, load
from harness.data.sources import table
from models import MODELS, build_model

torch.set_num_threads(1)  # such small networks gain nothing from more

# %% [markdown]
# The images are scikit-learn's 1,797 handwritten digits, enlarged to 32x32 pixels. 360 of them are the test split.

# %%
digits = table.load(compose("train", data="digits").data)
train_images, train_labels = digits.train.images / 255, digits.train.labels  # (N, 1, 32, 32), from 0 to 1
test_images, test_labels = digits.test.images / 255, digits.test.labels
assert len(digits.train) + len(digits.validation) + len(digits.test) == 1797 and len(digits.test) == 360

first = {str(label): test_images[test_labels == label][0, 0] for label in range(10)}
figures.images(first, "digits", "Ten handwritten digits, 0 to 9, white on black, 32 by 32 pixels each", columns=10)

# %% [markdown]
# ## 1. Why a special network for images
#
# ### Parameters
#
# A fully connected layer has a weight for every pair of an input and a unit. Take a grey picture of 426x426 pixels,
# two hidden layers of 16 units, which is very few, and ten classes: 2,904,074 numbers to learn, nearly all of them in
# the first layer. A picture of 1024x1024 pixels is a point in a space of 1,048,576 dimensions.


# %%
def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


for side in (28, 426, 1024):
    network = build_model("mlp", image_size=side, hidden=[16, 16])
    print(f"{side:4} x {side:<4} pixels, two hidden layers of 16 units: {parameters(network):12,} parameters")
print(f"  32 x 32   pixels, LeNet-5: {parameters(build_model('lenet5')):37,} parameters")

assert parameters(build_model("mlp", image_size=426, hidden=[16, 16])) == 2_904_074
assert 426**2 * 16 / 2_904_074 > 0.999  # the share of the first layer's weights
assert 1024 * 1024 == 1_048_576
assert parameters(build_model("lenet5")) == 61_706

# %% [markdown]
# LeNet-5, the network of 1998 in the form that is taught today, has 61,706 parameters, and more and larger layers
# than the networks above. How it does that is the subject of sections 2 to 5.
#
# ### Learning by heart
#
# Few images and many parameters make a network that knows its training images and little else. Here are networks with
# one hidden layer of more and more units, trained on 100 digits.


# %%
def fit(network, images, labels, *, epochs, rate, batch_size=64):
    """Train by stochastic gradient descent with momentum; returns the mean loss (nats) of each epoch."""
    optimiser = torch.optim.SGD(network.parameters(), rate, momentum=0.9)
    losses = []
    for _ in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(labels)).split(batch_size):
            loss = F.cross_entropy(network(images[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(batch)
        losses.append(total / len(labels))
    return losses


@torch.inference_mode()
def error(network, images, labels):
    """Percent of the images that get a wrong answer."""
    return 100 * (network(images).argmax(1) != labels).float().mean().item()


# %% tags=["percent"]
few_images, few_labels = train_images[:100], train_labels[:100]
widths, on_training, on_test = [2, 8, 32, 128, 512, 2048], [], []
for width in widths:
    torch.manual_seed(0)
    network = build_model("mlp", image_size=32, hidden=[width])
    fit(network, few_images, few_labels, epochs=150, rate=0.02)
    on_training.append(error(network, few_images, few_labels))
    on_test.append(error(network, test_images, test_labels))
    print(f"{width:5} units, {parameters(network):9,} parameters: ", end="")
    print(f"{on_training[-1]:3.0f}% wrong of the 100 digits, {on_test[-1]:3.0f}% of 360 others")
assert on_training[-1] == 0 and on_test[-1] > 5
assert on_test[-1] < min(on_test) + 3  # it does not rise

# %%
curves = {"100 training digits": (widths, on_training), "360 test digits": (widths, on_test)}
figures.lines(
    {"Trained on 100 digits": curves},
    "overfitting",
    "Error by number of hidden units: on the training digits it falls to zero, on the test digits it stays above",
    x="hidden units",
    y="error (%)",
    log="x",
)

# %% [markdown]
# The large networks are right on all of the training digits, and wrong on a good part of the others: the gap is what
# is called overfitting. Two things are worth noting. The error on the test digits does not rise with more units here,
# so the size alone is not what hurts. And what the network could learn by heart becomes plain when the labels are
# nonsense: it learns them, too.

# %% tags=["percent"]
torch.manual_seed(0)
nonsense = few_labels[torch.randperm(100)]
network = build_model("mlp", image_size=32, hidden=[2048])
fit(network, few_images, nonsense, epochs=300, rate=0.02)
print(f"labels in random order: {error(network, few_images, nonsense):.0f}% wrong of the 100 digits, ", end="")
print(f"{error(network, test_images, test_labels):.0f}% of 360 others")
assert error(network, few_images, nonsense) == 0 and error(network, test_images, test_labels) > 50

# %% [markdown]
# **Exercise 1.** How many parameters has the network with two hidden layers of 16 units for *colour* pictures of
# 1024x1024 pixels?
#
# <details><summary>Answer</summary>
#
# **50,332,106**: 3 x 1024 x 1024 inputs times 16, and 16 biases; 16 x 16 + 16; 16 x 10 + 10.
#
# </details>

# %% [markdown]
# ## 2. What is special about images, and convolution in one dimension
#
# Three properties of images lead to convolutional networks.
#
# - **Hierarchy**: edges make strokes, strokes make parts, parts make things. So a network has layers.
# - **Locality**: pixels that are near each other belong together. So a unit looks at a small window.
# - **Translation**: a thing that moves is still the same thing. So every window is treated by the same weights.
#
# Locality can be measured. This is the correlation of two pixels in a row of a digit, by their distance, each less
# its mean over all digits:

# %%
pixels = digits.train.images[:, 0, 4:28, 4:28].float().numpy()  # without the border
pixels = pixels - pixels.mean(0)
correlation = {}
for distance in (1, 3, 6, 12):
    left, right = pixels[:, :, :-distance], pixels[:, :, distance:]
    correlation[distance] = np.corrcoef(left.ravel(), right.ravel())[0, 1]
    print(f"{distance:2} pixels apart: {correlation[distance]:5.2f}")
assert correlation[1] > 0.8 and abs(correlation[12]) < 0.25

# %% [markdown]
# ### Convolution by hand
#
# Slide a short list of weights, the *filter* or *kernel*, over a longer list of numbers. At each place, multiply what
# lies above each other, and add up: the dot product of the filter and the window.


# %%
def convolve(x, filter, stride=1, padding=0):
    """One dimension, window by window."""
    x = [0] * padding + list(x) + [0] * padding
    places = range(0, len(x) - len(filter) + 1, stride)
    return [sum(weight * value for weight, value in zip(filter, x[place:])) for place in places]


def conv1d(x, filter, stride=1, padding=0):
    """The same by torch."""
    x, filter = torch.tensor(x), torch.tensor(filter)
    return F.conv1d(x[None, None], filter[None, None], stride=stride, padding=padding)[0, 0].tolist()


for x, filter, stride, padding, expected in [
    ([0, 1, 0, 1, 1], [-1, 1], 1, 0, [1, -1, 1, 0]),  # a filter that finds steps: up, down, up, no step
    ([0, 1, -1, 1, 1], [-1, 1], 1, 0, [1, -2, 2, 0]),
    ([0, 1, 0, 1, 0], [0, 1], 1, 0, [1, 0, 1, 0]),  # a filter that looks one to the right: it shifts
    ([0, 1, 0, 1, 1], [1], 1, 0, [0, 1, 0, 1, 1]),  # the filter that does nothing
    ([0, 1, 0, 1, 1], [-1, 1], 2, 0, [1, 1]),  # stride 2: every second window
    ([0, 1, 0, 1, 1], [-1, 1], 1, 1, [0, 1, -1, 1, 0, -1]),  # zero-padding: a zero on both sides
    ([0, 1, 0, 1, 1], [-1, 1], 2, 1, [0, -1, 0]),
]:
    assert convolve(x, filter, stride, padding) == conv1d(x, filter, stride, padding) == expected
    print(f"{x} with {filter}, stride {stride}, padding {padding}: {expected}")

# %% [markdown]
# ### Convolution as a matrix
#
# All those dot products together are the product of a matrix and the input. Each row of the matrix is the filter, one
# place further to the right; such a matrix, constant along its diagonals, is a *Toeplitz* matrix. So a convolution
# *is* a fully connected layer, one in which most weights are zero and the others are shared.


# %%
def toeplitz(filter, length):
    """The matrix (outputs, inputs) of a convolution with stride 1."""
    rows = length - len(filter) + 1
    matrix = np.zeros((rows, length), dtype=int)
    for row in range(rows):
        matrix[row, row : row + len(filter)] = filter
    return matrix


x, filter = [0, 1, 0, 1, 1], [-1, 1]
matrix = toeplitz(filter, len(x))
assert (matrix @ x).tolist() == conv1d(x, filter)
assert (toeplitz([1], 5) == np.eye(5)).all()  # the filter that does nothing is the identity matrix
assert matrix.size == 20 and np.count_nonzero(matrix) == 8 and len(filter) == 2
figures.matrices(
    {"matrix": matrix, "times input": np.array(x)[:, None], "is the output": (matrix @ x)[:, None]},
    "toeplitz",
    "A matrix of four rows and five columns with -1, 1 along its diagonal, times the input 0 1 0 1 1, is 1 -1 1 0",
)

# %% [markdown]
# A fully connected layer from five to four numbers has 20 weights. Of the convolution's 20, eight are not zero, and
# only two are different numbers: *local* and *shared*.
#
# ### Convolution as template matching
#
# A dot product is large where the window looks like the filter. Cut a piece out of a digit, subtract its mean, so
# that plain grey gives zero, and use it as a filter on the whole digit (two dimensions, as in the next section): the
# largest output is where the piece was cut out.

# %%
digit = test_images[test_labels == 8][0, 0]  # (32, 32)
row, column, side = 6, 10, 10
template = digit[row : row + side, column : column + side]
template = template - template.mean()
response = F.conv2d(digit[None, None], template[None, None])[0, 0]  # (23, 23)
found = divmod(int(response.argmax()), response.shape[1])
print(f"cut out at {(row, column)}, found at {found}")
assert found == (row, column)

other = test_images[test_labels == 8][1, 0]
elsewhere = F.conv2d(other[None, None], template[None, None])[0, 0]
figures.images(
    {"digit": digit, "template": template, "response": response, "another 8": other, "its response": elsewhere},
    "template",
    "An 8, a piece of it, and the response to that piece, brightest where it was cut out; the same for another 8",
)

# %% [markdown]
# A convolution does not make up its template: training does. And as the same filter is used everywhere, a thing that
# moves gives an output that moves with it. Section 5 measures this.
#
# **Exercise 2.** What is `[1, 2, 3, 4]` with the filter `[1, 0, -1]`, stride 1 and padding 1?
#
# <details><summary>Answer</summary>
#
# **-2, -2, -2, 3**: the windows are 0 1 2, 1 2 3, 2 3 4 and 3 4 0.
#
# </details>

# %% [markdown]
# ## 3. Convolution in two dimensions
#
# Now the window is a square that moves over an image, row by row. The image here has 5x5 pixels, the kernel 3x3, and
# there are nine windows.


# %%
def convolve2d(image, kernel, stride=1, padding=0):
    """Two dimensions, window by window: the output, and the corner of each window."""
    image, side = np.pad(image, padding), len(kernel)
    corners = range(0, len(image) - side + 1, stride)
    output = [[(image[y : y + side, x : x + side] * kernel).sum() for x in corners] for y in corners]
    return np.array(output), [(y, x) for y in corners for x in corners]


image = np.array([[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]])
kernel = np.array([[0, 1, 2], [2, 2, 0], [0, 1, 2]])
sums, corners = convolve2d(image, kernel)
assert sums.tolist() == [[12, 12, 17], [10, 17, 19], [9, 6, 14]]
figures.windows(
    image,
    kernel,
    [(y, x, result) for (y, x), result in zip(corners, sums.ravel())],
    "windows",
    "The nine windows of a 3 by 3 kernel on an image of 5 by 5 pixels, with the sum that each gives",
)

# %% [markdown]
# Step through the windows yourself in the [interactive page](lecture.html).
#
# <div class="piece" data-piece="windows"></div>
#
# With a stride of 2 the window skips every second place; with a padding of 1 a frame of zeros comes around the image.

# %%
for stride, padding, expected in [
    (1, 0, [[12, 12, 17], [10, 17, 19], [9, 6, 14]]),
    (2, 0, [[12, 17], [9, 14]]),
    (1, 1, [[6, 14, 17, 11, 3], [14, 12, 12, 17, 11], [8, 10, 17, 19, 13], [11, 9, 6, 14, 12], [6, 4, 4, 6, 4]]),
    (2, 1, [[6, 17, 3], [8, 17, 13], [6, 4, 4]]),
]:
    by_hand, _ = convolve2d(image, kernel, stride, padding)
    by_torch = F.conv2d(torch.tensor(image)[None, None], torch.tensor(kernel)[None, None], None, stride, padding)
    assert by_hand.tolist() == by_torch[0, 0].tolist() == expected
    print(f"stride {stride}, padding {padding}:", *expected, sep="\n    ")

# %% [markdown]
# ### The size of the output
#
# Along each side, an input of `n` with padding `p` on both ends, a kernel of `k` and a stride of `s` give `floor((n +
# 2p - k) / s) + 1` numbers: the first window, and one for each whole stride that still fits. A padding of `(k - 1) /
# 2` with stride 1 keeps the size.


# %%
def output_size(n, k, s=1, p=0):
    return (n + 2 * p - k) // s + 1


for n in range(5, 12):
    for k, s, p in [(1, 1, 0), (2, 2, 0), (3, 1, 1), (3, 2, 0), (3, 2, 1), (5, 1, 2), (5, 3, 1)]:
        output = F.conv2d(torch.zeros(1, 1, n, n), torch.zeros(1, 1, k, k), None, s, p)
        assert output.shape[-1] == output_size(n, k, s, p)
assert output_size(5, 3) == 3 and output_size(5, 3, s=2) == 2 and output_size(5, 3, s=2, p=1) == 3
assert output_size(32, 5) == 28  # the first layer of LeNet-5

# %% [markdown]
# <div class="piece" data-piece="stride_padding"></div>
#
# ### The name
#
# In mathematics, a convolution first turns the kernel by half a turn. What networks compute, without the turn, is
# called *cross-correlation* there. Since the weights are learnt, the turn makes no difference to what a network can
# do, and the field says convolution. But the results are not the same:

# %%
from scipy.signal import convolve2d as mathematical
from scipy.signal import correlate2d

true_convolution = mathematical(image, kernel, mode="valid")
print("cross-correlation:", *sums.tolist(), sep="\n    ")
print("convolution:", *true_convolution.tolist(), sep="\n    ")
assert (correlate2d(image, kernel, mode="valid") == sums).all()
assert true_convolution.tolist() == [[18, 20, 19], [10, 9, 17], [11, 8, 14]]
assert (convolve2d(image, kernel[::-1, ::-1])[0] == true_convolution).all()  # the kernel turned by half a turn

# %% [markdown]
# **Exercise 3.** An image of 224x224 pixels, a kernel of 7x7, stride 2, padding 3: how large is the output, and how
# large without padding?
#
# <details><summary>Answer</summary>
#
# **112** and **109** pixels a side.
#
# </details>

# %% [markdown]
# ## 4. Channels: three-dimensional tensors
#
# A colour picture has three numbers at each pixel, and the output of a layer with many filters has many. So the data
# are tensors (channels, height, width). A filter has a kernel for each channel of its input; the results of all
# channels are added up. **One filter gives one map**, however many channels it looks at. **Many filters give many
# maps**, which are the channels of the next layer.


# %%
def convolve_channels(x, filters, biases):
    """(channels, H, W) and (filters, channels, k, k) to (filters, H - k + 1, W - k + 1), by loops."""
    maps = []
    for filter, bias in zip(filters, biases):
        map = bias
        for channel, kernel in zip(x, filter):
            map = map + convolve2d(channel, kernel)[0]  # one number for each window; channels are added up
        maps.append(map)
    return np.array(maps)


draws = np.random.default_rng(0)
for channels, filters in [(1, 1), (3, 1), (3, 8), (8, 4)]:
    x, weight = draws.normal(size=(channels, 10, 10)), draws.normal(size=(filters, channels, 3, 3))
    bias = draws.normal(size=filters)
    by_loops = convolve_channels(x, weight, bias)
    by_torch = F.conv2d(*(torch.tensor(array) for array in (x[None], weight, bias)))[0]
    assert np.allclose(by_loops, by_torch)
    assert parameters(nn.Conv2d(channels, filters, 3)) == filters * (channels * 3 * 3 + 1)
    print(f"{x.shape} with {filters} filters of {weight.shape[1:]}: {by_loops.shape}, ", end="")
    print(f"{weight.size + bias.size} parameters")

# %% [markdown]
# The number of parameters does not depend on the size of the image. Here are three filters on a photograph. The first
# adds up brightness, the second finds horizontal edges, and the third answers to red against green and blue, which
# takes all channels together.

# %%
from sklearn.datasets import load_sample_image

photo = torch.tensor(load_sample_image("flower.jpg")[40:360:2, 200:520:2]).movedim(-1, 0) / 255  # (3, 160, 160)
blur, edge = torch.ones(3, 3) / 9, torch.tensor([[1.0, 1, 1], [0, 0, 0], [-1, -1, -1]]) / 3
filters = torch.stack(
    [torch.stack([kernel * share for share in shares]) for kernel, shares in [
        (blur, (1 / 3, 1 / 3, 1 / 3)), (edge, (1 / 3, 1 / 3, 1 / 3)), (blur, (1, -1 / 2, -1 / 2)),
    ]]
)  # fmt: skip
maps = F.conv2d(photo[None], filters)[0]
assert filters.shape == (3, 3, 3, 3) and maps.shape == (3, 158, 158)
figures.images(
    {"photograph": photo.movedim(0, -1), **dict(zip(("red", "green", "blue"), photo))},
    "colour",
    "A photograph of a flower, and its red, green and blue channels as grey pictures",
)
figures.images(
    dict(zip(("brightness", "horizontal edges", "red against others"), maps)),
    "maps",
    "The maps of three filters on the photograph: brightness, horizontal edges, red against green and blue",
    signed=True,
)

# %% [markdown]
# ### Why this is not three-dimensional convolution
#
# The window moves along height and width only. A three-dimensional convolution would also move along the channels,
# with one set of weights for all of them. That makes sense where the third axis is a place, such as depth in a scan,
# or time. Channels have no such order: number them anew, in the image and in the filters, and `conv2d` gives the same
# result. A window that moves along the channels does not.

# %%
order = [2, 0, 1]  # blue, red, green
assert torch.allclose(F.conv2d(photo[None], filters), F.conv2d(photo[None, order], filters[:, order]), atol=1e-6)

volume = photo[None, None]  # (N, 1, depth, H, W)
moving = torch.stack([blur, -blur])[None, None]  # two channels deep, and 3 x 3
along = F.conv3d(volume, moving)  # red less green, green less blue
anew = F.conv3d(volume[:, :, order], moving)  # blue less red, red less green
assert along.shape == (1, 1, 2, 158, 158)  # not one map
assert not torch.allclose(along.sum(2), anew.sum(2), atol=0.1)

full_depth = F.conv3d(volume, filters[:, None])  # as deep as the image, it has no room to move
assert torch.allclose(full_depth[:, :, 0], F.conv2d(photo[None], filters), atol=1e-6)

# %% [markdown]
# **Exercise 4.** A layer has 64 filters of 3x3 on an input of 64 channels. How many parameters has it, biases
# included?
#
# <details><summary>Answer</summary>
#
# **36,928**: 64 filters of 64 x 3 x 3 weights and a bias.
#
# </details>

# %% [markdown]
# ## 5. Pooling, and what it does for shifts
#
# Max pooling slides a window, too, and keeps the largest number. It has no weights. It treats each channel on its
# own, so their number stays the same. And with a stride above one it makes the map smaller, so that each later unit
# sees more of the image.


# %%
def max_pool(x, window, stride):
    """One dimension."""
    return [max(x[place : place + window]) for place in range(0, len(x) - window + 1, stride)]


def max_pool2d(image, window, stride):
    """Two dimensions."""
    corners = range(0, len(image) - window + 1, stride)
    return np.array([[image[y : y + window, x : x + window].max() for x in corners] for y in corners])


x = [1, 3, 2, 5, 0, 4]
assert max_pool(x, 2, 2) == F.max_pool1d(torch.tensor([[x]]).float(), 2).flatten().tolist() == [3, 5, 4]

for window, stride, expected in [
    (3, 2, [[3, 3], [3, 3]]),
    (2, 2, [[3, 3], [3, 2]]),
    (3, 1, [[3, 3, 3], [3, 3, 3], [3, 2, 3]]),
]:
    by_torch = F.max_pool2d(torch.tensor(image)[None, None].float(), window, stride)[0, 0]
    assert max_pool2d(image, window, stride).tolist() == by_torch.tolist() == expected
    print(f"the image of section 3, window {window}, stride {stride}:", *expected)

pool = nn.MaxPool2d(3, stride=2)
assert parameters(pool) == 0 and pool(torch.zeros(1, 64, 55, 55)).shape == (1, 64, 27, 27)

# %% [markdown]
# A result of four threes needs a window of 3 and a stride of 2, as in AlexNet; the more usual window of 2 and stride
# of 2 gives something else. Pooling does not have to be a maximum: LeNet-5 takes averages.
#
# ### Equivariance of convolution
#
# If the image moves by some pixels, the map moves by as many. This is *translational equivariance*. It is exact, away
# from the border, where other pixels come into view.

# %%
whole = digits.test.images.float()  # whole numbers, so that sums are exact in any order
moved = shifted(whole, 2, 3)  # two pixels down, three to the right
kernel3 = torch.randint(-5, 6, (4, 1, 3, 3), generator=torch.Generator().manual_seed(0)).float()
map_of_moved, moved_map = F.conv2d(moved, kernel3), shifted(F.conv2d(whole, kernel3), 2, 3)
inside = (..., slice(2, None), slice(3, None))  # what does not come in from outside
assert torch.equal(map_of_moved[inside], moved_map[inside])

padded = F.conv2d(moved, kernel3, padding=1), shifted(F.conv2d(whole, kernel3, padding=1), 2, 3)
inside = (..., slice(3, -1), slice(4, -1))
assert torch.equal(padded[0][inside], padded[1][inside])

halved = F.max_pool2d(shifted(whole, 2, 4), 2), shifted(F.max_pool2d(whole, 2), 1, 2)
odd = F.max_pool2d(shifted(whole, 1, 1), 2), shifted(F.max_pool2d(whole, 2), 1, 1)
assert torch.equal(*halved)  # pooling with stride 2: only for shifts by multiples of 2
assert not torch.equal(*odd)

# %% [markdown]
# ### Tolerance of pooling
#
# It is often said that pooling makes a network invariant to small shifts. How much does a map change when the digit
# moves by one pixel? Here is the length of the difference, as a share of the length of the map itself, after pooling
# in windows of some sizes (all strides are 1, so that nothing but the maximum plays a part):

# %%
for window in (1, 3, 5, 9):
    here = F.max_pool2d(test_images, window, stride=1)
    change = []
    for distance in (1, 2, 4):
        there = F.max_pool2d(shifted(test_images, 0, distance), window, stride=1)
        change.append((there - here).flatten(1).norm(dim=1).div(here.flatten(1).norm(dim=1)).mean().item())
    print(f"window {window}: shifts of 1, 2, 4 pixels change the map by {' '.join(f'{by:.2f}' for by in change)}")
    assert change[0] < change[1] < change[2]
assert change[0] > 0.05  # smaller than without pooling, but not zero

# %% [markdown]
# Pooling makes the change smaller, and does not make it zero.
#
# ### What the networks do
#
# The networks that come with this project, on digits that are moved by 0 to 6 pixels to the left, right, up and down.
# On the digits of scikit-learn, measured now. All of these were trained on digits that were moved by up to two
# pixels, so it is no surprise that they tolerate these:

# %% tags=["percent"]
on_digits = {}
for name in ("mlp", "lenet4", "lenet5_1998", "lenet5"):
    loaded = load(name, weights="DIGITS")
    on_digits[name] = errors_by_shift(loaded.network, digits.test, loaded.trained.preprocessing)
    print(f"{name:12} " + " ".join(f"{wrong:5.1f}" for wrong in on_digits[name]))
    assert loaded.trained.training["recipe"]["crop_padding"] == 2
    assert on_digits[name][1] < on_digits[name][0] + 2 and on_digits[name][6] > 50
assert on_digits["mlp"][2] < on_digits["lenet5_1998"][2]

# %% [markdown]
# On MNIST, from a record that is kept with the project (`python tools/shift.py` makes it), with what each network saw
# in training:

# %% tags=["record"]
record = json.loads((HERE.parent / "benchmarks" / "results" / "shift.json").read_text())
on_mnist, as_they_are, distorted = {}, {}, {}
for row in record["networks"]:
    seen = row["training"]
    shifts = f"moved by up to {seen['crop_padding']} pixels" if seen["crop_padding"] else "as they are"
    called = f"{row['model']}, digits {'distorted' if seen['distortion'] else shifts}"
    on_mnist[called] = row["top1_error"]
    print(f"{called:46} " + " ".join(f"{wrong:5.1f}" for wrong in row["top1_error"]))
    assert row["top1_error"][1] < row["top1_error"][0] + 4 and row["top1_error"][6] > 10 * row["top1_error"][0]
    if not seen["crop_padding"]:
        (distorted if seen["distortion"] else as_they_are)[row["model"]] = row["top1_error"]
lost = {row["image_size"]: row["ink_lost_percent"][-1] for row in record["networks"]}
print("ink that leaves the image at 6 pixels:", ", ".join(f"{lost[side]:.1f}% of {side}x{side}" for side in lost))
assert as_they_are["mlp"][2] > 2 * as_they_are["lenet5_1998"][2] > 4 * distorted["lenet5_1998"][2]
assert max(lost.values()) < 10

# %%
panels = {"digits of scikit-learn": on_digits, "MNIST": on_mnist}
figures.lines(
    {title: {label: (DISTANCES, errors) for label, errors in content.items()} for title, content in panels.items()},
    "shift",
    "Error against shift: low at zero to two pixels, and then rising steeply for every network",
    x="shift (pixels)",
    y="error (%)",
)

# %% [markdown]
# Few errors at a shift of one pixel, very many at six: no network is invariant. The two panels show two causes of
# tolerance. On MNIST, of the networks that saw the digits as they are, the fully connected one is wrong several times
# as often at two pixels as LeNet-5 of the paper, and training on distorted digits moves LeNet-5's curve further to
# the right. On scikit-learn's digits, all networks have seen moved digits, and the fully connected one tolerates two
# pixels as well as the others do. So a careful sentence is: convolution and pooling let a network *tolerate* a shift
# of a pixel or two, and training on moved images does so, too, and can go further.
#
# Move a digit yourself, and watch a fully connected network and LeNet-5 answer, in the [interactive
# page](lecture.html).
#
# <div class="piece" data-piece="shift"></div>
#
# **Exercise 5.** A map of 96 channels and 55x55 pixels goes through max pooling with window 3 and stride 2. What
# comes out, and with how many parameters?
#
# <details><summary>Answer</summary>
#
# **96** channels of **27** x 27 pixels, and **0** parameters.
#
# </details>

# %% [markdown]
# ## 6. From a typical network to AlexNet, VGG and ResNet
#
# ### A typical network
#
# Convolution, nonlinearity, pooling; again, with more channels and fewer pixels; at the end a fully connected layer.
# This one trains in seconds. Beside it is a fully connected network of more parameters. Both are also trained on
# digits whose pixels are in a random order, the same for all images: to a fully connected network this is the same
# task, and nothing is local any more. And all of that once more with digits that do not lie in the middle, but up to
# three pixels from it in each direction, in training and test.


# %%
def typical_network():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),  # (N, 8, 16, 16)
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),  # (N, 16, 8, 8)
        nn.Flatten(), nn.Linear(16 * 8 * 8, 10),
    )  # fmt: skip


def fully_connected():
    return build_model("mlp", image_size=32, hidden=[32])


assert parameters(typical_network()) == 80 + 1168 + 10_250
assert parameters(fully_connected()) == 33_130

# %% tags=["percent"]
pixel_order = torch.randperm(32 * 32, generator=torch.Generator().manual_seed(0))


def in_place(images):
    return images


def mixed(images):
    return images.flatten(2)[..., pixel_order].view_as(images)


def scattered(images, farthest, seed):
    moves = torch.randint(-farthest, farthest + 1, (len(images), 2), generator=torch.Generator().manual_seed(seed))
    return torch.cat([shifted(image[None], down, right) for image, (down, right) in zip(images, moves.tolist())])


results = {}
for farthest in (0, 3):
    to_train_on, to_test_on = scattered(train_images, farthest, 1), scattered(test_images, farthest, 2)
    for network_of in (typical_network, fully_connected):
        for arrange in (in_place, mixed):
            wrong = []
            for seed in range(3):
                torch.manual_seed(seed)
                network = network_of()
                fit(network, arrange(to_train_on), train_labels, epochs=15, rate=0.05)
                wrong.append(error(network, arrange(to_test_on), test_labels))
            results[farthest, network_of, arrange] = sum(wrong) / 3
            print(f"moved by up to {farthest}: {network_of.__name__:15}, pixels {arrange.__name__:8}: ", end="")
            print(f"{sum(wrong) / 3:4.1f}% wrong of 360, mean of 3 seeds")
assert results[3, typical_network, in_place] < results[3, typical_network, mixed] - 1
assert results[3, typical_network, in_place] < results[3, fully_connected, in_place] - 3
assert abs(results[0, typical_network, in_place] - results[0, typical_network, mixed]) < 4  # percent of the images
assert abs(results[0, typical_network, in_place] - results[0, fully_connected, in_place]) < 4

# %% [markdown]
# As long as the digits lie in the middle, the convolutional network gains nothing: the task is so easy that it does
# about as well on mixed pixels, and about as well as the fully connected one. When the digits lie here and there, it
# is ahead, and mixing the pixels costs it a part of that. So what convolution knows about images is worth something
# where it is needed; a small clean data set may not show it.
#
# Draw a digit, and see the maps of LeNet-5 and its answer change, in the [interactive page](lecture.html).
#
# <div class="piece" data-piece="draw"></div>
#
# ### AlexNet, VGG-16, ResNet-50
#
# The layers of three networks, from this project's definitions: what comes out of each layer for one image of 224x224
# pixels, and how many parameters it has. Multiply-adds are those of convolutions and fully connected layers. ResNet
# is listed by stage: `conv2_x` to `conv5_x` hold 16 blocks of three convolutions.


# %%
def layers(name):
    """Names, output shapes and parameters of the layers. The device `meta` has shapes alone: nothing is computed."""
    rows = []

    def note(layer_name):
        def hook(layer, inputs, output):
            if parameters(layer) or "Pool" in type(layer).__name__:
                rows.append((layer_name, " x ".join(map(str, output.shape[1:])), parameters(layer)))

        return hook

    with torch.device("meta"):
        network = build_model(name).eval()
        for layer_name, layer in network.named_children():
            layer.register_forward_hook(note(layer_name))
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, 224, 224))
    assert sum(row[2] for row in rows) == MODELS[name].parameters
    assert counter.get_total_flops() // 2 == MODELS[name].multiply_adds
    return rows


share = {}  # of the fully connected layers in all parameters
for name in ("alexnet_2012", "vgg16", "resnet50"):
    print(f"{name}: {MODELS[name].parameters:,} parameters, {MODELS[name].multiply_adds:,} multiply-adds")
    for layer_name, shape, count in layers(name):
        print(f"    {layer_name:8} {shape:14} {count:12,}")
    share[name] = sum(count for layer, _, count in layers(name) if layer.startswith("fc")) / MODELS[name].parameters
    print(f"    {100 * share[name]:.0f}% of the parameters are in fully connected layers")
with torch.device("meta"):
    stages = [stage for stage in build_model("resnet50").children() if isinstance(stage, nn.Sequential)]
assert sum(map(len, stages)) == 16
assert min(share["alexnet_2012"], share["vgg16"]) > 0.85 and share["resnet50"] < 0.1

# %% [markdown]
# At this size, `average` leaves the maps of AlexNet and VGG as they are. These two have most of their parameters in
# fully connected layers. ResNet averages each map to one number instead, and needs one small layer behind that.
#
# ### Three layers of 3x3 or one of 7x7
#
# VGG has kernels of 3x3 alone. The *receptive field* of a unit is the square of the image that can change it. Each
# layer with a kernel of `k` adds `k - 1` steps to it, and a step is as many pixels as the product of all strides
# before. Three layers of 3x3 see as much as one of 7x7, with 27 instead of 49 weights for each pair of channels, and
# with three nonlinearities instead of one.


# %%
def receptive_field(path):
    """Pixels a side that a unit sees through layers of (kernel, stride)."""
    field, step = 1, 1
    for kernel, stride in path:
        field += (kernel - 1) * step
        step *= stride
    return field


assert receptive_field([(3, 1)] * 3) == receptive_field([(7, 1)]) == 7
assert receptive_field([(3, 1)] * 2) == receptive_field([(5, 1)]) == 5
for channels in (64, 256, 512):
    three = parameters(nn.Sequential(*(nn.Conv2d(channels, channels, 3, bias=False) for _ in range(3))))
    one = parameters(nn.Conv2d(channels, channels, 7, bias=False))
    assert three == 27 * channels**2 and one == 49 * channels**2
    print(f"{channels} channels: three layers of 3x3 {three:10,} weights, one of 7x7 {one:10,}")

# %% [markdown]
# Receptive fields grow with depth, and faster after every stride. That is the hierarchy: early layers see strokes,
# late ones see things. How far a unit *can* see is not how far it *does*: the figure is an upper bound.


# %%
def longest_path(network):
    """(kernel, stride) of the layers from the image to the last map; shortcuts skip layers, and are left out."""
    windows = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
    found = [layer for name, layer in network.named_modules() if isinstance(layer, windows) and "shortcut" not in name]
    first = [(layer.kernel_size, layer.stride) for layer in found]
    return [tuple(number[0] if isinstance(number, tuple) else number for number in pair) for pair in first]


fields = {}
for name in ("alexnet_2012", "vgg16", "resnet20", "resnet56", "resnet50"):
    with torch.device("meta"):
        path = longest_path(build_model(name))
    fields[name] = (range(1, len(path) + 1), [receptive_field(path[:depth]) for depth in range(1, len(path) + 1)])
assert [fields[name][1][-1] for name in ("alexnet_2012", "vgg16", "resnet50")] == [195, 212, 427]
assert [fields[name][1][-1] for name in ("resnet20", "resnet56")] == [81, 249]
figures.lines(
    {"Receptive field by depth": fields},
    "receptive",
    "Receptive field against the number of layers: all curves rise, and more steeply after each stride",
    x="convolutions and poolings so far",
    y="receptive field (pixels a side)",
)

# %% [markdown]
# The formula can be checked: the gradient of one unit with respect to the image is zero outside its receptive field.
# A ResNet-20 on an image of 127x127 pixels:

# %%
torch.manual_seed(0)
network = build_model("resnet20", image_size=127).double().eval()
ones = torch.rand(1, 3, 127, 127, dtype=torch.float64, requires_grad=True)
features = network.forward_features(ones)  # (1, 64, 32, 32)
features[:, :, 16, 16].sum().backward()
rows = ones.grad.abs().sum((0, 1, 3)).nonzero().flatten()
print(f"the unit sees rows {rows[0]} to {rows[-1]}: {len(rows)} pixels")
assert len(rows) == receptive_field(longest_path(network)) == 81

# %% [markdown]
# **Exercise 6.** What is the receptive field of two layers of 3x3 after a max pooling with window 2 and stride 2?
#
# <details><summary>Answer</summary>
#
# **10** pixels: 1 + 1 for the pooling, and two layers that each add two steps of 2 pixels.
#
# </details>

# %% [markdown]
# ## 7. Residual networks
#
# A residual block adds its input to its output: `y = x + f(x)`. The usual reason given is that gradients pass better
# through the identity. Let us look at gradients. Four networks, plain and residual, of 20 and 56 layers, get the same
# digits, 16x16 pixels large. For each convolution the figure shows the length of the gradient of its weights, on the
# same 128 images, before training and after four epochs.


# %%
def smaller(images):
    return (F.avg_pool2d(images, 2) - 0.17) / 0.29  # (N, 1, 16, 16), mean about zero and deviation about one


def gradient_lengths(network, images, labels):
    """Of the weights of each convolution, from the image to the answer."""
    network.zero_grad()
    F.cross_entropy(network(images), labels).backward()
    return [layer.weight.grad.norm().item() for layer in network.modules() if isinstance(layer, nn.Conv2d)]


# %% tags=["loss"]
images, labels = smaller(train_images), train_labels
at_start, after, losses = {}, {}, {}
for name in ("plain20", "resnet20", "plain56", "resnet56"):
    torch.manual_seed(0)
    network = build_model(name, in_channels=1, image_size=16).train()
    at_start[name] = gradient_lengths(network, images[:128], labels[:128])
    losses[name] = fit(network, images, labels, epochs=4, rate=0.03)
    after[name] = gradient_lengths(network, images[:128], labels[:128])
    print(f"{name:8}  loss {' '.join(f'{loss:.2f}' for loss in losses[name])}")

ratio = {name: lengths[0] / lengths[-1] for name, lengths in at_start.items()}
for name in ratio:
    print(f"{name:8}  gradient of the first over that of the last convolution: ", end="")
    print(f"{ratio[name]:.1f} before, {after[name][0] / after[name][-1]:.2f} after")
assert ratio["plain56"] > 10 * ratio["resnet56"]  # 56 plain layers: very uneven gradients at the start
assert losses["plain56"][-1] > 1 > losses["resnet56"][-1]
assert max(losses["plain20"][-1], losses["resnet20"][-1]) < 1  # with 20 layers, both train

# %%
depths = {name: range(1, len(lengths) + 1) for name, lengths in at_start.items()}
figures.lines(
    {
        "before training": {name: (depths[name], lengths) for name, lengths in at_start.items()},
        "after four epochs": {name: (depths[name], lengths) for name, lengths in after.items()},
    },
    "gradients",
    "Length of the gradient by layer, before and after training: the plain network of 56 layers is the most uneven",
    x="convolution, from the image on",
    y="length of the gradient",
    log="y",
)
figures.lines(
    {"Training": {name: (range(1, 5), curve) for name, curve in losses.items()}},
    "residual_loss",
    "Training loss by epoch: it falls slowly in the plain network of 56 layers, and to nearly zero in the other three",
    x="epoch",
    y="mean loss (nats)",
)

# %% [markdown]
# What is measured: without shortcuts, the gradients of the 56 layers differ by orders of magnitude before training.
# They do not vanish there, since batch normalisation follows every convolution: those of the first layers are the
# *larger* ones. After four epochs that network has learnt little, and the residual one of the same depth has learnt
# the task. With 20 layers, both learn.
#
# What is not measured: whether this is the reason. And residual networks are not safe from bad settings. Here is the
# same residual network at a higher learning rate:

# %% tags=["loss"]
torch.manual_seed(0)
network = build_model("resnet56", in_channels=1, image_size=16).train()
losses_at_higher_rate = fit(network, images, labels, epochs=4, rate=0.1)
print(f"resnet56  loss {' '.join(f'{loss:.2f}' for loss in losses_at_higher_rate)} at rate 0.1 instead of 0.03")
assert losses_at_higher_rate[-1] > 2 * losses["resnet56"][-1]

# %% [markdown]
# **Exercise 7.** A residual block computes `y = x + w * x` with a single number `w`. What is the derivative of `y` by
# `x` at `w = 0.01`, and what is that of 50 such blocks behind each other, rounded to two digits? And without the `x
# +`?
#
# <details><summary>Answer</summary>
#
# **1.01**, and **1.64** for 50 blocks; without the identity the latter is 0.01 to the power of 50, a one behind
# **99** zeros after the point.
#
# </details>

# %% [markdown]
# ## 8. Ten years of ImageNet
#
# A chart of the top-5 error on ImageNet ends most lectures on this subject. Its bars are not the same kind of thing:
# they are competition entries, most of them of several networks together, on the test sets of different years. Here
# each bar says what it is.

# %%
entries = [
    ("2010: NEC-UIUC, hand-made features and SVMs, ILSVRC-2010 test", 28.19),
    ("2011: XRCE, Fisher vectors, ILSVRC-2011 test", 25.77),
    ("2012: SuperVision (AlexNet), 5 networks, the data supplied", 16.42),
    ("2012: SuperVision, the entry that won: 7 networks, more data", 15.32),
    ("2013: Clarifai, several networks (often labelled ZFNet, which had 14.8)", 11.74),
    ("2014: VGG, 7 networks", 7.33),
    ("2014: GoogLeNet, 7 networks, 144 crops", 6.66),
    ("2015: ResNet, 6 networks", 3.57),
    ("a person, after 500 practice images, on 1,500 test images of 2012", 5.1),
]  # the results pages of ILSVRC 2010 to 2015; the person: Russakovsky 2015, section 6.4, annotator A1

ours = []
for name in ("alexnet", "vgg16", "resnet50", "resnet152"):
    for row in MODELS[name].published:
        if row.source == "torchvision IMAGENET1K_V1, metadata":
            assert row.data == "ImageNet val" and row.protocol == "center crop 224 of 256"
            ours.append((f"{name}: {row.source.removesuffix(', metadata')}", row.top5_error))
assert len(ours) == 4
figures.history(
    entries,
    ours,
    "history",
    "Top-5 errors of ImageNet entries from 28.19% in 2010 to 3.57% in 2015, and of single networks of the zoo below",
)
for label, wrong in entries + ours:
    print(f"{wrong:5.2f}  {label}")

# %% [markdown]
# - The upper bars of 2010 and 2011 are on other test sets than the later ones.
# - The bar of 2013 often carries the name of the ZFNet paper. The entry was Clarifai's; the paper reports 14.8% for
#   six networks.
# - The person is one well-trained annotator. A second one, with less practice, had 12.0% on 258 images.
# - The lower bars are one network, one view of each image, on the validation set. They must not be compared with an
#   ensemble above: ResNet's 3.57% is six networks together; ResNet-152 alone, in its authors' best protocol, had
#   4.49%. They are the errors that the publishers of the weights report. [The zoo](zoo.md) lists all of them with
#   their protocol.

# %%
(alone,) = [row for row in MODELS["resnet152_2015"].published if "Table 4" in row.source]
assert alone.top5_error == 4.49
notes = {"ZFNet, six networks": 14.8, "second annotator, 258 images": 12.0}  # Zeiler 2013, Table 2; Russakovsky 2015
assert notes["ZFNet, six networks"] > dict(entries)[entries[4][0]]

# %% [markdown]
# **Exercise 8.** How many of 50,000 validation images does ResNet-50 (IMAGENET1K_V1) get wrong in its first five
# answers, by the table above?
#
# <details><summary>Answer</summary>
#
# **3,569**: 7.138% of 50,000.
#
# </details>
#
# ## Where to go on
#
# - The definitions are in [models/](../models), each to be read beside its paper.
# - [Results](results.md) has what the networks reach here, beside what was published.
# - [From a program or a notebook](library.md) trains, evaluates and loads networks in a few lines.
