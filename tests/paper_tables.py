"""The papers' tables: what every network must look like at its entry's input size, each row with its source."""

from __future__ import annotations

# Model -> its named stages in order, with their output shapes (C, H, W) or (K,).
STAGES: dict[str, list[tuple[str, tuple[int, ...]]]] = {}

# Model -> trainable numbers.
PARAMETERS: dict[str, int] = {}

# Model -> multiply-adds of convolutions and fully connected layers for one image.
MULTIPLY_ADDS: dict[str, int] = {}

# Model -> a stage, the last convolution unless a comment says otherwise, and its receptive field in pixels.
RECEPTIVE_FIELD: dict[str, tuple[str, int]] = {}


# ------------------------------------------------------------------------------------------------------------------ MLP

# LeCun 1998, section III-C.5: 28x28-300-10; it has no convolution and so no receptive field
STAGES["mlp"] = [("fc1", (300,)), ("fc2", (10,))]
PARAMETERS["mlp"] = 785 * 300 + 301 * 10
MULTIPLY_ADDS["mlp"] = 784 * 300 + 300 * 10

# ---------------------------------------------------------------------------------------------------------------- LeNet

# LeCun 1989, "Handwritten Digit Recognition with a Back-Propagation Network", NIPS 2, section 4: H1, H2, H3, H4, output
STAGES["lenet1"] = [("c1", (4, 24, 24)), ("s2", (4, 12, 12)), ("c3", (12, 8, 8)), ("s4", (12, 4, 4)), ("output", (10,))]
PARAMETERS["lenet1"] = 2_578  # LeCun 1989; LeCun 1998, section III-C.7: about 2,600
MULTIPLY_ADDS["lenet1"] = 4 * 24**2 * 25 + 20 * 8**2 * 25 + 192 * 10  # the above; LeCun 1998: about 100,000
RECEPTIVE_FIELD["lenet1"] = ("c3", 5 + 1 + 2 * 4)  # kernel 5, window 2 of stride 2, kernel 5

# LeCun 1998, section III-C.8: 4, 8, 16, 16 maps, 120 and 10 units; sizes of LeNet-5, which it is "very similar" to
STAGES["lenet4"] = [
    ("c1", (4, 28, 28)),
    ("s2", (8, 14, 14)),
    ("c3", (16, 10, 10)),
    ("s4", (16, 5, 5)),
    ("f5", (120,)),
    ("output", (10,)),
]
PARAMETERS["lenet4"] = 104 + 16 + 1_216 + 32 + 48_120 + 1_210  # ours, not the paper's 17,000: see models/lenet.py
MULTIPLY_ADDS["lenet4"] = 4 * 28**2 * 25 + 48 * 10**2 * 25 + 400 * 120 + 120 * 10
RECEPTIVE_FIELD["lenet4"] = ("c3", 14)

# LeCun 1998, Fig. 2 and section II-B
STAGES["lenet5_1998"] = [
    ("c1", (6, 28, 28)),
    ("s2", (6, 14, 14)),
    ("c3", (16, 10, 10)),
    ("s4", (16, 5, 5)),
    ("c5", (120, 1, 1)),
    ("f6", (84,)),
    ("output", (10,)),
]
PARAMETERS["lenet5_1998"] = 156 + 12 + 1_516 + 32 + 48_120 + 10_164  # 60,000, section II-B
MULTIPLY_ADDS["lenet5_1998"] = 117_600 + 150_000 + 48_000 + 10_080 + 840  # connections less biases; 840 of the output
RECEPTIVE_FIELD["lenet5_1998"] = ("c5", 32)  # section II-B: C5 sees the whole input

STAGES["lenet5"] = STAGES["lenet5_1998"]  # the same layers and sizes
PARAMETERS["lenet5"] = 156 + 2_416 + 48_120 + 10_164 + 850
MULTIPLY_ADDS["lenet5"] = 117_600 + 240_000 + 48_000 + 10_080 + 840
RECEPTIVE_FIELD["lenet5"] = ("c5", 32)

# -------------------------------------------------------------------------------------------------------------- AlexNet

