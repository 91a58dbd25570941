"""MNIST [LeCun 1998] and Fashion-MNIST [Xiao 2017]: 60,000 + 10,000 grey images of 28x28 pixels."""

from __future__ import annotations

from harness.config.facts import DataSet
from harness.data.sources.torchvision_files import TorchvisionFiles

CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
mnist = TorchvisionFiles(DataSet(28, 32, 1, tuple("0123456789"), 60_000, 10_000), "MNIST")
fashion_mnist = TorchvisionFiles(DataSet(28, 32, 1, CLOTHES, 60_000, 10_000), "FashionMNIST")
