"""The report of a training run: the error on the test split and its record."""

from __future__ import annotations

from lightning import Callback
from torch import nn

from harness import build
from harness.config.commands import TrainConfig
from harness.data.loading.module import TrainData
from harness.evaluation.evaluator import evaluate
from harness.evaluation.record import Moment, write_record
from harness.run.checkpoint import BEST, LAST, Trained
from harness.run.interruption import nothing_to_lose
from harness.run.processes import Team
from harness.stories.ending import tell_why, tell_worst
from harness.training.classifier import Classifier
from harness.training.early_stopping import describe_best
from harness.training.recorder import Recorder


def report(
    config: TrainConfig,
    team: Team,
    trained: Trained,
    network: nn.Module,
    data: TrainData,
    classifier: Classifier,
    recorder: Recorder,
    progress: Callback,
) -> None:
    """Evaluate the network that the run reports as `eval.py` does: rebuilt, without the memory layout of training."""
    protocol, limits, history = config.protocol, config.trainer, classifier.history
    tester = build.build_trainer(team, recorder.folder, protocol.precision, [progress])
    rebuilt = build.rebuilt(trained, network.state_dict())
    test = (data.splits.test, trained.preprocessing, protocol)
    evaluator = evaluate(tester, rebuilt, *test, decoder=data.decoder, workers=limits.workers)
    if team.leads:
        file = BEST if config.recipe.patience else LAST
        moment = Moment(recorder.reported, history[recorder.reported - 1].step, file)
        best, advise = describe_best(history), not recorder.advised
        write_record(
            recorder.folder,
            evaluator,
            trained,
            data=config.data,
            moment=moment,
            multiply_adds=build.cost(rebuilt, trained.preprocessing),
            best=best,
            advise=advise,
        )
        tell_worst(recorder.folder)
        tell_why(recorder.folder)
    nothing_to_lose()
