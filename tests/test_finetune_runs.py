"""Fine-tuning by whole commands: from a run folder, with other classes, on two processes, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import run_script
from test_finetune import changed, copies
from test_runs import only

from harness.config.weights import check_name
from harness.errors import UserError
from harness.run.checkpoint import BEST, CHECKPOINTS, LAST, read_checkpoint
from harness.weights.load import Weights
from models import build_model


def test_weights_are_taken_from_a_run_folder(trained_run: Path, tmp_path: Path) -> None:
    done = run_script(
        *("train.py", "recipe=finetune", f"weights={trained_run}", "recipe.epochs=2", "recipe.freeze=[c1]"),
        *("recipe.unfreeze_epoch=2", "recipe.patience=1", f"runs={tmp_path}"),
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "c1 0.051 from epoch 2, c3 0.064, c5 0.08, f6 0.1, output 1\n" in done.stdout
    run = only(tmp_path / "lenet5-digits")
    result = json.loads((run / "result.json").read_text())
    assert result["pretrained"]["file"] == LAST and result["pretrained"]["trained_on"] == "digits"
    assert result["weights"]["epoch"] == result["best_on_validation"]["epoch"]
    assert f"epoch {result['weights']['epoch']}, the best on validation, is reported" in (run / "log.txt").read_text()
    done = run_script("eval.py", f"run={run}", f"runs={tmp_path / 'e'}")
    assert f"{BEST} (epoch {result['weights']['epoch']}, trained on digits)" in done.stdout
    again = json.loads((only(tmp_path / "e" / "lenet5-digits") / "result.json").read_text())
    assert again["weights"] == result["weights"] and again["predictions"] == result["predictions"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            "weights={started}",
            "the folder has no checkpoint (checkpoints/last.ckpt); did the run finish its first epoch?",
        ),
        ("weights={run} recipe=finetune recipe.freeze=[c2]", "no such stage; the nearest are: c5, c3, c1"),
    ],
)
def test_mistakes_leave_no_run_folder(arguments: str, line: str, trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "started").mkdir()
    shutil.copyfile(trained_run / "config.yaml", tmp_path / "started" / "config.yaml")
    places = {"started": tmp_path / "started", "run": trained_run}
    done = run_script("train.py", *(a.format(**places) for a in arguments.split()), f"runs={tmp_path / 'runs'}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert line in done.stderr and not (tmp_path / "runs").exists()


def test_a_folder_that_is_no_runs_is_no_weights(trained_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not the folder of a run \(it has no config.yaml\)"):
        check_name(str(tmp_path), "lenet5")
    with pytest.raises(UserError, match="these weights belong to lenet5: use model=lenet5"):
        Weights(str(trained_run), "mlp")


def test_the_head_is_new_if_the_weights_tell_other_classes_apart_though_as_many(trained_run: Path) -> None:
    weights = Weights(str(trained_run), "lenet5")
    digits, letters = tuple("0123456789"), tuple("abcdefghij")
    for names, is_new in ((None, False), (digits, False), (letters, True), (digits[::-1], True)):
        network = build_model("lenet5")
        before = copies(network)
        provenance = weights.load_into(network, training=True, class_names=names)
        assert changed(before, network) == {"c1", "c3", "c5", "f6"} | (set() if is_new else {"output"})
        expected = ("output is new, with 10 outputs instead of 10 of other classes",) if is_new else ()
        assert provenance.adapted == expected


@pytest.mark.parametrize("classes", [10, 3])
def test_weights_that_name_no_classes_keep_as_many_outputs_and_it_is_said(classes: int, tmp_path: Path) -> None:
    torch.save(build_model("lenet5").state_dict(), tmp_path / "bare.pth")
    weights, network = Weights(str(tmp_path / "bare.pth"), "lenet5"), build_model("lenet5", num_classes=classes)
    provenance = weights.load_into(network, training=True, class_names=tuple("abcdefghij"[:classes]))
    is_new = "output is new, with 3 outputs instead of 10"
    kept = "the file names no classes: its outputs are taken for those of the data, in order"
    assert provenance.adapted == ((kept,) if classes == 10 else (is_new,))


@pytest.mark.parametrize(
    "settings",
    [
        ("recipe=finetune", "recipe.freeze=[c1,c3]", "recipe.unfreeze_epoch=2", "recipe.class_weights=balanced"),
        pytest.param(("recipe=linear_probe", "recipe.patience=2"), marks=pytest.mark.slow),
    ],
    ids=["finetune", "linear_probe"],
)
def test_two_processes_train_like_one(settings: tuple[str, ...], trained_run: Path, tmp_path: Path) -> None:
    weights, results = {}, {}
    for trainer in ("cpu", "ddp"):
        done = run_script(
            *("train.py", f"trainer={trainer}", f"weights={trained_run}", *settings, "recipe.epochs=2"),
            *("recipe.batch_size=251", f"runs={tmp_path / trainer}"),
        )
        assert done.returncode == 0 and done.stderr == "", done.stderr
        run = only(tmp_path / trainer / "lenet5-digits")
        weights[trainer] = read_checkpoint(run / CHECKPOINTS / LAST).state_dict
        results[trainer] = json.loads((run / "result.json").read_text())
    for name, tensor in weights["cpu"].items():
        torch.testing.assert_close(weights["ddp"][name], tensor, atol=1e-5, rtol=1e-4)
    for key in ("seen", "correct_top1", "best_on_validation"):
        assert results["ddp"][key] == results["cpu"][key]
    before = read_checkpoint(trained_run / CHECKPOINTS / LAST).state_dict
    assert torch.equal(before["c1.weight"], weights["ddp"]["c1.weight"]) == (settings[0] == "recipe=linear_probe")
