"""Every network by its name, as a typed function: `from models.builders import resnet50`.

`tests/test_catalogue.py` compares the names with the catalogue.
"""

from __future__ import annotations

from .alexnet import alexnet, alexnet_2012
from .lenet import lenet1, lenet4, lenet5, lenet5_1998
from .mlp import mlp
from .resnet import (
    plain18,
    plain34,
    resnet18,
    resnet34,
    resnet50,
    resnet50_2015,
    resnet101,
    resnet101_2015,
    resnet152,
    resnet152_2015,
)
from .resnet_cifar import (
    plain20,
    plain32,
    plain44,
    plain56,
    preact_resnet110,
    preact_resnet164,
    preact_resnet1001,
    resnet20,
    resnet32,
    resnet44,
    resnet56,
    resnet110,
    resnet1202,
)
from .vgg import vgg11, vgg11_bn, vgg11_lrn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg16_c, vgg19, vgg19_bn

__all__ = ["mlp"]
__all__ += ["lenet1", "lenet4", "lenet5", "lenet5_1998"]
__all__ += ["alexnet", "alexnet_2012"]
__all__ += ["vgg11", "vgg11_bn", "vgg11_lrn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg16_c", "vgg19", "vgg19_bn"]
__all__ += ["plain18", "plain34", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
__all__ += ["resnet50_2015", "resnet101_2015", "resnet152_2015"]
__all__ += ["plain20", "plain32", "plain44", "plain56"]
__all__ += ["resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet1202"]
__all__ += ["preact_resnet110", "preact_resnet164", "preact_resnet1001"]