# Krizhevsky 2012, Fig. 2 and section 3.5: 55, 27 and 13 are the sides drawn in the figure, both halves together
STAGES["alexnet_2012"] = [
    ("conv1", (96, 55, 55)),
    ("norm1", (96, 55, 55)),
    ("pool1", (96, 27, 27)),
    ("conv2", (256, 27, 27)),
    ("norm2", (256, 27, 27)),
    ("pool2", (256, 13, 13)),
    ("conv3", (384, 13, 13)),
    ("conv4", (384, 13, 13)),
    ("conv5", (256, 13, 13)),
    ("pool5", (256, 6, 6)),
    ("fc6", (4096,)),
    ("fc7", (4096,)),
    ("fc8", (1000,)),
]
PARAMETERS["alexnet_2012"] = (
    # kernels of section 3.5, 11x11x3, 5x5x48, 3x3x256, 3x3x192, 3x3x192, with a bias for each map or unit
    96 * (11 * 11 * 3 + 1)
    + 256 * (5 * 5 * 48 + 1)
    + 384 * (3 * 3 * 256 + 1)
    + 384 * (3 * 3 * 192 + 1)
    + 256 * (3 * 3 * 192 + 1)
    + 4096 * (256 * 6 * 6 + 1)
    + 4096 * (4096 + 1)
    + 1000 * (4096 + 1)
)
MULTIPLY_ADDS["alexnet_2012"] = 724_406_816  # the same table, each kernel times its positions
RECEPTIVE_FIELD["alexnet_2012"] = ("conv5", 163)  # 11 + (2 + 2 * 4 + 2 * 2 + (2 + 2 + 2) * 4) * 4, from section 3.5

# Krizhevsky 2014, section 5, as torchvision has it (conv4 of 256 maps)
STAGES["alexnet"] = [
    ("conv1", (64, 55, 55)),
    ("pool1", (64, 27, 27)),
    ("conv2", (192, 27, 27)),
    ("pool2", (192, 13, 13)),
    ("conv3", (384, 13, 13)),
    ("conv4", (256, 13, 13)),
    ("conv5", (256, 13, 13)),
    ("pool5", (256, 6, 6)),
    ("fc6", (4096,)),
    ("fc7", (4096,)),
    ("fc8", (1000,)),
]
PARAMETERS["alexnet"] = 61_100_840  # torchvision, AlexNet_Weights.IMAGENET1K_V1.meta["num_params"]
MULTIPLY_ADDS["alexnet"] = 714_188_480  # torchvision, the same meta["_ops"]: 0.714 billion
RECEPTIVE_FIELD["alexnet"] = ("conv5", 163)  # the kernels and strides of 2012

# ------------------------------------------------------------------------------------------------------------------ VGG

