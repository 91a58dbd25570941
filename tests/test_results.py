"""The pages of results: written from committed records, which are of the experiments as they are today."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from harness.command.plan import jobs_of
from harness.command.results import IMAGES, PAGE, README, RECORDS, results, sections_of_records
from harness.comparison.experiments import Line, differences, lines_of
from harness.comparison.results_chart import draw, drawn_in
from harness.comparison.results_page import between
from harness.config.compose import compose
from harness.config.files import choices, own_words, remarks
from harness.errors import UserError
from harness.evaluation.intervals import wilson
from harness.evaluation.published import published_beside

COMMITTED = sorted((ROOT / RECORDS).glob("*/*.json"))
PLACE = {"device": "cpu", "devices": 1, "threads": 1, "torch": "2.15.0"}
TABLES = "<!-- imagenette -->\n<!-- /imagenette -->\n"


def words_of(path: Path) -> list[str]:
    """The command line of a record: `digits_zoo/lenet5-seed0.json`."""
    model, _, seed = path.stem.rpartition("seed")
    chosen = [f"model={model.removesuffix('-')}"] if model else []
    return [f"experiment={path.parent.name}", *chosen, f"seed={seed}"]


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_committed_record_is_of_its_experiment_as_it_is_today(path: Path) -> None:
    config = compose("train", words_of(path))
    content = json.loads(path.read_text(encoding="utf-8"))
    assert differences(content, config, config.seed) == []
    assert content["published"] == published_beside(content)
    assert content["weights"]["source"] == "trained here" and not content["unreadable"]


def test_pages_and_pictures_are_what_the_records_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert results(ROOT, check=True) == 0, capsys.readouterr().out


def record(words: Sequence[str], wrong: int) -> dict[str, Any]:
    """What a run of these words would record."""
    config = compose("train", words)
    images = 360 if config.data.name == "digits" else 10_000
    data = {key: value for key, value in vars(config.data).items() if key not in ("root", "download")}
    content = {
        "schema": "cnn-zoo result",
        "version": 5,
        "model": {"name": config.model.name, "options": config.model.options(), "parameters": 9},
        "data": {"name": config.data.name, "split": "test", "images": images, "fingerprint": config.data.name},
        "protocol": vars(config.protocol),
        "seen": images,
        "top1_error": 100 * wrong / images,
        "top5_error": 0.0,
        "top1_error_interval_95": wilson(wrong, images),
        "top5_error_interval_95": wilson(0, images),
        "weights": {"epoch": config.recipe.epochs, "step": 9, "file": "last.ckpt"},
        "pretrained": None,
        "training": {
            **{"seed": config.seed, "epochs": config.recipe.epochs, "max_batches": None},
            **{"recipe": vars(config.recipe), "images": 9, "fingerprint": "train", "places": [PLACE]},
        },
        "training_data": data,
        "preprocessing": {"size": 32, "resize": None},
        "hash_version": 1,
    }
    return {**json.loads(json.dumps(content)), "published": published_beside(content)}


def write(folder: Path, experiment: str, wrong: Sequence[int], *words: str) -> None:
    """Records of seeds 0, 1, ... of an experiment, with so many wrong answers."""
    (folder / experiment).mkdir(parents=True, exist_ok=True)
    swept = [word.partition("=")[2] for word in words]
    for seed, number in enumerate(wrong):
        name = "-".join([*swept, f"seed{seed}.json"])
        content = record([f"experiment={experiment}", *words, f"seed={seed}"], number)
        (folder / experiment / name).write_text(json.dumps(content), encoding="utf-8")


def lines(experiment: str, folder: Path) -> list[Line]:
    return lines_of(experiment, jobs_of([f"experiment={experiment}"]), folder)


def test_what_a_run_records_is_what_its_words_compose(trained_run: Path) -> None:
    content = json.loads((trained_run / "result.json").read_text(encoding="utf-8"))
    words = ["recipe.epochs=3", "recipe.warmup_epochs=1"]
    assert differences(content, compose("train", words), 0) == []
    assert differences(content, compose("train", words), 1) == ["seed is 0, not 1"]
    assert differences(content, compose("train", [*words, "recipe.learning_rate=0.1"]), 0) == [
        "recipe.learning_rate is 0.05, not 0.1"
    ]


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("model", "name"), "lenet4", "model.name"),
        (("model", "options"), {"hidden": [3]}, "model.hidden"),
        (("training", "recipe", "loss"), "lecun_mle", "recipe.loss"),
        (("training", "recipe", "milestones"), [4, 8, 12], "recipe.milestones"),
        (("training", "recipe", "distortion"), [1, 0, 0, 0], "recipe.distortion"),
        (("training", "recipe", "unheard_of"), 1, "recipe.unheard_of"),
        (("training", "epochs"), 2, "trainer.max_epochs"),
        (("training", "max_batches"), 2, "trainer.max_batches"),
        (("training_data", "validation"), 5000, "data.validation"),
        (("training_data", "mean"), [0.5], "data.mean"),
        (("training_data", "name"), "digits", "data.name"),
        (("data", "name"), "digits", "the data of the test"),
        (("protocol", "precision"), "bf16-mixed", "protocol.precision"),
        (("weights", "file"), "best_on_validation.ckpt", "the epoch of the test"),
        (("pretrained",), {"name": "x"}, "weights"),
    ],
)
def test_a_record_of_other_settings_is_told(keys: tuple[str, ...], value: Any, said: str) -> None:
    words = ["experiment=lenet5_1998_mnist", "seed=2"]
    content, config = record(words, 95), compose("train", words)
    assert differences(content, config, 2) == []
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    (line,) = differences(content, config, 2)
    assert line.startswith(f"{said} is ")


def test_a_setting_that_is_newer_than_a_record_had_its_default(tmp_path: Path) -> None:
    words = ["experiment=lenet5_1998_mnist"]
    content = record(words, 95)
    del content["training"]["recipe"]["distortion"], content["protocol"]["compile"]
    assert differences(content, compose("train", words), 0) == []
    distorted = compose("train", [*words, "recipe.distortion=[1,0,0,0]"])
    assert differences(content, distorted, 0) == ["recipe.distortion is [], not [1.0, 0.0, 0.0, 0.0]"]


def test_a_network_that_joins_an_experiment_leaves_the_records_of_the_others() -> None:
    words = ["experiment=imagenette_zoo", "model=alexnet"]
    content = record(words, 95)
    del content["training"]["recipe"]["learning_rates"]["vgg11_bn"]
    assert differences(content, compose("train", words), 0) == []
    content["training"]["recipe"]["learning_rate"] = 0.003
    assert differences(content, compose("train", words), 0) == ["recipe.learning_rate is 0.003, not 0.001"]


def test_an_experiment_that_changes_after_its_records_refuses_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "lenet1_mnist", [170, 180, 190])
    assert lines("lenet1_mnist", tmp_path)[0].state == ""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    file = tmp_path / "configs" / "experiment" / "lenet1_mnist.yaml"
    file.write_text(file.read_text().replace("learning_rate: 0.06", "learning_rate: 0.05"))
    monkeypatch.setattr("harness.config.files.CONFIGS", tmp_path / "configs")
    monkeypatch.setattr("harness.config.compose.CONFIGS", tmp_path / "configs")
    with pytest.raises(UserError, match=r"lenet1_mnist/seed0.json: .* recipe.learning_rate is 0.06, not 0.05; run it"):
        lines("lenet1_mnist", tmp_path)


def test_a_record_that_no_run_of_the_experiment_makes_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "lenet1_mnist", [170, 180, 190, 200])
    with pytest.raises(UserError, match=r"seed3.json: no run of experiment=lenet1_mnist has this name"):
        lines("lenet1_mnist", tmp_path)


def test_records_of_several_machines_are_no_mean(tmp_path: Path) -> None:
    write(tmp_path, "lenet1_mnist", [170, 180, 190])
    path = tmp_path / "lenet1_mnist" / "seed1.json"
    path.write_text(path.read_text().replace('"torch": "2.15.0"', '"torch": "2.14.0"'))
    with pytest.raises(UserError, match="its runs differ in more than the seed"):
        lines("lenet1_mnist", tmp_path)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some experiments instead of all, because each takes its time to compose."""
    names = ["lenet1_mnist", "lenet4_mnist", "lenet5_1998_mnist", "lenet5_fashion_mnist"]
    monkeypatch.setattr("harness.command.results.choices", lambda group: names)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(("wrong", "verdict"), [(95, "inside the interval"), (40, "better"), (117, "**worse**")])
