"""The README: its commands run, and its numbers are the records'."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import statistics
from pathlib import Path

import pytest
from conftest import ROOT, run_script
from PIL import Image
from test_folder_data import classes

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if "python " in line
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_runs(command: str, trained_run: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    words = shlex.split(command.split("&& ")[-1])
    assert words[0] == "python"
    run = tmp_path / "runs" / "lenet5-digits" / "a"
    shutil.copytree(trained_run, run)
    if "resume=" in command:
        (run / "result.json").unlink()  # a run that is not finished
    arguments = [word.replace("runs/lenet5-digits/DATE_TIME", str(run)) for word in words[1:]]
    if arguments[0] == "compare.py":
        arguments += [f"runs={run.parent.parent}", f"out={tmp_path / 'out'}"]
    if arguments[0] == "train.py" and "resume=" not in command and "--help" not in command:
        arguments += [f"runs={tmp_path}", "trainer.max_epochs=1", "trainer.max_batches=2"]
    if arguments[0] == "eval.py":
        arguments.append(f"runs={tmp_path}")
    if "data=mnist" in arguments:
        arguments.append(f"data.root={request.getfixturevalue('mnist_root')}")
    if "data=parquet" in arguments:
        weights, data = (request.getfixturevalue(fixture) for fixture in ("akamasters_resnet20", "cifar10_jpeg"))
        arguments += [f"weights={weights}", f"data.root={data}", "trainer.threads=1"]
        arguments = [word for word in arguments if word not in (f"weights={weights.name}", f"data.root={data.name}")]
    if "data=imagenet" in arguments:
        for split in ("train", "val"):
            sample = ROOT.parent / "shared" / "data" / "imagenet-sample" / "val"
            if not sample.is_dir():
                pytest.skip("the ImageNet pictures are not at ../shared/data/imagenet-sample")
            (tmp_path / "imagenet").mkdir(exist_ok=True)
            (tmp_path / "imagenet" / split).symlink_to(sample)
        small = ["data.image_size=32", "data.resize=36", "data.validation=0", "recipe.batch_size=8"]
        arguments = [*arguments, *small, f"data.root={tmp_path / 'imagenet'}"]
        arguments.remove("data.root=data/imagenet")
    if arguments[0] in ("tools/predict.py", "tools/export.py"):
        (tmp_path / "photos").mkdir()
        Image.new("RGB", (40, 30), "red").save(tmp_path / "photos" / "a.jpg")
        arguments = [word.replace("out=", f"out={tmp_path}/") for word in arguments]
        arguments = [str(tmp_path / word) if word == "photos" else word for word in arguments]
    if "data=folder" in arguments:
        classes(tmp_path / "photos", 4)
        arguments = [*arguments, "data.image_size=32", "data.resize=36", f"data.root={tmp_path / 'photos'}"]
        arguments.remove("data.root=my_photos")
    done = run_script(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_the_two_commands_of_a_fresh_machine_are_the_first_and_ci_runs_the_second() -> None:
    first, second = re.findall(r"```sh\n(pip .*?)(?:  +#.*)?\n```", README)[:2]
    assert first == "pip install -e . && python train.py"
    assert second == "pip install -e '.[test]' && pytest"
    assert second.replace("install", "install -q") in (ROOT / ".ci" / "run").read_text()


def errors_table() -> str:
    lines = ["| model | data | images | top-1 error (%) |", "| --- | --- | --- | --- |"]
    for folder in sorted((ROOT / "benchmarks" / "results" / "errors").iterdir()):
        records = [json.loads(path.read_text()) for path in sorted(folder.glob("seed*.json"))]
        assert [record["training"]["seed"] for record in records] == [0, 1, 2, 3, 4]
        assert len({record["data"]["fingerprint"] for record in records}) == 1
        errors = [record["top1_error"] for record in records]
        error = f"{statistics.mean(errors):.2f} ± {statistics.stdev(errors):.2f}"
        first = records[0]
        lines.append(f"| `{first['model']['name']}` | `{first['data']['name']}` | {first['seen']:,} | {error} |")
    return "\n".join(lines)


def speed_table() -> str:
    record = json.loads((ROOT / "benchmarks" / "results" / "training-mnist-cpu.json").read_text())
    step, lines = (
        record["trainer_ms_per_step_over_bare"],
        ["| measured | median | lowest to highest |", "| --- | --- | --- |"],
    )
    for what, measured, unit in (
        ("epoch of `train.py` over that of a bare loop on tensors in memory", record["shipped_to_bare"], "x"),
        (
            "epoch of Lightning's defaults with torchvision's data set over that of `train.py`",
            record["usual_to_shipped"],
            "x",
        ),
        ("step of `train.py` less that of the bare loop", step, " ms"),
        ("counting top-1 and top-5 over torchmetrics' top-5", record["counting_to_torchmetrics_top5"], "x"),
    ):
        low, high = (f"{measured[end]:.2f}{unit}" for end in ("lowest", "highest"))
        lines.append(f"| {what} | {measured['median']:.2f}{unit} | {low} to {high} |")
    return "\n".join(lines)


@pytest.mark.parametrize("name", ["errors", "speed"])
def test_the_numbers_are_the_records(name: str) -> None:
    shown = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", README, re.DOTALL)
    assert shown is not None
    assert shown[1] == {"errors": errors_table, "speed": speed_table}[name]()


def test_the_numbers_of_the_pretrained_network_are_its_records() -> None:
    path = ROOT / "benchmarks" / "results" / "weights" / "akamaster-resnet20-cifar10-jpeg.json"
    record = json.loads(path.read_text())
    wrong = [record["seen"] - record[f"correct_top{k}"] for k in (1, 5)]
    shown = re.search(r"<!-- akamaster -->(.*?)<!-- /akamaster -->", README, re.DOTALL)
    assert shown is not None
    assert shown[1] == (
        f"{record['top1_error']:.2f}% top-1 and {record['top5_error']:.2f}% top-5 error "
        f"({wrong[0]:,} and {wrong[1]:,} of {record['seen']:,} images)"
    )
