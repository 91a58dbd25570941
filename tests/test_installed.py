"""Installed is like cloned: `cnn-zoo` from a wheel, from an editable install, and the scripts of a plain clone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from email import message_from_bytes
from email.message import Message
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.version import Version
from PIL import Image

from harness.command import zoo
from harness.run import program
from harness.run.machine import available_cores

SCRIPTS = {"train": "train.py", "eval": "eval.py", "compare": "compare.py"}
SCRIPTS |= {"errors": "tools/errors.py", "audit": "tools/audit.py"}
SCRIPTS |= {"predict": "tools/predict.py", "visualize": "tools/visualize.py", "export": "tools/export.py"}
QUICK = ("model=mlp", "model.hidden=[8]", "recipe.epochs=2", "trainer.accelerator=cpu")
HEAVY = ("torch", "lightning", "sklearn", "scipy", "matplotlib")


def execute(*command: str | Path, cwd: Path) -> str:
    """Run a command that has to succeed; what it printed."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HYDRA_", "CNN_ZOO_", "PYTHONPATH"))}
    done = subprocess.run(command, cwd=cwd, env=kept, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def pip(*words: str | Path, cwd: Path) -> None:
    """Run pip without a network."""
    execute(sys.executable, "-m", "pip", *words, "--quiet", "--no-deps", "--no-index", cwd=cwd)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository: a build writes into it, and would find what an earlier one has left."""
    copy = tmp_path_factory.mktemp("clone") / "cnn zoo"
    copy.mkdir()
    for folder in ("harness", "models", "configs", "tools", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [*ROOT.glob("*.py"), *(ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE"))]:
        shutil.copy(path, copy)
    return copy


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that `pip install .` would make."""
    folder = tmp_path_factory.mktemp("wheels")
    pip("wheel", ".", "--no-build-isolation", "-w", folder, cwd=repository)
    (found,) = folder.iterdir()
    return found


def test_a_wheel_holds_the_packages_and_their_files_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entry,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("/entry_points.txt"))
    code = {path for folder in ("harness", "models") for path in (ROOT / folder).rglob("*.py")}
    values = set((ROOT / "configs").rglob("*.yaml"))
    wanted = {str(path.relative_to(ROOT)) for path in code} | {f"harness/{path.relative_to(ROOT)}" for path in values}
    wanted |= {"harness/py.typed", "models/py.typed", "harness/data/sources/imagenet_classes.txt"}
    assert wanted <= names
    assert {name.split("/")[0] for name in names} == {"harness", "models"}
    assert "cnn-zoo = harness.command.zoo:main" in entry.splitlines()


# ---------------------------------------------------------------------------------------------------- the three ways


Run = Callable[..., str]


