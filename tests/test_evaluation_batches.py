"""How many images are evaluated at once follows from the device, as it was measured; no number follows from it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from in_process import call, only
from omegaconf import OmegaConf
from test_compare import trained, write_record

from harness.comparison.experiments import differences
from harness.comparison.records import compare, find_records
from harness.config.commands import TrainConfig
from harness.config.compose import compose
from harness.config.fit import on_device
from harness.config.protocol import BATCHES
from harness.run.resume import continued

MEASURED = ROOT / "benchmarks" / "results" / "batches-cpu.json"


def composed(*words: str) -> TrainConfig:
    config = compose("train", list(words))
    assert isinstance(config, TrainConfig)
    return config


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    assert call("train.py", "recipe.epochs=1", "trainer=cpu", "trainer.threads=1", f"runs={runs}") == 0
    return only(only(runs))


def test_the_record_holds_the_number_and_the_settings_leave_it_to_the_next_device(run: Path, tmp_path: Path) -> None:
    record = json.loads((run / "result.json").read_text())
    assert record["protocol"]["batch_size"] == record["training"]["validated"]["batch_size"] == 100
    assert OmegaConf.load(run / "config.yaml").protocol.batch_size == 0
    settings = ("trainer=cpu", "trainer.threads=1", f"runs={tmp_path}", "force=true")
    assert call("eval.py", f"run={run}", "protocol.batch_size=77", *settings) == 0
    again = only(only(tmp_path))
    assert json.loads((again / "result.json").read_text())["protocol"]["batch_size"] == 77
    (comparison,) = compare(find_records([str(run), str(again)])[0])
    assert len(comparison.rows) == 1 and not comparison.left_out
    assert differences(record, composed("recipe.epochs=1"), 0) == []


@pytest.mark.parametrize("protocol", BATCHES)
def test_every_protocol_leaves_it_to_the_device_unless_a_user_says_it(protocol: str) -> None:
    data = () if protocol == "whole_image" else ("data=imagenette", "recipe=modern", "model=resnet18")
    config = composed(f"protocol={protocol}", *data)
    cpu, gpu = (on_device(config, device).protocol.batch_size for device in ("cpu", "cuda"))
    assert (cpu, gpu) == BATCHES[protocol] and cpu < gpu
    assert config.protocol.batch_size == 0
    config.protocol.name = "of_a_user"  # a file of --config-dir
    assert on_device(config, "cpu").protocol.batch_size == BATCHES["center_crop"][0]
    said = composed(f"protocol={protocol}", *data, "protocol.batch_size=7")
    assert on_device(said, "cpu").protocol.batch_size == on_device(said, "cuda").protocol.batch_size == 7


def test_the_numbers_for_a_cpu_are_the_fastest_of_those_measured() -> None:
    measured = json.loads(MEASURED.read_text())
    assert measured["device"] == "cpu"
    times: dict[str, dict[str, float]] = {
        name: network["microseconds"] for name, network in measured["networks"].items()
    }
    assert fastest(values for name, values in times.items() if name.endswith(" at 32")) == BATCHES["whole_image"][0]
    crops = fastest(values for name, values in times.items() if not name.endswith(" at 32"))
    assert crops == BATCHES["center_crop"][0] and 0 <= 10 * BATCHES["ten_crop"][0] - crops < 10


def fastest(networks: Iterable[dict[str, float]]) -> int:
    """The size with the least product of times, so that slow networks do not outvote fast ones."""
    times = list(networks)
    common = set.intersection(*map(set, times))
    return int(min(common, key=lambda size: math.prod(values[size] for values in times)))


def test_runs_that_validated_in_other_batches_are_one_row(tmp_path: Path) -> None:
    recipe = {"name": "modern", "epochs": 5, "patience": 2}
    for seed, size in enumerate((100, 1000)):
        known: dict[str, Any] = trained(seed, recipe=recipe, validated={"name": "whole_image", "batch_size": size})
        write_record(tmp_path / str(seed), "m", {seed}, seed, training=known)
    (comparison,) = compare(find_records([str(tmp_path)])[0])
    assert [(row.model, row.seeds) for row in comparison.rows] == [("m", (0, 1))]


@pytest.mark.parametrize("before", [1000, 7, 0])
def test_a_run_goes_on_whatever_its_batches_of_evaluation(before: int, tmp_path: Path) -> None:
    words = ("recipe.epochs=3", f"runs={tmp_path}", "resume=auto")
    folder = tmp_path / "lenet5-digits" / "2026-01-31_12-00-00"
    folder.mkdir(parents=True)
    OmegaConf.save(OmegaConf.structured(composed(*words, f"protocol.batch_size={before}")), folder / "config.yaml")
    assert continued(composed(*words))[1] == folder
    assert continued(composed(*words, "seed=1"))[1] is None
