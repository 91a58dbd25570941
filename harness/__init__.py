"""The functions for programs and notebooks (`docs/library.md`); the rooms below hold everything around a network.

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
    """Return checked settings: `compose("train", model="lenet5", data="mnist", **{"recipe.epochs": 5})`.

    Args:
        command: `train`, `eval` or `compare`.
        *words: settings as on the command line, such as `"recipe.epochs=5"`.
        **settings: settings as Python values.

    Raises:
        UserError: a setting is wrong; this `ValueError` says in one line what is wrong, where, and what to do.
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
        config: settings from `compose("train", ...)`.
        verbose: whether to print what the script prints. Otherwise the run prints only warnings; its lines still go to
            the logger `cnn_zoo` and to `log.txt`.

    Returns:
        The run: its `folder`, its `result`, and the `history` of its epochs.

    Raises:
        UserError: settings do not work together or on this machine, or a run cannot be resumed.
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
        config: settings from `compose("eval", ...)`.
        verbose: whether to print what the script prints.

    Returns:
        The content of `result.json`: `top1_error` and `top5_error` in percent, their intervals, counts, and more.

    Raises:
        UserError: settings do not work together, or the score means nothing.
    """
    from harness.run.folder import given_back
    from harness.run.log import spoken
    from harness.stories.check import check
    from harness.stories.evaluate import evaluate_network

    check(config)
    with spoken(verbose), given_back():
        return evaluate_network(config)


def load(
    place: str | Path,
    *,
    weights: str | None = None,
    data: str | Sequence[str] = (),
    weights_map: str | Path | None = None,
) -> Loaded:
    """Return a network that is ready to use: `load(run.folder)`, `load("resnet50", weights="IMAGENET1K_V2")`.

    Args:
        place: a run folder, a checkpoint, or a file that `tools/export.py` wrote; with `weights`, the name of a network
            in the catalogue.
        weights: a name of torchvision, `timm:<model>.<tag>`, or the path of a file.
        data: data set on which the weights were trained, if the file does not say how images are prepared.
        weights_map: file of YAML that calls the tensors or modules of that file by our names, theirs: ours.

    Returns:
        `network`, `class_names`, `preprocess(image)` and `predict(images)`.

    Raises:
        UserError: the weights do not exist, are damaged, or belong to another network.
    """
    from harness.prediction import network

    if weights is None:
        return network.load_file(Path(place))
    words, key_map = [data] if isinstance(data, str) else data, None if weights_map is None else str(weights_map)
    return network.load_weights(str(weights), str(place), words, key_map)