@pytest.fixture(scope="module", params=["wheel", "editable", "clone"])
def run(request: pytest.FixtureRequest, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """`run("train", "seed=1", cwd=FOLDER)` in an environment with our dependencies, but not with this repository.

    It lies inside a repository of git's, as a user's `.venv` does.
    """
    project = tmp_path_factory.mktemp("project")
    execute("git", "init", "-q", cwd=project)
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    execute("git", *author, "commit", "-q", "--allow-empty", "-m", "Theirs", cwd=project)
    environment = project / ".venv"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    packages = execute(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=project).strip()
    ours = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (Path(packages) / "dependencies.pth").write_text("\n".join(ours))  # their own .pth files are not read
    if request.param == "wheel":
        pip("--python", python, "install", request.getfixturevalue("wheel"), cwd=project)
    elif request.param == "editable":
        pip("--python", python, "install", "--no-build-isolation", "-e", repository, cwd=project)

    def start(command: str, *words: str | Path, cwd: Path) -> str:
        if request.param != "clone":
            return execute(environment / "bin" / "cnn-zoo", command, *words, cwd=cwd)
        script = ["-m", "models"] if command == "models" else [repository / SCRIPTS[command]]
        return execute(python, *script, *words, cwd=repository if command == "models" else cwd)

    return start


@pytest.fixture
def folder(run: Run, tmp_path: Path) -> Path:
    """A folder with one run in `runs/mlp-digits/a`."""
    run("train", *QUICK, cwd=tmp_path)
    (made,) = (tmp_path / "runs" / "mlp-digits").iterdir()
    made.rename(made.with_name("a"))
    return tmp_path


@pytest.mark.slow
def test_every_command_runs_from_an_empty_folder(run: Run, folder: Path) -> None:
    environment = json.loads((folder / "runs/mlp-digits/a/environment.json").read_text())
    assert environment["git_commit"] is None and environment["git_dirty"] is False  # that repository is not ours
    out_of_eval = run("eval", "run=runs/mlp-digits/a", cwd=folder)
    assert "test top-1 error" in out_of_eval
    assert "mlp" in run("compare", cwd=folder) and len(list((folder / "comparisons").iterdir())) == 1
    assert "resnet50_2015" in run("models", cwd=folder)
    out = run("export", "runs/mlp-digits/a", "format=safetensors", "out=mlp.safetensors", cwd=folder)
    assert out.splitlines()[-1].startswith("mlp.safetensors: mlp, ")
    (folder / "photos").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 30), "red").save(folder / "photos" / name)
    for package in ("harness", "models", "configs"):  # the user's own, and none of our business
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text("raise SystemExit('a stranger')\n")
    words = ("photos", "out=names.csv", "--workers", "1", "--batch_size", "1")
    assert run("predict", "mlp.safetensors", *words, cwd=folder) == "2 of 2 pictures: names.csv\n"
    assert run("visualize", "runs/mlp-digits/a", "photos", cwd=folder) == "runs/mlp-digits/a-visualize/index.html\n"
    assert re.search("why it is wrong: (cnn-zoo errors|python tools/errors.py) runs/mlp-digits/", out_of_eval)
    assert run("errors", "runs/mlp-digits/a", cwd=folder) == "runs/mlp-digits/a-errors/index.html\n"
    assert run("audit", "runs/mlp-digits/a", cwd=folder).endswith("runs/mlp-digits/a-audit/index.html\n")


@pytest.mark.slow
def test_a_sweep_starts_its_jobs(run: Run, tmp_path: Path) -> None:
    out = run("train", "-m", *QUICK, "seed=0,1", cwd=tmp_path)
    assert "2 of 2 jobs done\n" in out and "job 2 of 2: " in out
    assert len(list(tmp_path.glob("runs/mlp-digits/*/result.json"))) == 2


@pytest.mark.slow
def test_a_run_starts_its_other_processes(run: Run, tmp_path: Path) -> None:
    if available_cores() < 2:
        pytest.skip("two processes need two cores")
    assert "2 x cpu" in run("train", *QUICK, "trainer=ddp", "trainer.devices=2", cwd=tmp_path)
    assert len(list(tmp_path.glob("runs/mlp-digits/*/result.json"))) == 1


# ------------------------------------------------------------------------------------------------------- the command


