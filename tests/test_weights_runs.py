"""Weights in the scripts: a third party's network to the last image, and where weights came from, kept for ever."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import ROOT, run_script
from PIL import Image
from test_runs import only

from harness.comparison import tables
from harness.comparison.records import compare, find_records
from harness.data.sources import cifar
from harness.run.checkpoint import Provenance, read_checkpoint
from models import build_model
from models.keymaps import from_akamaster

RECORD = ROOT / "benchmarks" / "results" / "weights" / "akamaster-resnet20-cifar10-jpeg.json"


@pytest.fixture(scope="module")
def evaluation(akamasters_resnet20: Path, cifar10_jpeg: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the evaluation of a third party's network on all 10,000 test images."""
    runs = tmp_path_factory.mktemp("evaluation")
    done = run_script(
        *("eval.py", "model=resnet20", f"weights={akamasters_resnet20}", "data=parquet", f"data.root={cifar10_jpeg}"),
        *(f"runs={runs}", "trainer.threads=1"),
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return only(runs / "resnet20-parquet")


def test_akamasters_resnet20_to_the_last_image(evaluation: Path, akamasters_resnet20: Path) -> None:
    result = json.loads((evaluation / "result.json").read_text())
    assert "names no classes: its outputs are taken for those of the data" in (evaluation / "log.txt").read_text()
    wrong = [result["seen"] - result[f"correct_top{k}"] for k in (1, 5)]
    assert (result["seen"], *wrong) == (10_000, 1_897, 128)
    assert result["training"] is None and result["trained_on"] is None and result["weights"]["source"] == "pretrained"
    assert result["class_names"] == list(cifar.cifar10.facts.class_names)
    assert result["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    provenance = Provenance.from_plain(result["pretrained"])
    assert provenance.file == akamasters_resnet20.name and provenance.part == "state_dict" and not provenance.adapted
    assert provenance.sha256 == hashlib.sha256(akamasters_resnet20.read_bytes()).hexdigest()
    kept = json.loads(RECORD.read_text())
    assert result["model"].pop("multiply_adds") == 40_551_040  # which the older record does not hold
    same = ("model", "data", "seen", "correct_top1", "correct_top5", "weights", "pretrained", "preprocessing")
    assert {key: kept[key] for key in same} == {key: result[key] for key in same}


@pytest.mark.parametrize("images", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_akamasters_resnet20_by_a_plain_loop(
    images: int, evaluation: Path, akamasters_resnet20: Path, cifar10_jpeg: Path
) -> None:
    """Nothing but Pillow and a loop, normalised as the network's author does it, says the same of each image."""
    network = build_model("resnet20").eval()
    saved = torch.load(akamasters_resnet20, map_location="cpu", weights_only=True)
    network.load_state_dict(from_akamaster("resnet20", saved["state_dict"]))
    rows = pq.read_table(cifar10_jpeg / "test-00000-of-00001.parquet").slice(0, images).to_pylist()
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    best: list[list[int]] = []
    for start in range(0, images, 500):
        pictures = [Image.open(io.BytesIO(row["img"]["bytes"])).convert("RGB") for row in rows[start : start + 500]]
        pixels = np.stack([(np.asarray(picture) / 255 - mean) / std for picture in pictures])
        with torch.no_grad():
            logits = network(torch.from_numpy(pixels).float().permute(0, 3, 1, 2))
        best += logits.argsort(1, descending=True)[:, :5].tolist()
    with (evaluation / "predictions.csv").open(newline="") as file:
        recorded = list(csv.DictReader(file))[:images]
    assert [row["label"] for row in rows] == [int(row["label"]) for row in recorded]
    assert best == [[int(row[f"class_{k}"]) for k in range(1, 6)] for row in recorded]
    if images == 10_000:
        assert sum(row["label"] != five[0] for row, five in zip(rows, best, strict=True)) == 1_897
        assert sum(row["label"] not in five for row, five in zip(rows, best, strict=True)) == 128


def test_where_weights_came_from_follows_the_network(trained_run: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights from elsewhere.ckpt"
    shutil.copyfile(trained_run / "checkpoints" / "last.ckpt", weights)
    command = ("train.py", "model=lenet5", f"weights={weights}", f"runs={tmp_path / 'runs'}")
    short = ("recipe.epochs=1", "recipe.warmup_epochs=0")
    done = run_script(*command, *short, "data.mean=[0.5]")
    assert (done.returncode, done.stderr) == (
        2,
        "train.py: data.mean=[0.5]: the network's own preprocessing has [0.1716]: leave data.mean out\n",
    )
    done = run_script(*command, *short)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert f"weights={weights.name}, SHA-256 {digest}" in done.stdout
    run = only(tmp_path / "runs" / "lenet5-digits")
    trained = read_checkpoint(run / "checkpoints" / "last.ckpt").trained
    assert trained.pretrained == Provenance(
        weights.name, weights.name, digest, "local file", "sgd_cosine", None, "digits", "", ()
    )
    assert trained.preprocessing.mean == (0.1716,)
    result = json.loads((run / "result.json").read_text())
    assert result["pretrained"] == trained.pretrained.as_plain() and result["weights"]["source"] == "trained here"
    assert result["top1_error"] < 5  # three epochs and one, where one alone gives above 10

    weights.unlink()  # a run that goes on needs it no more
    before = (run / "result.json").read_bytes()
    (run / "result.json").unlink()
    done = run_script("train.py", f"resume={run}")
    assert done.returncode == 0, done.stderr
    assert (run / "result.json").read_bytes() == before

    records, passed_over = find_records([str(run), str(trained_run)])
    assert not passed_over
    (comparison,) = compare(records)
    assert {row.model for row in comparison.rows} == {
        "lenet5 epochs=3 warmup_epochs=1",
        f"lenet5 epochs=1 warmup_epochs=0 weights={weights.name}:{digest[:8]}",
    }


def test_records_of_pretrained_weights_and_of_version_1_are_compared(trained_run: Path, tmp_path: Path) -> None:
    """Two evaluations of weights as they are, and a run as it was recorded before there were any."""
    shutil.copyfile(trained_run / "checkpoints" / "last.ckpt", tmp_path / "a.ckpt")
    done = run_script("eval.py", "model=lenet5", f"weights={tmp_path / 'a.ckpt'}", "data=digits", f"runs={tmp_path}")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    shutil.copytree(only(tmp_path / "lenet5-digits"), tmp_path / "b")
    other = json.loads((tmp_path / "b" / "result.json").read_text())
    other["weights"]["sha256"], other["pretrained"]["name"] = "1" * 64, "b.ckpt"
    (tmp_path / "b" / "result.json").write_text(json.dumps(other))
    run = tmp_path / "runs" / "old"
    shutil.copytree(trained_run, run)
    old = json.loads((run / "result.json").read_text())
    del old["pretrained"]
    old["weights"]["sha256"] = "0" * 64
    (run / "result.json").write_text(json.dumps({**old, "version": 1}))
    records, passed_over = find_records([str(tmp_path)])
    assert not passed_over and {record.content["version"] for record in records} == {1, 5}
    (comparison,) = compare(records)
    rows = {row.model.split(":")[0]: row for row in comparison.rows}
    old, a, b = "lenet5 (older record)", "lenet5 weights=a.ckpt", "lenet5 weights=b.ckpt"
    assert rows[old].seeds == (0,) and rows[a].seeds == rows[b].seeds == ()
    assert rows[a].top1_error == rows[old].top1_error
    (test,) = comparison.tests
    assert {test.first.split(":")[0], test.second.split(":")[0]} == {a, b} and test.seed is None
    assert sorted(cells[3] for cells in tables.error_cells(comparison)) == ["-", "-", "1"]
    assert tables.test_cells(comparison)[0][2] == "-"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("weights=a.pth",), "weights=a.pth: say which network they belong to and which data to evaluate on: "),
        (("weights=a.pth", "model=lenet5"), "weights=a.pth: say which network they belong to and which data"),
        (("weights=a.pth", "run=b"), "say what to evaluate: run=FOLDER, checkpoint=FILE, model=NAME weights="),
        (
            ("run=b", "model=lenet5"),
            "model=lenet5: works only with weights=; a run or checkpoint names its own network",
        ),
        (("weights=a.pth", "model=lenet5", "data=digits"), "weights=a.pth: there is no such file"),
        (("weights={run}/checkpoints/last.ckpt", "model=lenet5", "data=fashion_mnist"), "its classes are not those of"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], line: str, trained_run: Path, tmp_path: Path) -> None:
    done = run_script("eval.py", *(argument.format(run=trained_run) for argument in arguments), cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert line in done.stderr and not list(tmp_path.iterdir())