def test_the_page_says_mean_published_error_and_verdict(tmp_path: Path, wrong: int, verdict: str) -> None:
    write(tmp_path / RECORDS, "lenet5_1998_mnist", [wrong - 10, wrong, wrong + 10])
    (tmp_path / IMAGES).mkdir(parents=True)
    (tmp_path / README).write_text(f"before\n{TABLES}after\n")  # its table has no record here
    assert results(tmp_path, check=True) == 1 and not (tmp_path / PAGE).exists()
    assert results(tmp_path, check=False) == 0 and results(tmp_path, check=True) == 0
    low, high = wilson(wrong, 10_000)
    error = f"{wrong / 100:.2f} ± 0.10 ({low:.2f}-{high:.2f})"
    page = (tmp_path / PAGE).read_text()
    assert (tmp_path / README).read_text() == f"before\n{TABLES}after\n"
    assert f"| 3 | {error} | 0.95 [LeCun 1998, Fig. 9: LeNet-5] | {verdict} | 3 of 5 seeds |" in page
    assert (
        "| LeNet-4 | `python train.py -m experiment=lenet4_mnist` |" in page
        and "| - | not measured yet | 1.1 [" in page
    )
    assert "Not run here: the files of Fashion-MNIST" in page and "(../configs/recipe/lecun_1998.yaml)" in page
    for text in (remarks("recipe", "lecun_1998")["Deviations:"], remarks("experiment", "lenet1_mnist")["Chosen"]):
        assert len(text) > 80 and text in page
    rows = {row["network"]: row for row in drawn_in(tmp_path / IMAGES / "figure9.png") or []}
    assert (rows["LeNet-5 of the paper"]["error"], rows["LeNet-5 of the paper"]["low"]) == (
        pytest.approx(wrong / 100),
        low,
    )
    assert (rows["LeNet-4"]["error"], rows["LeNet-4"]["published"]) == (None, 1.1)
    assert not rows["LeNet-1"]["comparable"] and rows["LeNet-4"]["comparable"]