def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    """`cnn-zoo WORDS` in this process: its exit code, and what it printed."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/cnn-zoo", *words])
    monkeypatch.setattr(zoo, "listen", lambda script: None)
    capsys.readouterr()
    try:
        code = zoo.main()
    except SystemExit as end:
        code = int(end.code or 0)
    return code, *capsys.readouterr()


def test_help_and_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, page, stderr = call(capsys, monkeypatch, "--help")
    assert (code, stderr) == (0, "") and max(map(len, page.splitlines())) < 100
    assert re.findall(r"^    (\w+) ", page, re.MULTILINE) == list(zoo.COMMANDS)
    assert call(capsys, monkeypatch) == call(capsys, monkeypatch, "-h") == (0, page, "")
    monkeypatch.setattr(metadata, "version", {"cnn-zoo": "9.8.7"}.__getitem__)  # a clone need not be installed
    assert call(capsys, monkeypatch, "--version") == (0, "cnn-zoo 9.8.7\n", "")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("trian", r"cnn-zoo: trian: no such command; the nearest are: train\b.*"),
        ("seed=1", "cnn-zoo: seed=1: no such command; the nearest are: .*"),
        ("--verison", "cnn-zoo: --verison: no such command; the nearest are: .*--version.*"),
        ("train model=lenet6", "cnn-zoo train: model=lenet6: no such choice; .*lenet5.*"),
        ("train -m seed=0,a", "cnn-zoo train: job seed=a: seed: Value 'a' .*"),
        ("eval run=none", "cnn-zoo eval: run=none: .*"),
        ("compare runs=none", "cnn-zoo compare: runs=none: .*; cnn-zoo train and cnn-zoo eval write result.json .*"),
        ("predict none.ckpt a.jpg", "cnn-zoo predict: none.ckpt: there is no such run folder or file"),
        ("export none.ckpt format=onnx out=a.onnx", "cnn-zoo export: none.ckpt: there is no such run folder or file"),
    ],
)
def test_a_mistake_is_one_line_that_begins_with_what_was_typed(
    words: str, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    code, stdout, stderr = call(capsys, monkeypatch, *words.split())
    assert (code, stdout) == (2, "") and re.fullmatch(f"{line}\n", stderr), stderr


@pytest.mark.parametrize("command", zoo.COMMANDS)
def test_help_names_the_command_and_no_script(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, page, _ = call(capsys, monkeypatch, command, "--help")
    assert code == 0 and f"cnn-zoo {command}" in page
    assert ".py" not in page and "python" not in page


@pytest.mark.parametrize("words", ["--help", "train --help", "train -m seed=0,a", "models", "predict --help"])
def test_what_needs_no_torch_imports_none(words: str) -> None:
    code = f"import atexit, sys; sys.argv = ['cnn-zoo', *{words.split()!r}]\n"
    code += f"atexit.register(lambda: print('HEAVY', sorted({{*{HEAVY!r}}} & set(sys.modules))))\n"
    code += "from harness.command.zoo import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.stdout.endswith("HEAVY []\n"), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("started", "argv", "name", "typed", "again"),
    [
        (["train.py", "seed=1"], ["train.py", "seed=1"], "train.py", "python train.py", ["train.py"]),
        (["-O", "/a/train.py"], ["/a/train.py"], "train.py", "python train.py", ["-O", "/a/train.py"]),
        (["/b/cnn-zoo", "train", "a=1"], ["cnn-zoo train", "a=1"], *["cnn-zoo train"] * 2, ["/b/cnn-zoo", "train"]),
        (["-m", "pytest", "-q"], ["/c/pytest", "-q"], "pytest", "python train.py", ["-m", "pytest"]),
    ],
)
def test_a_program_knows_how_it_was_started(
    started: list[str], argv: list[str], name: str, typed: str, again: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", *started])
    monkeypatch.setattr(sys, "argv", argv)
    assert (program.name(), program.typed("python train.py")) == (name, typed)
    assert program.start() == [sys.executable, *again]


def test_commands_in_a_text_are_those_that_were_started(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "python tools/export.py a; train.py b; python -m models; my_train.py; train.pyc; tools/benchmark.py"
    assert program.typed(text) == text
    monkeypatch.setattr(sys, "argv", ["cnn-zoo compare"])
    assert program.typed(text) == (
        "cnn-zoo export a; cnn-zoo train b; cnn-zoo models; my_train.py; train.pyc; tools/benchmark.py"
    )


# --------------------------------------------------------------------------------------------- versions and citation


@pytest.fixture(scope="module")
def project(wheel: Path) -> Message:
    """What the wheel says of itself: pyproject.toml, which Python 3.10 cannot read."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