# Simonyan 2014, Table 1: layers of each stage; a maximum over 2x2 halves the side after each
_VGG_LAYERS = {
    "vgg11": (1, 1, 2, 2, 2),  # A
    "vgg11_lrn": (1, 1, 2, 2, 2),  # A-LRN
    "vgg13": (2, 2, 2, 2, 2),  # B
    "vgg16_c": (2, 2, 3, 3, 3),  # C
    "vgg16": (2, 2, 3, 3, 3),  # D
    "vgg19": (2, 2, 4, 4, 4),  # E
    "vgg11_bn": (1, 1, 2, 2, 2),
    "vgg13_bn": (2, 2, 2, 2, 2),
    "vgg16_bn": (2, 2, 3, 3, 3),
    "vgg19_bn": (2, 2, 4, 4, 4),
}
for _name, _layers in _VGG_LAYERS.items():
    STAGES[_name] = []
    for _stage, (_maps, _side) in enumerate([(64, 224), (128, 112), (256, 56), (512, 28), (512, 14)], start=1):
        STAGES[_name] += [(f"conv{_stage}_{i + 1}", (_maps, _side, _side)) for i in range(_layers[_stage - 1])]
        STAGES[_name] += [(f"pool{_stage}", (_maps, _side // 2, _side // 2))]
    STAGES[_name] += [("fc6", (4096,)), ("fc7", (4096,)), ("fc8", (1000,))]

PARAMETERS |= {  # Simonyan 2014, Table 2: 133, 133, 134, 138 and 144 million; the names of torchvision: its metadata
    "vgg11": 132_863_336,
    "vgg11_lrn": 132_863_336,  # response normalisation has no parameters
    "vgg13": 133_047_848,
    "vgg16_c": 133_638_952,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg13_bn": 133_053_736,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
}
MULTIPLY_ADDS |= {  # Simonyan 2014, Table 1, kernels times positions; torchvision: 7.609, 11.308, 15.470, 19.632e9
    "vgg11": 7_609_090_048,
    "vgg11_lrn": 7_609_090_048,
    "vgg13": 11_308_466_176,
    "vgg16_c": 11_770_888_192,
    "vgg16": 15_470_264_320,
    "vgg19": 19_632_062_464,
    "vgg11_bn": 7_609_090_048,
    "vgg13_bn": 11_308_466_176,
    "vgg16_bn": 15_470_264_320,
    "vgg19_bn": 19_632_062_464,
}
RECEPTIVE_FIELD |= {  # Simonyan 2014, Table 1: a 3x3 adds 2, a 1x1 none, a maximum 1, each times the stride so far
    "vgg11": ("conv5_2", 134),
    "vgg11_lrn": ("conv5_2", 134),
    "vgg13": ("conv5_2", 140),
    "vgg16_c": ("conv5_3", 140),
    "vgg16": ("conv5_3", 196),
    "vgg19": ("conv5_4", 252),
    "vgg11_bn": ("conv5_2", 134),
    "vgg13_bn": ("conv5_2", 140),
    "vgg16_bn": ("conv5_3", 196),
    "vgg19_bn": ("conv5_4", 252),
}

# --------------------------------------------------------------------------------------------------------------- ResNet

# He 2015, Table 1: side of each stage, maps of its last layer; conv2_x begins with the 3x3 maximum
for _ends, _names in {
    (64, 128, 256, 512): ("plain18", "plain34", "resnet18", "resnet34"),
    (256, 512, 1024, 2048): (
        *("resnet50", "resnet101", "resnet152"),
        *("resnet50_2015", "resnet101_2015", "resnet152_2015"),
    ),
}.items():
    for _name in _names:
        STAGES[_name] = [("conv1", (64, 112, 112)), ("pool1", (64, 56, 56))]
        STAGES[_name] += [(f"conv{i + 2}_x", (_ends[i], 56 >> i, 56 >> i)) for i in range(4)]
        STAGES[_name] += [("average", (_ends[3], 1, 1)), ("fc", (1000,))]

PARAMETERS |= {  # kernels of He 2015, Table 1, two numbers for each map that a batch norm sees, option B
    "plain18": 11_515_688,
    "plain34": 21_623_848,
    "resnet18": 11_689_512,  # this and those of 34, 50, 101 and 152: torchvision, meta["num_params"]
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnet50_2015": 25_557_032,  # a stride has no parameters
    "resnet101_2015": 44_549_160,
    "resnet152_2015": 60_192_808,
}
MULTIPLY_ADDS |= {  # He 2015, Table 1: 1.8, 3.6, 3.8, 7.6 and 11.3e9; torchvision: 4.089, 7.801 and 11.514e9 of v1.5
    "plain18": 1_794_805_760,
    "plain34": 3_644_493_824,
    "resnet18": 1_814_073_344,
    "resnet34": 3_663_761_408,
    "resnet50": 4_089_184_256,
    "resnet101": 7_801_405_440,
    "resnet152": 11_513_626_624,
    "resnet50_2015": 3_857_973_248,
    "resnet101_2015": 7_570_194_432,
    "resnet152_2015": 11_282_415_616,
}
# He 2015, Table 1: 7, then 2 * 2 of the maximum, then for each 3x3 twice the stride so far; shortcuts add nothing
_RESNET_3X3 = {  # name -> the strides that the 3x3 of conv2_x to conv5_x see
    "18": [4] * 4 + [4] + [8] * 3 + [8] + [16] * 3 + [16] + [32] * 3,
    "34": [4] * 6 + [4] + [8] * 7 + [8] + [16] * 11 + [16] + [32] * 5,
    # v1.5: the first 3x3 of a stage comes before its stride
    "50": [4] * 3 + [4] + [8] * 3 + [8] + [16] * 5 + [16] + [32] * 2,
    "101": [4] * 3 + [4] + [8] * 3 + [8] + [16] * 22 + [16] + [32] * 2,
    "152": [4] * 3 + [4] + [8] * 7 + [8] + [16] * 35 + [16] + [32] * 2,
    "50_2015": [4] * 3 + [8] * 4 + [16] * 6 + [32] * 3,
    "101_2015": [4] * 3 + [8] * 4 + [16] * 23 + [32] * 3,
    "152_2015": [4] * 3 + [8] * 8 + [16] * 36 + [32] * 3,
}
for _name, _strides in _RESNET_3X3.items():
    RECEPTIVE_FIELD[f"resnet{_name}"] = ("conv5_x", 7 + 2 * 2 + sum(2 * stride for stride in _strides))
RECEPTIVE_FIELD["plain18"] = RECEPTIVE_FIELD["resnet18"]
RECEPTIVE_FIELD["plain34"] = RECEPTIVE_FIELD["resnet34"]

# --------------------------------------------------------------------------------------------------- ResNet for CIFAR

# He 2015, section 4.2: sides 32, 16, 8 and 16, 32, 64 maps; 1 + 2n, 2n and 2n layers
_CIFAR_N = {
    3: ("resnet20", "plain20"),
    5: ("resnet32", "plain32"),
    7: ("resnet44", "plain44"),
    9: ("resnet56", "plain56"),
    18: ("resnet110", "preact_resnet110"),
    200: ("resnet1202",),
}
for _n, _names in _CIFAR_N.items():
    for _name in _names:
        STAGES[_name] = [
            ("conv1", (16, 32, 32)),
            ("conv2_x", (16, 32, 32)),
            ("conv3_x", (32, 16, 16)),
            ("conv4_x", (64, 8, 8)),
            ("average", (64, 1, 1)),
            ("fc", (10,)),
        ]
        # kernels, a batch norm of two numbers for each map, the last layer; option A has no parameters, and
        # pre-activation has as many batch norms of the same maps
        PARAMETERS[_name] = (
            (27 + 2) * 16
            + 2 * _n * (9 * 16 + 2) * 16
            + (9 * 16 + 2) * 32
            + (2 * _n - 1) * (9 * 32 + 2) * 32
            + (9 * 32 + 2) * 64
            + (2 * _n - 1) * (9 * 64 + 2) * 64
            + 650
        )
        MULTIPLY_ADDS[_name] = (
            32**2 * (27 * 16 + 2 * _n * 9 * 16**2)
            + 16**2 * (9 * 16 * 32 + (2 * _n - 1) * 9 * 32**2)
            + 8**2 * (9 * 32 * 64 + (2 * _n - 1) * 9 * 64**2)
            + 640
        )
        RECEPTIVE_FIELD[_name] = (
            "conv4_x",
            3 + 2 * (2 * _n * 1 + 1 + (2 * _n - 1) * 2 + 2 + (2 * _n - 1) * 4),
        )
# He 2016, appendix: three-layer blocks of 64, 128 and 256 maps, 9n + 2 layers, stride on the first 1x1
for _depth, _n in {164: 18, 1001: 111}.items():
    _name = f"preact_resnet{_depth}"
    STAGES[_name] = [
        ("conv1", (16, 32, 32)),
        ("conv2_x", (64, 32, 32)),
        ("conv3_x", (128, 16, 16)),
        ("conv4_x", (256, 8, 8)),
        ("bn", (256, 8, 8)),
        ("average", (256, 1, 1)),
        ("fc", (10,)),
    ]
    # kernels of the three layers and of the projections; the first layer's, the last's
    PARAMETERS[_name], MULTIPLY_ADDS[_name] = 27 * 16 + 2 * 256 + 2_570, 32**2 * 27 * 16 + 2_560
    for _in, _m, _side in ((16, 16, 32), (64, 32, 16), (128, 64, 8)):
        _kernels = _in * 4 * _m + sum(i * _m + 9 * _m * _m + _m * 4 * _m for i in [_in] + [4 * _m] * (_n - 1))
        PARAMETERS[_name] += _kernels + sum(2 * (i + 2 * _m) for i in [_in] + [4 * _m] * (_n - 1))
        MULTIPLY_ADDS[_name] += _side**2 * _kernels
    RECEPTIVE_FIELD[_name] = ("conv4_x", 3 + 2 * _n * (1 + 2 + 4))
