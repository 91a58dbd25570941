"""Check everything about a config that can be checked before torch is loaded."""

from __future__ import annotations

from pathlib import Path

from harness.config import fit
from harness.config.commands import CompareConfig, EvalConfig, TrainConfig
from harness.config.weights import check_map, check_name
from harness.data.sources.table import describe
from harness.errors import UserError
from harness.run.resume import continued


def check(config: TrainConfig | EvalConfig | CompareConfig) -> None:
    """Raise `UserError` if settings do not work together, or name weights or a run that do not exist."""
    fit.check(config, describe)
    if isinstance(config, CompareConfig):
        return
    if config.weights is not None and config.model is not None:
        check_name(config.weights, config.model.name)
    if config.weights_map is not None:
        check_map(config.weights_map, config.weights)
    if isinstance(config, EvalConfig) and config.run is not None and not Path(config.run).is_dir():
        raise UserError(f"run={config.run}: there is no such folder")
    if isinstance(config, EvalConfig) and config.checkpoint is not None and not Path(config.checkpoint).exists():
        raise UserError(f"checkpoint={config.checkpoint}: there is no such file")
    if isinstance(config, TrainConfig) and config.resume is not None:
        continued(config)