@pytest.mark.usefixtures("few")
def test_whatever_is_out_of_date_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / RECORDS, "lenet5_1998_mnist", [90, 91, 92, 93, 94])
    (tmp_path / IMAGES).mkdir(parents=True)
    (tmp_path / README).write_text(TABLES)
    assert results(tmp_path, check=False) == 0
    kept = {path: (tmp_path / path).read_bytes() for path in (PAGE, IMAGES / "figure9.png")}
    first, *others = drawn_in(tmp_path / IMAGES / "figure9.png") or []
    for path in kept:
        if path.suffix == ".png":
            draw(tmp_path / path, [{**first, "published": 1.8}, *others], "other numbers")
        else:
            (tmp_path / path).write_bytes(kept[path].replace(b"0.95", b"0.96"))
        assert results(tmp_path, check=True) == 1
        assert capsys.readouterr().out == f"{path}: not what the records say; run python tools/results.py\n"
        (tmp_path / path).write_bytes(kept[path])
    write(tmp_path / RECORDS, "lenet5_1998_mnist", [190])
    assert results(tmp_path, check=True) == 1
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_picture_without_data_is_out_of_date(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / IMAGES / "comparison-mnist.png", tmp_path / "other.png")
    assert drawn_in(tmp_path / "other.png") is None and drawn_in(tmp_path / "none.png") is None


def test_tables_are_one_for_each_paper_and_data_and_one_for_a_zoo(tmp_path: Path) -> None:
    write(tmp_path, "digits_zoo", [9, 8], "model=lenet5")
    sections = sections_of_records(tmp_path)
    tables = {section.title: [line.label for line in section.lines] for section in sections}
    mnist, fashion, zoo = (
        next(names for title, names in tables.items() if title.startswith(start))
        for start in ("MNIST: LeCun", "Fashion-MNIST: LeCun", "The families")
    )
    assert mnist[0] == "Fully connected 784-300-10 with ReLU" and "LeNet-4" in mnist  # as in Figure 9
    assert all(len(names) == len(set(names)) for names in tables.values())
    order = [
        (all(line.state == "not run here" for line in section.lines), ": LeCun" not in section.title)
        for section in sections
    ]
    assert order == sorted(order) and len(set(order)) == 4  # papers, zoos, and the same of what was not run here
    assert fashion == ["LeNet-5 as it is taught today, with today's recipe"]
    assert "lenet5" in zoo and "resnet20" in zoo
    (line,) = (line for section in sections for line in section.lines if line.records)
    assert line.label == "lenet5" and line.row is not None and line.row.top1_error == pytest.approx(100 * 8.5 / 360)
    not_run = {row.source for section in sections for row in section.not_run}
    assert "LeCun 1998, Fig. 9: [dist] 28x28-300-10" in not_run and not any("CIFAR" in name for name in not_run)


def test_every_experiment_says_what_it_sets() -> None:
    assert own_words("lenet5_1998_mnist")[:3] == ["model=lenet5_1998", "data=mnist", "recipe=lecun_1998"]
    for name in (name for name in choices("experiment") if not any("${" in word for word in own_words(name))):
        assert compose("train", own_words(name)).recipe == compose("train", [f"experiment={name}"]).recipe


def test_a_page_without_its_comments_is_not_written() -> None:
    assert between("a\n<!-- x -->\nold\n<!-- /x -->\nb", "x", "new") == "a\n<!-- x -->\nnew\n<!-- /x -->\nb"
    with pytest.raises(LookupError, match="lacks <!-- y -->"):
        between("<!-- x -->\n<!-- /x -->", "y", "new")
