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
# # Quick start
#
# Train two networks on real handwritten digits, look at what they got wrong, compare them, and take features out of
# one: offline, in a minute or two on a CPU. The notebook `quickstart.ipynb` is made from `quickstart.py` by
# `jupytext --to ipynb examples/quickstart.py`.

# %%
from pathlib import Path
from tempfile import mkdtemp

from harness import compose, load, train

runs = Path(mkdtemp())
settings = {"data": "digits", "recipe.epochs": 10, "recipe.warmup_epochs": 1, "runs": runs}
lenet = train(compose("train", model="lenet5", **settings))
mlp = train(compose("train", model="mlp", **settings))
for run in (lenet, mlp):
    low, high = run.result["top1_error_interval_95"]
    error, images = run.result["top1_error"], run.result["seen"]
    print(f"{run.folder.parent.name}: {error:.2f}% of {images} images wrong (95% interval {low:.2f} to {high:.2f}%)")

# %% [markdown]
# ## Look
#
# A run's folder holds its curves, and `predictions_readable.csv` what it answered for each picture.

# %%
from IPython.display import Image, display

display(Image(lenet.folder / "curves.png", width=560))
print(*sorted(path.name for path in lenet.folder.iterdir() if path.is_file()), sep="\n")

# %%
import csv

with (lenet.folder / "predictions_readable.csv").open(encoding="utf-8") as file:
    answers = list(csv.DictReader(file))
print(list(answers[0]))
wrong = [answer for answer in answers if answer["label"] != answer["class_1"]]
for answer in wrong[:5]:
    print(f"{answer['image']}: a {answer['label']}, taken for a {answer['class_1']} ({answer['probability_1']})")

# %% [markdown]
# ## Predict
#
# A loaded network prepares pictures as in its training: files, Pillow images or arrays of 8 bits.

# %%
import numpy as np
from sklearn.datasets import load_digits

network = load(lenet.folder)
digits = load_digits()
picture = np.kron(digits.images[0] * 15.9, np.ones((3, 3))).astype(np.uint8)  # 24 x 24 pixels, 0 to 254
print(network.predict([picture])[0], "is a", digits.target[0])

# %% [markdown]
# ## Compare
#
# Both networks saw the same test images, so the images on which they differ tell whether the difference is real.

# %%
from harness.comparison.paired import mcnemar, read_right

(images, lenet_right), (same_images, mlp_right) = (read_right(run.folder / "predictions.csv") for run in (lenet, mlp))
assert images == same_images
only_lenet, only_mlp = int((lenet_right & ~mlp_right).sum()), int((mlp_right & ~lenet_right).sum())
print(f"only LeNet-5 right: {only_lenet}, only the MLP right: {only_mlp}, p = {mcnemar(only_lenet, only_mlp):.3f}")

# %% [markdown]
# ## Features
#
# The stages of a network have the names of the paper; torchvision takes any of them out.

# %%
import torch
from torchvision.models.feature_extraction import create_feature_extractor

stages = create_feature_extractor(network.network, ["c1", "c3", "f6"])
with torch.no_grad():
    features = stages(network.preprocess(picture)[None])
print({name: tuple(value.shape) for name, value in features.items()})

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(1, 6, figsize=(9, 1.8))
for axis, feature_map in zip(axes, features["c1"][0], strict=True):
    axis.imshow(feature_map, cmap="gray")
    axis.axis("off")
figure.suptitle("The six feature maps of c1")
