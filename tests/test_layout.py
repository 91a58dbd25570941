"""The rooms: who may import whom, read from the imports themselves."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement

TORCH = {"torch", "torchvision", "lightning"}
HARNESS_ROOMS = ("data", "training", "evaluation", "insight")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found.add(str(node.module))
    return found


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", sources("models"), ids=str)
def test_models_import_torch_and_the_standard_library_alone(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    assert roots <= {"torch", "models", *sys.stdlib_module_names}


@pytest.mark.parametrize("path", sources("harness"), ids=str)
def test_only_build_and_weights_import_models(path: Path) -> None:
    used = {name for name in imports(path) if name.split(".")[0] == "models"}
    allowed = {"build.py": {"models"}}.get(path.name, set())
    if path.parent.name == "weights":
        allowed = {"models.catalogue", "models.keymaps"}  # the weights that each network has, and their keys
    assert used <= allowed
    assert not imports(path) & {"train", "eval", "compare"}


@pytest.mark.parametrize("path", sources(*(f"harness/{room}" for room in HARNESS_ROOMS)), ids=str)
def test_rooms_do_not_import_what_stands_above_them(path: Path) -> None:
    assert not imports(path) & {"harness.build", "harness.command.cli"}


def test_evaluation_does_not_import_training() -> None:
    for path in sources("harness/evaluation", "harness/data"):
        assert not any(name.startswith("harness.training") for name in imports(path)), path


OTHER_WAYS = {  # what the default run passes by
    *("EvalConfig", "CompareConfig", "MLPConfig", "DropoutConfig", "ShortcutConfig", "EvalData"),
    *("FolderConfig", "HubSource", "HubConfig", "HubPhotosConfig"),  # other sources
    *("_divided", "_to_train_on", "relabelled", "grey"),
    *("unless_set", "_likely_cause", "skeleton"),  # weights
    *(
        "_fail",
        "_unknown_option",
        "_check_form",
        "_check_group",
        "_diverged",
        "_too_small",
        "_LogFile",
        "_add_line",
    ),  # runs that fail
    *("FineTuneConfig", "_check_what_has_a_default", "_other_kinds", "_balanced_loss"),  # recipes that train otherwise
    *("check_recipe", "_check_patience", "check_arithmetic"),
    *("lecun_mle", "lecun_map", "_torchvision", "_read", "_parquet", "reopen_run_folder", "reopened", "load_weights"),
    *(
        "ImageFilesConfig",
        "_train_files",
        "workers",
        "uniform",
        "check_protocol",
        "Unreadable",
        "_range",
        "_of_files",
    ),  # images in files
    *("EvalLoader", "eval_loader", "val_dataloader", "rebuilt"),  # come after the step
    *("on_load_checkpoint", "load_state_dict"),  # a run that goes on
    *("composed", "schema_of", "load_test", "validation_step", "on_validation_epoch_start"),
}


def code_lines(path: Path) -> int:
    """Lines that hold code: not blank, not only a comment, not a docstring, and not of another way."""
    text = path.read_text(encoding="utf-8")
    lines: set[int] = set()
    silent = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in silent:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if docstring or (isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name in OTHER_WAYS):
            assert isinstance(node, (ast.stmt, ast.expr))
            first = min([node.lineno, *(mark.lineno for mark in getattr(node, "decorator_list", []))])
            lines -= set(range(first, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def test_one_training_run_can_be_followed_in_a_thousand_lines() -> None:
    """From `train.py` to the optimiser step: command line, config, images, batches, step, counts."""
    way = (
        "train.py harness/stories/train.py harness/command/cli.py harness/config.py harness/build.py "
        "harness/run/folder.py "
        "harness/data/sources/table.py harness/data/sources/splits.py harness/data/sources/digits.py "
        "harness/data/images/image_set.py harness/data/loading/module.py harness/data/loading/loader.py "
        "harness/data/loading/order.py harness/data/loading/stateless.py "
        "harness/data/images/pixels.py harness/data/images/preprocessing.py "
        "harness/training/classifier.py harness/training/schedules.py harness/training/losses.py "
        "harness/evaluation/counts.py"
    )
    assert sum(code_lines(ROOT / path) for path in way.split()) < 1000


def test_versions_of_lightning_that_held_a_credential_stealer_are_never_installed() -> None:
    """GHSA-w37p-236h-pfx3."""
    (lightning,) = re.findall(r'"(lightning[^"]*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    allowed = Requirement(lightning).specifier
    assert [version for version in ("2.6.1", "2.6.2", "2.6.3", "2.6.4") if version in allowed] == ["2.6.1", "2.6.4"]
