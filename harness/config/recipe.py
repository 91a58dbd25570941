"""Settings of training, `recipe.*`: everything that can change an error rate, apart from the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.config.fields import Declared, chosen, setting, written
from harness.config.protocol import MOST_IMAGES, PRECISIONS
from harness.errors import UserError

LOSSES = ("cross_entropy", "binary_cross_entropy", "lecun_mle", "lecun_map")
SOFT_LOSSES = LOSSES[:2]  # those that take targets between 0 and 1
OPTIMIZERS = ("sgd", "adamw", "rmsprop", "lamb")
FUSED = ("sgd", "adamw")  # optimisers that torch has as one kernel
SCHEDULES = ("constant", "step", "cosine", "polynomial", "one_cycle", "plateau")
AUTO_AUGMENTS = ("trivial_augment_wide", "rand_augment", "rand_augment_increasing")
RAND_AUGMENT = (2, 9)  # operations and magnitude of torchvision's
STRONGEST = 10  # magnitude of rand_augment_increasing


@dataclass
class RecipeConfig(Declared):
    """How a network is trained."""

    group: ClassVar[str] = "recipe"
    name: str = chosen("recipe")
    epochs: int = setting(
        "passes over the training split; milestones and warm-up are shortened or lengthened with it unless "
        "they are set, too",
        least=1,
        most=1_000_000,
        aliases=("num_epochs", "n_epochs", "nb_epochs"),
    )
    batch_size: int = setting(
        "number of images of one optimiser step, over all devices together",
        least=1,
        most=MOST_IMAGES,
        aliases=("bs", "batch"),
    )
    loss: str = setting("loss that training minimises", choices=LOSSES, aliases=("criterion", "loss_fn"))
    label_smoothing: float = setting(
        "share of each target that is spread evenly over all classes; 0 leaves it with the right class",
        0.0,
        least=0,
        below=1,
        aliases=("smoothing",),
    )
    bce_threshold: float | None = setting(
        "share above which a class counts as wholly present in loss=binary_cross_entropy, and below as absent; null "
        "takes shares as they are",
        None,
        above=0,
        below=1,
        aliases=("bce_target_thresh", "target_threshold"),
    )
    mixup: float = setting(
        "parameter of the Beta distribution of the share with which mixup blends two images; 0 does not blend; with "
        "cutmix, each batch gets one of the two at random",
        0.0,
        least=0,
        most=100,
        aliases=("mixup_alpha",),
    )
    cutmix: float = setting(
        "parameter of the Beta distribution of the area that an image keeps when cutmix pastes a part of another into "
        "it; 0 pastes nothing",
        0.0,
        least=0,
        most=100,
        aliases=("cutmix_alpha",),
    )
    learning_rate: float = setting(
        "highest learning rate of the schedule", least=0, aliases=("lr", "base_lr", "max_lr")
    )
    momentum: float = setting(
        "momentum of sgd and rmsprop, where the learning rate multiplies the velocity, as in torch; beta1 of adamw and "
        "lamb",
        least=0,
        below=1,
    )
    nesterov: bool = setting("whether the momentum of sgd is Nesterov's")
    weight_decay: float = setting(
        "L2 penalty on every parameter; of adamw, the decay that is apart from the gradient",
        least=0,
        aliases=("wd", "l2", "decay"),
    )
    schedule: str = setting(
        "schedule of the learning rate: constant; step (times gamma at each milestone); cosine (to 0 at the end); "
        "polynomial (to 0 at the end, by power); one_cycle (torch's OneCycleLR: a cosine from 1/25 up to the rate "
        "during the warm-up, and down to 1/250000 at the end); plateau (times gamma when the validation error stops "
        "falling)",
        choices=SCHEDULES,
        aliases=("scheduler", "lr_scheduler", "lr_schedule", "sched"),
    )
    milestones: list[float] = setting(
        "epochs after which schedule=step multiplies the rate by gamma",
        least=0,
        rising=True,
        aliases=("lr_steps", "steps"),
    )
    milestone_steps: list[int] = setting(
        "optimiser steps after which schedule=step does so, instead of milestones",
        [],
        least=1,
        most=1_000_000_000,
        rising=True,
    )
    gamma: float = setting("factor of the learning rate at a milestone or plateau", least=0, aliases=("lr_gamma",))
    milestone_factors: list[float] = setting(
        "share of learning_rate after each milestone of schedule=step, for drops that differ; empty: gamma at each",
        [],
        least=0,
    )
    warmup_epochs: float = setting(
        "epochs over which the learning rate rises linearly at the start", least=0, aliases=("warmup",)
    )
    optimizer: str = setting(
        "optimiser: sgd, adamw and rmsprop are torch's; lamb is timm's, which scales gradients with a norm above 1 "
        "down to 1 unless clip_norm is set",
        "sgd",
        choices=OPTIMIZERS,
        aliases=("opt", "optim"),
    )
    norm_weight_decay: float | None = setting(
        "weight decay of normalisation layers; null: the same as of the rest", None, least=0, aliases=("norm_wd",)
    )
    bias_weight_decay: float | None = setting(
        "weight decay of the biases of other layers; null: the same as of the rest",
        None,
        least=0,
        aliases=("bias_wd", "bias_decay"),
    )
    clip_norm: float | None = setting(
        "norm of all gradients together above which they are scaled down to it; null: they never are",
        None,
        above=0,
        aliases=("clip_grad", "clip_grad_norm", "grad_clip", "gradient_clip_val", "max_grad_norm"),
    )
    warmup_steps: int | None = setting(
        "optimiser steps over which the learning rate rises at the start, instead of warmup_epochs",
        None,
        least=1,
        most=1_000_000_000,
        aliases=("warmup_iters", "warmup_iterations"),
    )
    warmup_rate: float | None = setting(
        "constant learning rate of the warm-up, instead of one that rises linearly", None, above=0
    )
    power: float = setting(
        "power of schedule=polynomial; 1 is a straight line", 1.0, above=0, most=100, aliases=("lr_power",)
    )
    lowest_momentum: float | None = setting(
        "momentum at the peak of schedule=one_cycle, which begins and ends with momentum; null: it stays the same",
        None,
        least=0,
        below=1,
        aliases=("base_momentum",),
    )
    plateau_patience: int = setting(
        "number of epochs in a row without fewer validation errors than ever before, after which schedule=plateau "
        "multiplies the rate by gamma",
        5,
        least=1,
        aliases=("patience_epochs",),
    )
    crop_padding: int | None = setting(
        "pixels of background added to each side of an image in memory before a random crop; 0 crops nothing; null: "
        "this recipe is not for images in memory",
        least=0,
        most=256,
    )
    flip: bool = setting("whether half of the images are mirrored", aliases=("hflip", "horizontal_flip"))
    precision: str = setting("arithmetic, by Lightning's name", choices=PRECISIONS, aliases=("amp", "fp16", "bf16"))
    crop_area: list[float] = setting(
        "smallest and largest area of a random crop, as a share of the area of an image in a file; empty: resize_range "
        "says what is cropped, or this recipe is not for images in files",
        [],
        above=0,
        most=1,
        lengths=(0, 2),
        rising=True,
        aliases=("scale",),
    )
    crop_aspect: list[float] = setting(
        "smallest and largest ratio of width to height of a random crop",
        [],
        above=0,
        most=100,
        lengths=(0, 2),
        rising=True,
        aliases=("ratio",),
    )
    resize_range: list[int] = setting(
        "smallest and largest shorter edge in pixels that an image in a file is resized to before a random crop of the "
        "input's size; empty: crop_area says what is cropped",
        [],
        least=1,
        most=10_000,
        lengths=(0, 2),
        rising=True,
        aliases=("scale_jitter",),
    )
    distortion: list[float] = setting(
        "strengths of a random affine distortion of images in memory: translation in pixels, then scaling, squeezing "
        "and horizontal shearing as shares of the size; empty: none",
        [],
        least=0,
        most=256,
        lengths=(0, 4),
        aliases=("affine", "distort"),
    )
    color_jitter: list[float] = setting(
        "strengths of random changes of brightness, contrast, saturation and, if there is a fourth, hue; empty: none",
        [],
        least=0,
        most=1,
        lengths=(0, 3, 4),
        aliases=("jitter", "colour_jitter"),
    )
    auto_augment: str | None = setting(
        "random operations on each image after crop and flip: two as in torchvision, or the RandAugment of timm that "
        "grows stronger with its magnitude; null: none",
        None,
        choices=AUTO_AUGMENTS,
        aliases=("aa", "autoaugment"),
    )
    rand_augment_ops: int = setting(
        "number of operations of either RandAugment on an image",
        RAND_AUGMENT[0],
        least=1,
        most=14,
        aliases=("num_ops",),
    )
    rand_augment_magnitude: int = setting(
        "magnitude of the operations: in thirtieths of the strongest of auto_augment=rand_augment; in tenths, with "
        "noise, of rand_augment_increasing",
        RAND_AUGMENT[1],
        least=0,
        most=30,
        aliases=("magnitude",),
    )
    lighting: float = setting(
        "standard deviation of the random amounts of the principal components of colour that are added to an image",
        0.0,
        least=0,
        most=100,
        aliases=("pca", "alphastd"),
    )
    erasing: float = setting(
        "probability that a random rectangle of an image is replaced by the mean colour",
        0.0,
        least=0,
        most=1,
        aliases=("random_erase", "random_erasing", "reprob"),
    )
    warmups: dict[str, int] = setting(
        "steps of the warm-up of networks that need one; warmup_steps takes its value from here", {}, least=1
    )
    average_decay: float | None = setting(
        "share of an exponential average of the weights that is kept when the trained ones enter it; until the warm-up "
        "is over it is a plain copy; validation, report and checkpoints then have the average, as with "
        "average_last_epochs; null: the weights as they are",
        None,
        least=0,
        below=1,
        aliases=("ema", "ema_decay", "model_ema", "model_ema_decay"),
    )
    average_every: int = setting(
        "optimiser steps between two times that the trained weights enter the average of average_decay",
        1,
        least=1,
        aliases=("model_ema_steps", "ema_steps"),
    )
    average_last_epochs: int | None = setting(
        "number of last epochs of whose ends the mean of the weights is taken: stochastic weight averaging; null: none",
        None,
        least=1,
        aliases=("swa", "swa_epochs"),
    )
    exact_batch_norm: bool = setting(
        "whether the network is reported with batch statistics of one more pass of training images, not running ones",
        False,
        aliases=("precise_bn",),
    )
    sync_batch_norm: bool = setting(
        "whether batch norms use the statistics of all GPUs' images together, not of each GPU's own",
        False,
        aliases=("sync_bn", "sync_batchnorm", "syncbn"),
    )
    train_size: list[int] = setting(
        "side in pixels of random crops of images in files, or the sides at the start and at the end of size_ramp; "
        "empty: the network's input size, at which every evaluation crops",
        [],
        least=1,
        most=8192,
        lengths=(0, 1, 2),
        rising=True,
        aliases=("train_crop_size", "train_res"),
    )
    size_ramp: list[float] = setting(
        "epochs, counted from 0, up to which crops have the first train_size and from which they have the second; "
        "between, each epoch has its own, a multiple of 32",
        [],
        least=0,
        lengths=(0, 2),
        rising=True,
        aliases=("start_ramp", "end_ramp"),
    )
    repeats: int = setting(
        "number of times that an epoch holds each of its images, with other draws each time; it then holds as many "
        "images as ever, but only one in so many of the split's",
        1,
        least=1,
        most=1000,
        aliases=("ra_reps", "aug_repeats", "repeated_aug"),
    )
    stochastic_depth: float = setting(
        "probability with which an image skips the layers of the last residual block; it rises evenly from 0 for the "
        "first block",
        0.0,
        least=0,
        below=1,
        aliases=("drop_path", "drop_path_rate", "stochastic_depth_prob"),
    )
    learning_rates: dict[str, float] = setting(
        "learning rates of networks that need their own; learning_rate takes its value from here", {}, least=0
    )
    channels_last: bool = setting("whether images and weights lie in memory with their channels last", False)
    compile: bool = setting("whether torch compiles the network", False, aliases=("torch_compile",))
    cuda_graphs: bool = setting(
        "whether a compiled network is recorded once and replayed on a GPU, which spares small networks the time to "
        "launch their kernels",
        False,
    )
    fused: bool = setting("whether sgd or adamw updates all weights in one kernel", False)
    deterministic: bool = setting(
        "whether a GPU uses the same algorithms, which give the same sums, in every run; false: whichever are fastest",
        True,
        aliases=("cudnn_deterministic",),
    )
    trains: str = setting(
        "what is trained: the network, or only its head, the last linear layer, on features that are computed once",
        "network",
        choices=("network", "head"),
    )
    class_weights: str | None = setting(
        "weights of the classes in the loss: balanced divides an image's loss by its class's share of the training "
        "split; null weighs all alike",
        None,
        choices=("balanced",),
    )
    patience: int | None = setting(
        "number of epochs without a better validation error after which training stops and the best epoch is "
        "reported; null trains to the end and reports the last epoch",
        None,
        least=1,
        aliases=("early_stopping",),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and self.momentum == 0:
            raise UserError("recipe.nesterov=true needs recipe.momentum above 0")
        if self.nesterov and self.optimizer != "sgd":
            raise UserError(f"recipe.nesterov=true recipe.optimizer={self.optimizer}: Nesterov's momentum is for sgd")
        self._check_milestones()
        if self.warmup_epochs >= self.epochs:
            raise UserError(
                f"recipe.warmup_epochs={self.warmup_epochs:g}: must be less than recipe.epochs={self.epochs}"
            )
        if self.warmup_steps is not None or self.warmup_rate is not None:
            self._check_warmup()
        if self.schedule == "one_cycle" or self.lowest_momentum is not None:
            self._check_one_cycle()
        if bool(self.crop_area) != bool(self.crop_aspect):
            raise UserError(
                f"recipe.crop_area={written(self.crop_area)} recipe.crop_aspect={written(self.crop_aspect)}: a random "
                "crop needs both, such as [0.08,1] and [0.75,1.33]"
            )
        self._check_augmentation()
        self._check_sizes()
        augmented = self.flip or self.crop_padding or self.crop_area or self.resize_range
        if self.trains == "head" and (augmented or self.changes_pixels):
            raise UserError(
                "recipe.trains=head computes the features of each image once, without flips and crops: choose "
                "recipe=linear_probe, or set recipe.flip=false, recipe.crop_padding=null, recipe.crop_area=[], and no "
                "other augmentation"
            )
        if self.trains == "head" and (self.repeats > 1 or self.stochastic_depth):
            raise UserError(
                f"recipe.repeats={self.repeats} recipe.stochastic_depth={self.stochastic_depth:g}: recipe.trains=head "
                "computes the features of each image once; set them to 1 and 0"
            )
        if self.class_weights is not None and self.loss != "cross_entropy":
            raise UserError(f"recipe.class_weights={self.class_weights}: works only with recipe.loss=cross_entropy")
        self._check_targets()
        self._check_average()
        self._check_speed()

    @property
    def reports_a_copy(self) -> bool:
        """Whether another network than the trained one is reported."""
        return self.average_decay is not None or self.average_last_epochs is not None or self.exact_batch_norm

    def _check_speed(self) -> None:
        if self.cuda_graphs and not self.compile:
            raise UserError("recipe.cuda_graphs=true: needs recipe.compile=true, which makes what is recorded")
        if self.fused and self.optimizer not in FUSED:
            raise UserError(f"recipe.fused=true recipe.optimizer={self.optimizer}: only {' and '.join(FUSED)} can be")
        if self.fused and self.precision == "16-mixed":
            raise UserError(
                "recipe.fused=true recipe.precision=16-mixed: a fused optimiser takes gradients with the scale of "
                "float16, which recipe.clip_norm and trainer.gradient_norms would measure; choose bf16-mixed"
            )

    def _check_average(self) -> None:
        if self.average_every != 1 and self.average_decay is None:
            raise UserError(f"recipe.average_every={self.average_every}: needs recipe.average_decay, such as 0.999")
        if self.exact_batch_norm and self.trains == "head":
            raise UserError("recipe.exact_batch_norm=true recipe.trains=head: trains no batch norm; leave out one")
        if self.exact_batch_norm and self.patience is not None:
            raise UserError(
                f"recipe.exact_batch_norm=true recipe.patience={self.patience}: a run that may end early does not know "
                "its last epoch, after which statistics are computed; leave out one"
            )
        last = f"recipe.average_last_epochs={self.average_last_epochs}"
        if self.average_last_epochs is None:
            return
        if self.average_decay is not None:
            raise UserError(f"recipe.average_decay={self.average_decay:g} {last}: set one of the two to null")
        if self.average_last_epochs > self.epochs:
            raise UserError(f"{last}: must be at most recipe.epochs={self.epochs}")
        if self.patience is not None:
            raise UserError(
                f"{last} recipe.patience={self.patience}: a run that may end early does not know its last epochs; set "
                "one of the two to null"
            )

    def size_at(self, epoch: int, own: int) -> int:
        """Return the side of an epoch's random crops in pixels [ffcv-imagenet, train_imagenet.py, get_resolution].

        Args:
            epoch: counted from 0.
            own: side of the network's input.
        """
        if not self.train_size:
            return own
        first, last = self.train_size[0], self.train_size[-1]
        start, end = self.size_ramp or (0, 0)
        if epoch <= start or first == last:
            return first
        if epoch >= end:
            return last
        between = first + (last - first) * (epoch - start) / (end - start)
        return min(max(32 * round(between / 32), first), last)

    def _check_sizes(self) -> None:
        """Check `train_size` and `size_ramp`, which say at what size images are trained on.

        Raises:
            UserError: one of them lacks the other, or no image is cropped.
        """
        if (len(self.train_size) == 2) != bool(self.size_ramp):
            raise UserError(
                f"recipe.train_size={written(self.train_size)} recipe.size_ramp={written(self.size_ramp)}: two sizes "
                "need the two epochs between which the first becomes the second, such as recipe.train_size=[160,192] "
                "recipe.size_ramp=[11,13]"
            )
        if self.train_size and not (self.crop_area or self.resize_range):
            raise UserError(
                f"recipe.train_size={written(self.train_size)}: is for random crops of images in files, and this "
                "recipe has none; set recipe.train_size=[] recipe.size_ramp=[]"
            )

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with a partner of their batch."""
        return self.mixup > 0 or self.cutmix > 0

    def _check_targets(self) -> None:
        """Check the settings that make targets other than one class.

        Raises:
            UserError: two of them do not work together.
        """
        mixing = f"recipe.mixup={self.mixup:g} recipe.cutmix={self.cutmix:g}"
        softened = mixing if self.mixes else f"recipe.label_smoothing={self.label_smoothing:g}"
        if (self.mixes or self.label_smoothing) and self.loss not in SOFT_LOSSES:
            raise UserError(f"{softened}: works only with recipe.loss={' or '.join(SOFT_LOSSES)}, not {self.loss}")
        if (self.mixes or self.label_smoothing) and self.class_weights is not None:
            raise UserError(f"{softened}: does not work with recipe.class_weights={self.class_weights}; set it to null")
        if self.mixes and self.trains == "head":
            raise UserError(f"{mixing}: recipe.trains=head has no images to mix, only their features; set both to 0")
        if self.mixes and self.batch_size == 1:
            raise UserError(f"{mixing}: needs recipe.batch_size of at least 2, to have images to mix")
        if self.bce_threshold is None:
            return
        if self.loss != "binary_cross_entropy":
            raise UserError(
                f"recipe.bce_threshold={self.bce_threshold:g}: works only with recipe.loss=binary_cross_entropy"
            )
        if self.label_smoothing:
            raise UserError(
                f"recipe.bce_threshold={self.bce_threshold:g} recipe.label_smoothing={self.label_smoothing:g}: the "
                "threshold makes every target 0 or 1 again; set one of the two"
            )

    def _check_milestones(self) -> None:
        milestones = self.milestones or self.milestone_steps
        if self.schedule == "step" and not milestones:
            raise UserError("recipe.schedule=step needs recipe.milestones, such as [82,123]")
        if self.milestones and self.milestone_steps:
            raise UserError(
                f"recipe.milestones={written(self.milestones)} recipe.milestone_steps={written(self.milestone_steps)}: "
                "give one of them, and [] for the other"
            )
        if self.milestone_factors and (self.schedule, len(self.milestone_factors)) != ("step", len(milestones)):
            raise UserError(
                f"recipe.milestone_factors={written(self.milestone_factors)}: needs recipe.schedule=step and one "
                f"factor for each milestone, of which there are {len(milestones)}"
            )

    def _check_one_cycle(self) -> None:
        lowest = self.lowest_momentum
        if lowest is not None and self.schedule != "one_cycle":
            raise UserError(f"recipe.lowest_momentum={lowest:g}: needs recipe.schedule=one_cycle")
        if lowest is not None and lowest > self.momentum:
            raise UserError(
                f"recipe.lowest_momentum={lowest:g}: must be at most recipe.momentum={self.momentum:g}, with which a "
                "cycle begins"
            )
        if self.warmup_epochs == 0 and self.warmup_steps is None:
            raise UserError(
                "recipe.schedule=one_cycle rises in the warm-up: set recipe.warmup_epochs; torch takes 0.3 of all"
            )
        if self.warmup_rate is not None:
            raise UserError(
                f"recipe.warmup_rate={self.warmup_rate:g}: recipe.schedule=one_cycle rises in the warm-up: leave it out"
            )

    def _check_warmup(self) -> None:
        if self.warmup_steps is not None and self.warmup_epochs:
            raise UserError(
                f"recipe.warmup_steps={self.warmup_steps} recipe.warmup_epochs={self.warmup_epochs:g}: give one of "
                "them; recipe.warmup_epochs=0 leaves the steps alone"
            )
        if self.warmup_steps is None and not self.warmup_epochs and not self.warmups:
            raise UserError(
                f"recipe.warmup_rate={self.warmup_rate:g}: needs recipe.warmup_epochs or recipe.warmup_steps"
            )

    @property
    def changes_pixels(self) -> bool:
        """Whether training images are augmented by more than a flip and a crop."""
        return bool(self.distortion or self.color_jitter or self.auto_augment or self.lighting or self.erasing)

    def _check_augmentation(self) -> None:
        if self.crop_area and self.resize_range:
            raise UserError(
                f"recipe.crop_area={written(self.crop_area)} recipe.resize_range={written(self.resize_range)}: a "
                "random crop has one of them: leave recipe.resize_range out, or set recipe.crop_area=[] "
                "recipe.crop_aspect=[]"
            )
        if any(strength >= 1 for strength in self.distortion[1:]):
            raise UserError(
                f"recipe.distortion={written(self.distortion)}: the strengths of scaling, squeezing and shearing, the "
                "second to the fourth, must be below 1"
            )
        if any(hue > 0.5 for hue in self.color_jitter[3:]):
            raise UserError(
                f"recipe.color_jitter={written(self.color_jitter)}: the strength of hue, the fourth, must be at most "
                "0.5, half of the circle of colours"
            )
        if self.auto_augment and self.color_jitter:
            raise UserError(
                f"recipe.auto_augment={self.auto_augment} recipe.color_jitter={written(self.color_jitter)}: choose one "
                "of them; auto_augment changes brightness, contrast and colour itself"
            )
        others = self.auto_augment in (None, "trivial_augment_wide")
        if others and (self.rand_augment_ops, self.rand_augment_magnitude) != RAND_AUGMENT:
            raise UserError(
                f"recipe.rand_augment_ops={self.rand_augment_ops} recipe.rand_augment_magnitude="
                f"{self.rand_augment_magnitude}: need recipe.auto_augment=rand_augment or rand_augment_increasing"
            )
        if self.auto_augment == "rand_augment_increasing" and self.rand_augment_magnitude > STRONGEST:
            raise UserError(
                f"recipe.rand_augment_magnitude={self.rand_augment_magnitude}: must be at most {STRONGEST} with "
                "recipe.auto_augment=rand_augment_increasing"
            )


