"""Everything around a network; and the door for programs and notebooks, `docs/library.md`.

    from harness import compose, evaluate, load, train

    run = train(compose("train", model="lenet5", data="digits"))
    network = load(run.folder)

Nothing heavy is imported before one of these functions is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:
    from harness.config.commands import CompareConfig, EvalConfig, TrainConfig
    from harness.prediction.network import Loaded
    from harness.stories.train import Run

__all__ = ["compose", "evaluate", "load", "train"]


@overload
def compose(command: Literal["train"], *words: str, **settings: object) -> TrainConfig: ...
@overload
def compose(command: Literal["eval"], *words: str, **settings: object) -> EvalConfig: ...
@overload
def compose(command: Literal["compare"], *words: str, **settings: object) -> CompareConfig: ...
def compose(command: str, *words: str, **settings: object) -> TrainConfig | EvalConfig | CompareConfig:
    """The settings of a command, checked: `compose("train", model="lenet5", data="mnist", **{"recipe.epochs": 5})`.

    Args:
        command: `train`, `eval` or `compare`.
        *words: as on the command line, such as `"recipe.epochs=5"`.
        **settings: the same as Python's values.

    Raises:
        UserError: a `ValueError` that says in a line what is wrong, where, and what to do.
    """
    from harness.config.commands import COMMANDS
    from harness.config.compose import as_word
    from harness.config.compose import compose as composed
    from harness.errors import UserError

    if command not in COMMANDS:
        raise UserError(f"compose({command!r}): no such command; there are {', '.join(COMMANDS)}")
    return composed(command, [*words, *(as_word(key, value) for key, value in settings.items())])


def train(config: TrainConfig, *, verbose: bool = False) -> Run:
    """Train a network and evaluate it, as `train.py` does.

    Args:
        config: of `compose("train", ...)`.
        verbose: whether to print what the script prints. Without it the run says nothing, except warnings; the logger
            `cnn_zoo` has its lines, and so has `log.txt`.

    Returns:
        The run: its `folder`, its `result`, and the `history` of its epochs.

    Raises:
        UserError: settings that do not fit each other or this machine, or a run that cannot go on.
    """
    from harness.run.folder import given_back
    from harness.run.log import spoken
    from harness.stories.check import check
    from harness.stories.train import train as story

    check(config)
    with spoken(verbose), given_back():
        return story(config)


def evaluate(config: EvalConfig, *, verbose: bool = False) -> dict[str, Any]:
    """Evaluate a network on a test split, as `eval.py` does.

    Args:
        config: of `compose("eval", ...)`.
        verbose: whether to print what the script prints.

    Returns:
        The content of `result.json`: `top1_error` and `top5_error` in percent, their intervals, counts, and all else.

    Raises:
        UserError: settings that do not fit, or a score that means nothing.
    """
    from harness.run.folder import given_back
    from harness.run.log import spoken
    from harness.stories.check import check
    from harness.stories.evaluate import evaluate_network

    check(config)
    with spoken(verbose), given_back():
        return evaluate_network(config)


def load(place: str | Path, *, weights: str | None = None, data: str | Sequence[str] = ()) -> Loaded:
    """A network with its numbers, ready to be used: `load(run.folder)`, `load("resnet50", weights="IMAGENET1K_V2")`.

    Args:
        place: a run folder, a checkpoint, or a file that `tools/export.py` wrote; with `weights`, a name of the
            catalogue.
        weights: a name of torchvision's, `timm:<model>.<tag>`, or the path of a file.
        data: the data set that such a file was trained on, if it does not say what its images went through.

    Returns:
        `network`, `class_names`, `preprocess(image)` and `predict(images)`.

    Raises:
        UserError: weights that do not exist, are damaged, or are of another network.
    """
    from harness.prediction import network

    if weights is None:
        return network.load_file(Path(place))
    return network.load_weights(str(weights), str(place), [data] if isinstance(data, str) else data)
