"""README and manual: their commands run, their links lead somewhere, and their numbers are the records'."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import ROOT, run_script
from PIL import Image
from test_folder_data import classes
from test_hub_data import REPO, cache, write_snapshot  # noqa: F401  # a fixture
from torchvision.models import get_model

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
OWN_TESTS = (
    "cluster.md",
    "lecture.md",
    "library.md",
    "pictures-at-scale.md",
    "results.md",
)  # pages that other tests run


def commands_of(text: str) -> list[str]:
    """The commands in blocks, in tables, and those of `eval.py` in sentences."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    found = [line.split("#")[0].strip() for block in blocks for line in block.splitlines() if "python " in line]
    cells = [line for line in text.splitlines() if line.startswith("| ")]
    found += [command for line in cells for command in re.findall(r"`(python (?:train|eval)\.py [^`]*)`", line)]
    return found + re.findall(r"`(python eval\.py [^`]*)`", text)


ROUTE = [line for line in commands_of(README) if "=my_photos" in line or "resnet18-folder" in line]
IN_README = [command for command in dict.fromkeys(commands_of(README)) if command not in ROUTE]
IN_MANUAL = [
    command
    for command in dict.fromkeys(
        command for name, text in PAGES.items() if name not in OWN_TESTS for command in commands_of(text)
    )
    if command not in (*ROUTE, *IN_README) and "tools/transfer.py" not in command  # `tests/test_transfer.py` runs that
]