@dataclass
class FineTuneConfig(RecipeConfig):
    """How a pretrained network is trained further: every stage has its own learning rate or is frozen.

    `learning_rate` is the rate of the head, the last stage with parameters. The last stage of the backbone learns at
    `backbone_rate` times that rate, and each earlier stage at `layer_decay` times the rate of the stage after it.
    """

    backbone_rate: float = setting(
        "learning rate of the backbone's last stage, as a share of the head's", above=0, most=1
    )
    layer_decay: float = setting(
        "learning rate of a stage, as a share of the rate of the stage after it", above=0, most=1
    )
    freeze: list[str] = setting(
        "stages that are not trained, with their batch norms in evaluation mode; named as in the definition", []
    )
    unfreeze_epoch: int | None = setting(
        "epoch, counted from 1, in which the frozen stages start to train; null never trains them", None, least=2
    )
    flips: dict[str, bool] = setting("data sets that need their own value of flip; flip takes its value from here", {})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trains == "head":
            raise UserError(f"recipe={self.name} recipe.trains=head: use recipe=linear_probe")
        if self.unfreeze_epoch is None:
            return
        if not self.freeze:
            raise UserError(
                f"recipe.unfreeze_epoch={self.unfreeze_epoch}: recipe.freeze is empty; name the stages to freeze there"
            )
        if self.unfreeze_epoch > self.epochs:
            raise UserError(
                f"recipe.unfreeze_epoch={self.unfreeze_epoch}: must be from 2 to recipe.epochs={self.epochs}, counted "
                "from 1; null never unfreezes"
            )


RECIPE_SCHEMAS: dict[str, type[RecipeConfig]] = {"recipe": RecipeConfig, "finetune": FineTuneConfig}