@pytest.fixture(scope="module")
def requirements(project: Message) -> dict[str, Requirement]:
    """What the project asks for, extras included, by name in lower case with hyphens."""
    found = [Requirement(line) for line in project.get_all("Requires-Dist", [])]
    assert {"torch", "timm", "onnx"} <= {requirement.name for requirement in found}
    return {normal(requirement.name): requirement for requirement in found if requirement.name != project["Name"]}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def of_ray(requirement: Requirement) -> bool:
    """Whether only the extra `ray` asks for it, which has constraints of its own."""
    return requirement.marker is not None and 'extra == "ray"' in str(requirement.marker)


def constraints(file: str = "constraints.txt") -> dict[str, Version]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    exact = [re.fullmatch(r"([\w.-]+)==([\w.!]+)", line) for line in lines if not line.startswith("#")]
    assert all(exact), f"{file} holds NAME==VERSION alone: no index, no path, no local version"
    return {normal(match[1]): Version(match[2]) for match in exact if match}


def test_constraints_hold_a_version_of_every_dependency_that_pyproject_allows(
    requirements: dict[str, Requirement],
) -> None:
    for name, requirement in requirements.items():
        exact = constraints("constraints-ray.txt" if of_ray(requirement) else "constraints.txt")
        assert name in exact and exact[name] in requirement.specifier, f"{requirement}: {exact.get(name)}"
    assert "cnn-zoo" not in exact


OF_CONSTRAINTS = {"python_version": "3.11", "python_full_version": "3.11.7"}  # whatever Python runs this test


def test_constraints_hold_what_the_dependencies_depend_on(requirements: dict[str, Requirement]) -> None:
    for name, requirement in requirements.items():
        exact = constraints("constraints-ray.txt" if of_ray(requirement) else "constraints.txt")
        try:
            depends = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # of an extra that the tests do not need
            assert name in ("hydra-ray-launcher", "wandb", "mlflow-skinny", "sqlalchemy", "alembic")
            continue
        for line in depends:
            needed = Requirement(line)
            here = metadata.version(name) == str(exact[name])  # another version may need other packages
            if here and (needed.marker is None or needed.marker.evaluate({"extra": "", **OF_CONSTRAINTS})):
                assert normal(needed.name) in exact, f"{name} needs {needed}"


def test_every_lower_bound_is_a_version_that_was_tried(requirements: dict[str, Requirement]) -> None:
    (_, _, text) = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("The lower bounds are true.")
    tried = {normal(name): Version(number) for name, number in re.findall(r"([\w-]+)\s(\d[\d.]*\d)", text)}
    for name, requirement in requirements.items():
        (lowest,) = (Version(bound.version) for bound in requirement.specifier if bound.operator == ">=")
        assert lowest == tried.get(name), f"{requirement}: CONTRIBUTING.md says that {tried.get(name)} was tried"


@pytest.mark.parametrize("name", ["torch", "torchvision"])
def test_a_cpu_build_that_is_there_is_kept(name: str, requirements: dict[str, Requirement]) -> None:
    """pip installs another build only where the one that is there does not satisfy what is asked for."""
    bound, exact = (str(next(iter(requirements[name].specifier)).version), str(constraints()[name]))
    for version in (f"{bound}.0+cpu", f"{exact}+cpu"):
        assert requirements[name].specifier.contains(version), version
    assert Requirement(f"{name}=={exact}").specifier.contains(f"{exact}+cpu")  # as constraints.txt has it


def test_the_readme_names_commands_that_there_are() -> None:
    named = re.findall(r"`cnn-zoo (\S+)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert named and set(named) <= {*zoo.COMMANDS, "--help"}


def test_the_citation_is_of_this_version(project: Message) -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # which CFF 1.2.0 requires
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["version"] == project["Version"] and citation["license"] == project["License-Expression"]
    assert citation["title"] == project["Name"]
    (author,) = citation["authors"]
    assert author["name"] in (ROOT / "LICENSE").read_text(encoding="utf-8")
