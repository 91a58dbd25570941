"""Settings of training, `recipe.*`: everything that can change an error rate, apart from the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.config.fields import Declared, chosen, setting, written
from harness.config.protocol import MOST_IMAGES, PRECISIONS
from harness.errors import UserError

LOSSES = ("cross_entropy", "lecun_mle", "lecun_map")
SCHEDULES = ("constant", "step", "cosine")


@dataclass
class RecipeConfig(Declared):
    """How a network is trained."""

    group: ClassVar[str] = "recipe"
    name: str = chosen("recipe")
    epochs: int = setting(
        "passes over the training split", least=1, most=1_000_000, aliases=("num_epochs", "n_epochs", "nb_epochs")
    )
    batch_size: int = setting(
        "images of one optimiser step, over all devices together", least=1, most=MOST_IMAGES, aliases=("bs", "batch")
    )
    loss: str = setting("what is minimised", choices=LOSSES, aliases=("criterion", "loss_fn"))
    learning_rate: float = setting("at its highest", least=0, aliases=("lr", "base_lr", "max_lr"))
    momentum: float = setting("of SGD; the learning rate multiplies the velocity, as in torch", least=0, below=1)
    nesterov: bool = setting("whether the momentum is Nesterov's")
    weight_decay: float = setting("L2 penalty on every parameter", least=0, aliases=("wd", "l2", "decay"))
    schedule: str = setting(
        "of the learning rate: constant, step (times gamma at each milestone), or cosine (down to 0 at the end)",
        choices=SCHEDULES,
        aliases=("scheduler", "lr_scheduler", "lr_schedule", "sched"),
    )
    milestones: list[float] = setting("in epochs", least=0, rising=True, aliases=("lr_steps", "steps"))
    gamma: float = setting("factor at a milestone", least=0, aliases=("lr_gamma",))
    warmup_epochs: float = setting("over which the learning rate rises linearly", least=0, aliases=("warmup",))
    crop_padding: int | None = setting(
        "pixels of background on each side of an image in memory from which a crop is drawn; 0 crops nothing; null: "
        "this recipe is not for images in memory",
        least=0,
        most=256,
    )
    flip: bool = setting("whether half of the images are mirrored", aliases=("hflip", "horizontal_flip"))
    precision: str = setting("Lightning's name of the arithmetic", choices=PRECISIONS, aliases=("amp", "fp16", "bf16"))
    crop_area: list[float] = setting(
        "least and greatest share of its area that a random crop of an image in a file has; empty: this recipe is not "
        "for images in files",
        [],
        above=0,
        most=1,
        lengths=(0, 2),
        rising=True,
        aliases=("scale",),
    )
    crop_aspect: list[float] = setting(
        "least and greatest width over height of such a crop",
        [],
        above=0,
        most=100,
        lengths=(0, 2),
        rising=True,
        aliases=("ratio",),
    )
    learning_rates: dict[str, float] = setting(
        "of the networks that need another than the rest; learning_rate looks here by itself", {}, least=0
    )
    channels_last: bool = setting("whether images and weights lie in memory with their channels last", False)
    compile: bool = setting("whether torch compiles the network", False, aliases=("torch_compile",))
    trains: str = setting(
        "the network, or the head: its last linear layer alone, on features that are computed once",
        "network",
        choices=("network", "head"),
    )
    class_weights: str | None = setting(
        "balanced weighs an image's loss by one over its class's share of the training split; null weighs all alike",
        None,
        choices=("balanced",),
    )
    patience: int | None = setting(
        "epochs without a better one on the validation split after which training stops, and the best one is "
        "reported; null trains to the end and reports the last",
        None,
        least=1,
        aliases=("early_stopping",),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and self.momentum == 0:
            raise UserError("recipe.nesterov=true needs recipe.momentum above 0")
        if self.schedule == "step" and not self.milestones:
            raise UserError("recipe.schedule=step needs recipe.milestones, such as [82,123]")
        if self.warmup_epochs >= self.epochs:
            raise UserError(
                f"recipe.warmup_epochs={self.warmup_epochs:g}: must be less than recipe.epochs={self.epochs}"
            )
        if bool(self.crop_area) != bool(self.crop_aspect):
            raise UserError(
                f"recipe.crop_area={written(self.crop_area)} recipe.crop_aspect={written(self.crop_aspect)}: a random "
                "crop needs both, such as [0.08,1] and [0.75,1.33]"
            )
        if self.trains == "head" and (self.flip or self.crop_padding or self.crop_area):
            raise UserError("recipe.trains=head computes features once, of images as they are: without flip and crop")
        if self.class_weights is not None and self.loss != "cross_entropy":
            raise UserError(f"recipe.class_weights={self.class_weights}: goes with recipe.loss=cross_entropy alone")


@dataclass
class FineTuneConfig(RecipeConfig):
    """How a pretrained network is trained further: every stage at a rate of its own, or not at all.

    The learning rate is that of the head, the last stage with parameters. The last stage of the backbone learns at
    `backbone_rate` times it, and each stage before at `layer_decay` times the one behind.
    """

    backbone_rate: float = setting("learning rate of the backbone's last stage, over the head's", above=0, most=1)
    layer_decay: float = setting("learning rate of a stage, over that of the stage behind it", above=0, most=1)
    freeze: list[str] = setting(
        "stages that stay as they are, their batch norms in evaluation mode; named as in the definition", []
    )
    unfreeze_epoch: int | None = setting(
        "the epoch, counted from 1, that starts to train them; null never does", None, least=2
    )
    flips: dict[str, bool] = setting(
        "of the data whose images are mirrored otherwise than the rest; flip looks here by itself", {}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trains == "head":
            raise UserError(f"recipe={self.name} recipe.trains=head: use recipe=linear_probe")
        if self.unfreeze_epoch is None:
            return
        if not self.freeze:
            raise UserError(f"recipe.unfreeze_epoch={self.unfreeze_epoch}: belongs with recipe.freeze, which is empty")
        if self.unfreeze_epoch > self.epochs:
            raise UserError(
                f"recipe.unfreeze_epoch={self.unfreeze_epoch}: must be from 2 to recipe.epochs={self.epochs}, counted "
                "from 1; null never unfreezes"
            )


RECIPE_SCHEMAS: dict[str, type[RecipeConfig]] = {"recipe": RecipeConfig, "finetune": FineTuneConfig}