@pytest.mark.parametrize("command", [*IN_README, *(pytest.param(line, marks=pytest.mark.slow) for line in IN_MANUAL)])
def test_every_command_runs(command: str, trained_run: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    words = shlex.split(command.split("&& ")[-1])
    assert words[0] == "python"
    run = tmp_path / "runs" / "lenet5-digits" / "a"
    shutil.copytree(trained_run, run)
    if "DATE_TIME-eval" in command:
        shutil.copytree(run, run.with_name("a-eval"))
    if "resume=" in command:
        (run / "result.json").unlink()  # a run that is not finished
    arguments = [word.replace("runs/lenet5-digits/DATE_TIME", str(run)) for word in words[1:]]
    if arguments[0] == "compare.py":
        arguments += [f"runs={run.parent.parent}", f"out={tmp_path / 'out'}"]
    if arguments[0] == "train.py" and "resume=" not in command and "--help" not in command:
        arguments += [f"runs={tmp_path}", "trainer.max_epochs=1", "trainer.max_batches=2"]
    if "experiment=digits_zoo" in arguments:
        arguments += ["model=mlp", "seed=0"]  # one of its jobs
    arguments = [word.replace("seed=0,1", "seed=0") for word in arguments]  # two of its jobs
    if arguments[0] == "eval.py":
        arguments.append(f"runs={tmp_path}")
    if "data=mnist" in arguments:
        arguments.append(f"data.root={request.getfixturevalue('mnist_root')}")
    if "data=cifar10" in arguments:
        root = request.getfixturevalue("cifar10_jpeg")
        arguments = [word.replace("data=cifar10", "data=cifar10_jpeg") for word in arguments] + [f"data.root={root}"]
    if "data=parquet" in arguments:
        weights, data = (request.getfixturevalue(fixture) for fixture in ("akamasters_resnet20", "cifar10_jpeg"))
        arguments += [f"weights={weights}", f"data.root={data}", "trainer.threads=1"]
        arguments = [word for word in arguments if word not in (f"weights={weights.name}", f"data.root={data.name}")]
    if "weights=IMAGENET1K_V2" in arguments:  # a file with its keys and shapes, which knows nothing
        torch.save(get_model(arguments[1].removeprefix("model=")).state_dict(), tmp_path / "weights.pth")
        arguments[arguments.index("weights=IMAGENET1K_V2")] = f"weights={tmp_path / 'weights.pth'}"
        arguments.append("force=true")
    if "data=imagenet" in arguments:
        for split in ("train", "val"):
            sample = ROOT.parent / "shared" / "data" / "imagenet-sample" / "val"
            if not sample.is_dir():
                pytest.skip("the ImageNet pictures are not at ../shared/data/imagenet-sample")
            (tmp_path / "imagenet").mkdir(exist_ok=True)
            (tmp_path / "imagenet" / split).symlink_to(sample)
        small = ["data.image_size=32", "data.resize=36"]
        if arguments[0] == "train.py":
            small += ["data.validation=0", "recipe.batch_size=8"]
        arguments = [*arguments, *small, f"data.root={tmp_path / 'imagenet'}"]
        arguments.remove("data.root=data/imagenet")
    if arguments[0] in ("tools/predict.py", "tools/visualize.py", "tools/export.py"):
        (tmp_path / "photos").mkdir()
        Image.new("RGB", (40, 30), "red").save(tmp_path / "photos" / "a.jpg")
        arguments = [word.replace("out=", f"out={tmp_path}/") for word in arguments]
        arguments = [str(tmp_path / "photos") if word in ("photos", "my_photos") else word for word in arguments]
    if "data=folder" in arguments:
        classes(tmp_path / "photos", 4)
        own = {"data.root=my_photos": f"data.root={tmp_path / 'photos'}", "data.folds=5": "data.folds=2"}
        own["data.fold=0,1,2,3,4"] = "data.fold=0,1"
        torch.save(get_model("resnet18").state_dict(), tmp_path / "resnet18.pth")
        own["weights=IMAGENET1K_V1"] = f"weights={tmp_path / 'resnet18.pth'}"
        arguments = [*(own.get(word, word) for word in arguments), "data.image_size=32", "data.resize=36"]
    if "data=hub" in arguments:
        write_snapshot(request.getfixturevalue("cache"))
        arguments = [*arguments, f"data.repo={REPO}", "data.validation=3", "recipe.batch_size=8"]
        arguments.remove("data.repo=uoft-cs/cifar10")
    done = run_script(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_the_route_of_own_pictures_runs_to_its_end(tmp_path: Path) -> None:
    """Each command uses what the one before made."""
    classes(tmp_path / "my_photos", 4)
    torch.save(get_model("resnet18").state_dict(), tmp_path / "resnet18.pth")  # knows nothing
    short = ["data.image_size=32", "data.resize=36", "trainer.max_epochs=1", "trainer.max_batches=2"]
    for command in ROUTE:
        words = [word for word in shlex.split(command)[1:] if word != "weights=IMAGENET1K_V1"]
        if words[0] == "train.py":
            words += [f"weights={tmp_path / 'resnet18.pth'}", *short]
        else:
            (folder,) = (path.parent for path in (tmp_path / "runs" / "resnet18-folder").glob("*/result.json"))
            words = [word.replace("runs/resnet18-folder/DATE_TIME", str(folder)) for word in words]
        done = run_script(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "names.csv").read_text(encoding="utf-8").count("\n") == 1 + 12
    assert (tmp_path / "photos.onnx").stat().st_size > 40_000_000


LINKS = [
    (page, link)
    for page, text in {"README.md": README, **{f"docs/{name}": text for name, text in PAGES.items()}}.items()
    for link in re.findall(r"\]\(([^)\s]+)\)", text)
]


def anchors(path: Path) -> set[str]:
    """The headings of a page, as links call them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "link"), dict.fromkeys(LINKS))
def test_every_link_leads_somewhere(page: str, link: str) -> None:
    if link.startswith("https://"):
        return  # another's page; no test goes to the network
    place, _, anchor = link.partition("#")
    target = (ROOT / page).parent / place if place else ROOT / page
    assert target.exists(), f"{page}: {link}"
    assert not anchor or anchor in anchors(target), f"{page}: {link}"


def test_the_map_has_every_page_and_every_page_opens_with_its_question() -> None:
    linked = {link.partition("#")[0] for page, link in LINKS if page == "docs/index.md"}
    assert {name for name in PAGES if name != "index.md"} <= linked
    questions = dict(re.findall(r"^\| (.*\?) \| .*?\((\S+\.md)\)", PAGES["index.md"], re.MULTILINE))
    assert set(questions.values()) == {name for name in PAGES if name != "index.md"}
    for name in set(PAGES) - {"index.md"}:
        heading, opening = PAGES[name].split("\n\n")[:2]
        assert heading.startswith("# ") and "?" in opening, f"{name} opens with: {opening}"


def test_the_recipes_are_those_that_there_are() -> None:
    shown = re.search(r"<!-- recipes -->\n(.*?)\n<!-- /recipes -->", PAGES["recipes.md"], re.DOTALL)
    lines = ["| recipe | what it is |", "| --- | --- |"]
    for path in sorted((ROOT / "configs" / "recipe").glob("*.yaml")):
        first = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        lines.append(f"| [`{path.stem}`](../configs/recipe/{path.name}) | {first} |")
    assert shown is not None and shown[1] == "\n".join(lines)


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


IMAGES = {  # what a row says, its record, and where in it
    "training input, image by image, one core": ("input-cpu", ("train_to_preset",)),
    "training input, up to the batch, one core": ("input-cpu", ("train_batches_to_preset",)),
    "training input, up to the batch, two workers": ("input-cpu", ("train_two_workers_to_preset",)),
    "evaluation input, image by image, one core": ("input-cpu", ("evaluation_to_preset",)),
    "evaluation input, up to the batch, one core": ("input-cpu", ("evaluation_batches_to_preset",)),
    "evaluation input, up to the batch, two workers": ("input-cpu", ("evaluation_two_workers_to_preset",)),
    "training input against decoding alone": ("input-cpu", ("train_to_bare_decoder",)),
    "starting again on a folder": ("index-cpu", ("restart_to_image_folder",)),
    "memory of its index": ("index-cpu", ("memory_to_image_folder",)),
    "ResNet-50, float32, channels last against eager": ("evaluation-cpu", ("to_float32", "channels_last")),
    "the same in bfloat16": ("evaluation-cpu", ("to_float32", "bfloat16")),
    "the same in bfloat16, compiled": ("evaluation-cpu", ("to_float32", "bfloat16_compiled")),
}
ON_A_GPU = {  # the same, of `benchmarks/results/gpu/`
    "ResNet-20 on a GPU, images of CIFAR's size, against the usual loop": ("resnet20", ("to_usual", "ours")),
    "the same, compiled, with CUDA graphs": ("resnet20", ("to_usual", "ours_cuda_graphs")),
    "ResNet-50 on a GPU, training against a plain compiled loop": ("resnet50", ("ours_to_plain",)),
    "the same, always with the same algorithms, against the fastest": ("resnet50", ("deterministic_to_ours",)),
    "the same, evaluation against a plain compiled loop": ("evaluation", ("ours_to_plain",)),
    "the same, training, files against a batch in its memory": ("files", ("train_to_synthetic",)),
    "the same, evaluation, files against a batch in its memory": ("files", ("evaluation_to_synthetic",)),
}


def images_table() -> str:
    lines = ["| measured | median | lowest to highest |", "| --- | --- | --- |"]
    gpu = {what: (f"gpu/{name}", keys) for what, (name, keys) in ON_A_GPU.items()}
    for what, (name, keys) in (IMAGES | gpu).items():
        path = ROOT / "benchmarks" / "results" / f"{name}.json"
        if name.startswith("gpu/") and not path.exists():
            lines.append(f"| {what} | not measured yet | |")
            continue
        measured = json.loads(path.read_text())
        for key in keys:
            measured = measured[key]
        lines.append(
            f"| {what} | {measured['median']:.2f}x | {measured['lowest']:.2f}x to {measured['highest']:.2f}x |"
        )
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("page", "name", "table"),
    [
        ("numbers.md", "errors", errors_table),
        ("performance.md", "speed", speed_table),
        ("performance.md", "images", images_table),
    ],
)
def test_the_numbers_are_the_records(page: str, name: str, table: Callable[[], str]) -> None:
    shown = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", PAGES[page], re.DOTALL)
    assert shown is not None
    assert shown[1] == table()


def test_the_numbers_of_the_pretrained_network_are_its_records() -> None:
    path = ROOT / "benchmarks" / "results" / "weights" / "akamaster-resnet20-cifar10-jpeg.json"
    record = json.loads(path.read_text())
    wrong = [record["seen"] - record[f"correct_top{k}"] for k in (1, 5)]
    shown = re.search(r"<!-- akamaster -->(.*?)<!-- /akamaster -->", PAGES["weights.md"], re.DOTALL)
    assert shown is not None
    assert shown[1] == (
        f"{record['top1_error']:.2f}% top-1 and {record['top5_error']:.2f}% top-5 error "
        f"({wrong[0]:,} and {wrong[1]:,} of {record['seen']:,} images)"
    )
