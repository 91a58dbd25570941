"""Config: mistakes are told in one line, help helps, and nothing heavy is imported for either."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, run_script
from in_process import call

from harness.command.help import group_page, help_page
from harness.config.commands import GROUPS
from harness.config.compose import compose, compose_groups, quoted_path
from harness.config.data import ImageFilesConfig
from harness.config.files import choices
from harness.config.recipe import LOSSES
from harness.config.renamed import renamed
from harness.errors import UserError
from harness.training import losses
from models import MODELS

MISTAKES = [
    ("recipe.lrr=1", "recipe.lrr: no such key; the nearest are: recipe.learning_rate"),
    ("modle=mlp", "modle: no such key; the nearest are: model"),
    ("seed=abc", "seed: Value 'abc' of type 'str' could not be converted to Integer"),
    ("trainer.threads=1.5", "trainer.threads: Value '1.5'"),
    ("model=lenet6", "model=lenet6: no such choice; the nearest are: lenet5"),
    ("recipe.loss=cross_entropi", "the nearest are: cross_entropy"),
    ("model=null", "model=null: choose one name:"),
    ("model=[mlp]", "model=[mlp]: choose one name:"),
    ("model=mlp,lenet5", "model=mlp,lenet5: give one value; to run a sweep over several, add -m"),
    ("model.name=mlp", "model.name cannot be set; choose with model=mlp"),
    ("+recipe.lr=1", "+recipe.lr=1: keys cannot be added or removed"),
    ("~seed", "~seed: keys cannot be added or removed"),
    ("schema=eval", "schema: no such group; the nearest are: data"),
    ("seed=-1", "seed=-1: must be at least 0"),
    ("recipe.epochs=0", "recipe.epochs=0: must be at least 1"),
    ("recipe.warmup_epochs=30", "recipe.warmup_epochs=30: must be less than recipe.epochs=30"),
    ("recipe.schedule=step", "recipe.schedule=step needs recipe.milestones"),
    ("data.mean=[1,0.5]", "data.mean has 2 values and data.std has 1"),
    ("data.std=[0]", "data.std=[0.0]: each must be at least 1e-06 (standard deviation of each channel"),
    (
        "recipe=torchvision_v1",
        "recipe=torchvision_v1 does not work with data=digits: it is for images in files (recipe.crop_padding is "
        "null), and these are in memory; choose recipe=sgd_cosine",
    ),
    (
        "protocol=ten_crop",
        "protocol=ten_crop does not work with data=digits: it crops, and these are taken whole; choose "
        "protocol=whole_image",
    ),
    ("trainer.workers=-1", "trainer.workers=-1: must be at least 0"),
    ("model=alexnet_2012", "alexnet_2012 needs images of at least 64 pixels a side, not 32; networks that fit: mlp"),
    ("data.root=my_photos", "data.root: say which data it belongs to: add data=NAME"),
    ("seed", "seed: cannot be read; write key=value"),
    ("hydra/launcher=joblib", "hydra/launcher=joblib: this program uses Hydra only to compose settings"),
    ("hydra.run.dir=elsewhere", "hydra.run.dir=elsewhere: this program uses Hydra only to compose settings"),
    ("--epochs", "unrecognized arguments: --epochs; settings are written key=value"),
]


@pytest.mark.parametrize(("argument", "line"), MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(argument: str, line: str, tmp_path: Path) -> None:
    done = run_script("train.py", argument, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("train.py: ") and done.stderr.count("\n") == 1
    assert line in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("train", "lenet5"), "lenet5: cannot be read; write model=lenet5"),
        (("train", "model=mlp,"), "model=mlp,: cannot be read; write the values of a sweep without blanks: key=a,b"),
        (("compare", "runs/a"), "runs/a: cannot be read; write runs=runs/a"),
    ],
)
def test_a_word_without_a_key_is_told_with_the_key(words: tuple[str, str], line: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(line)}$"):
        compose(words[0], [words[1]])


def test_a_sweep_is_checked_before_its_first_job_starts(tmp_path: Path) -> None:
    done = run_script("train.py", "-m", "model=mlp,lenet5", "seed=0,a", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == "" and done.stderr.count("\n") == 1
    assert "job model=mlp seed=a: seed: Value 'a'" in done.stderr and "no job was started" in done.stderr
    assert not list(tmp_path.iterdir())


def test_eval_wants_a_run_or_a_checkpoint() -> None:
    done = run_script("eval.py")
    assert done.returncode == 2
    assert done.stderr == (
        "eval.py: say what to evaluate: run=FOLDER, checkpoint=FILE, model=NAME weights=... data=NAME, or verify=all\n"
    )


@pytest.mark.parametrize("setting", ["data.root=others", "data.test=100", "model.shortcut=A", "recipe.epochs=1"])
@pytest.mark.parametrize("multirun", [(), ("-m",)])
def test_settings_of_what_an_evaluation_does_not_name(setting: str, multirun: tuple[str, ...], tmp_path: Path) -> None:
    done = run_script("eval.py", *multirun, f"run={tmp_path}", setting)
    group, key = setting.split(".")[0], setting.split("=")[0]
    assert done.returncode == 2
    assert done.stderr == (
        f"eval.py: {key}: say which {group} it belongs to: add {group}=NAME; --help lists the names\n"
    )


@pytest.mark.parametrize("arguments", ["--help", "--cfg job", "seed=abc", "model=lenet6", "-m seed=0,a"])
def test_help_config_and_mistakes_import_neither_torch_nor_lightning(arguments: str) -> None:
    program = (
        "import atexit, runpy, sys\n"
        "heavy = {'torch', 'lightning', 'sklearn', 'scipy', 'matplotlib'}\n"
        "atexit.register(lambda: print('HEAVY', sorted(heavy & set(sys.modules))))\n"
        f"sys.argv = ['train.py', *{arguments.split()!r}]\n"
        "runpy.run_path('train.py', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.endswith("HEAVY []\n"), done.stdout + done.stderr


def test_help_shows_every_group_choice_and_examples() -> None:
    page = run_script("train.py", "--help").stdout
    assert page == help_page("train") + "\n"
    for group in ("model", "data", "recipe", "protocol", "trainer", "experiment"):
        assert f"\n{group}=NAME  " in page
        for file in (ROOT / "configs" / group).glob("*.yaml"):
            assert file.stem in page.split()
    assert page.count("\npython train.py") == 3
    assert "schema" not in page


def test_every_model_has_a_config_and_the_reverse() -> None:
    assert {path.stem for path in (ROOT / "configs" / "model").glob("*.yaml")} == set(MODELS)


def test_a_model_takes_the_options_of_its_schema_and_no_others() -> None:
    for name in MODELS:
        options = set(yaml.safe_load((ROOT / "configs" / "model" / f"{name}.yaml").read_text())) - {"defaults"}
        builder = getattr(importlib.import_module(f"models.{MODELS[name].family}"), name)
        assert options == set(inspect.signature(builder).parameters) - {"num_classes", "in_channels", "image_size"}


def test_the_schema_knows_every_loss() -> None:
    assert set(LOSSES) == set(losses.LOSSES)


@pytest.mark.parametrize(
    "choice",
    [f"{group}={name}" for group in GROUPS for name in choices(group)],
)
def test_every_yaml_composes(choice: str) -> None:
    config = compose("train", [choice])
    group, _, name = choice.partition("=")
    assert getattr(config, group).name == name


RECIPES = sorted((ROOT / "configs" / "recipe").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_opens_with_a_line_for_help_and_a_command_that_composes(recipe: Path) -> None:
    described, command, measured, *_ = recipe.read_text(encoding="utf-8").splitlines()
    assert described.removeprefix("# ") in group_page("train", ["recipe"])
    assert command.startswith(f"# python train.py recipe={recipe.stem} data=") and " model=" in command
    assert compose("train", command.split()[3:]).recipe.name == recipe.stem
    assert "measured yet" in measured or "Cost: " in measured


def test_the_errors_that_recipes_name_are_those_of_the_records() -> None:
    results, named = ROOT / "benchmarks" / "results", 0
    transfer = json.loads((results / "transfer.json").read_text(encoding="utf-8"))
    for recipe in RECIPES:
        text = recipe.read_text(encoding="utf-8")
        for said, folder in re.findall(r"(\d\S+ ± \S+)%\n# \((benchmarks/results/errors/[\w-]+)", text):
            records = [json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / folder).glob("seed*.json")]
            assert {renamed(r["training"]["recipe"])["name"] for r in records} == {recipe.stem}
            errors = [record["top1_error"] for record in records]
            assert said == f"{statistics.mean(errors):.2f} ± {statistics.stdev(errors):.2f}"
            named += 1
        for said, title in re.findall(r"^# (\d+\.\d+)% (.*)$", text, re.MULTILINE):
            errors = [
                run["top1_error"]
                for run in transfer["runs"]
                if (run["way"], run["images_per_class"]) == (recipe.stem, 100)
                and transfer["tasks"][run["task"]] == title
            ]
            assert said == f"{statistics.mean(errors):.2f}" and len(errors) == 5
            named += 1
    assert named == 5


def test_imagenet_names_its_recipe_and_protocol_and_networks_without_batch_norm_learn_slower() -> None:
    for model, rate in (("resnet50", 0.1), ("vgg16_bn", 0.1), ("alexnet", 0.01), ("vgg16", 0.01)):
        config = compose("train", ["data=imagenet", f"model={model}"])
        assert (config.recipe.learning_rate, config.recipe.name) == (rate, "torchvision_v1")
        assert config.protocol.name == "center_crop"
    assert compose("train", ["data=imagenet", "recipe.learning_rate=0.3"]).recipe.learning_rate == 0.3


@pytest.mark.parametrize("data", ["folder", "hub_photos"])
def test_pictures_in_files_have_the_size_of_the_network(data: str) -> None:
    def sizes(*words: str) -> tuple[int, int]:
        found = compose("train", [f"data={data}", *words]).data
        assert isinstance(found, ImageFilesConfig)
        return found.image_size, found.resize

    for model, expected in (("resnet20", (32, 37)), ("lenet5", (32, 37)), ("mlp", (28, 32)), ("resnet50", (224, 256))):
        assert sizes(f"model={model}") == expected
    assert sizes("model=resnet20", "data.image_size=64") == (64, 73)
    assert sizes("model=resnet18", "data.image_size=64", "data.resize=64") == (64, 64)
    (without,) = compose_groups("eval", [f"data={data}"], "data")
    assert (without.image_size, without.resize) == (224, 256)


RECIPE_OF = {  # each data set's own, and its learning rate
    **dict.fromkeys(("digits", "mnist", "fashion_mnist"), ("sgd_cosine", 0.05)),
    **dict.fromkeys(("cifar10", "cifar100", "parquet", "hub"), ("he_2015_cifar", 0.1)),
    **dict.fromkeys(("folder", "hub_photos", "shards"), ("finetune", 0.03)),
    "imagenet": ("torchvision_v1", 0.1),
    "imagenette": ("scratch_small", 0.001),
    **dict.fromkeys(("imagenet_v2", "imagenet_a", "imagenet_r", "imagenet_sketch"), ("torchvision_v1", 0.1)),
    "cifar10_jpeg": ("one_cycle_cifar", 0.15),
}


@pytest.mark.parametrize("data", [path.stem for path in (ROOT / "configs" / "data").glob("*.yaml")])
def test_a_data_set_names_its_recipe_and_the_user_overrules_it(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    own, rate = RECIPE_OF[data]
    other, others_rate = ("sgd_cosine", 0.05) if own != "sgd_cosine" else ("he_2015_cifar", 0.1)
    for words, name, value in ((["model=resnet18"], own, rate), ([f"recipe={other}"], other, others_rate)):
        assert call("train.py", f"data={data}", *words, "--cfg", "job", "--resolve") == 0
        said = capsys.readouterr().out
        assert f"name: {name}\n" in said and f"learning_rate: {value}\n" in said


@pytest.mark.parametrize("path", ["~/x", "a b", "é(1)", "epoch=2.ckpt", "it's", "{a,b}", "C:\\x", "a\\'b"])
def test_paths_need_no_quoting(path: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for key in ("runs", "data.root", "checkpoint"):
        quoted = quoted_path(f"{key}={path}", sweep=False)
        assert OverridesParser.create().parse_override(quoted).value() == path
        assert quoted_path(quoted, sweep=False) == quoted
    assert quoted_path("seed=1", sweep=False) == "seed=1"


def test_a_sweep_over_paths_splits_at_commas() -> None:
    assert quoted_path("run=a b,c", sweep=True) == "run='a b','c'"
