"""The rooms: who may import whom, read from the imports themselves."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement


def imports(path: Path) -> set[str]:
    """Absolute names of what a file imports. Only `models/` imports relatively, so that it runs under any name."""
    package = path.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            assert package[0] == "models", f"{path}: a relative import"
            assert node.level <= len(package), f"{path}: an import from above its package"
            parent = package[: len(package) - node.level + 1]
            named = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {".".join((*parent, name)) for name in named}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
    return found


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", sources("models"), ids=str)
def test_models_import_torch_and_the_standard_library_alone(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    assert roots <= {"torch", "models", *sys.stdlib_module_names}


@pytest.mark.parametrize("path", sources("models"), ids=str)
def test_models_import_each_other_relatively(path: Path) -> None:
    """`hubconf.py` loads the package under another name, where `models` may be the user's own."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    absolute = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 0]
    absolute += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [name for name in absolute if str(name).split(".")[0] == "models"]
    assert not re.findall(r"""import_module\(f?["']models.*""", ast.unparse(tree))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from .resnet import LAYERS", {"models.resnet"}),
        ("from . import resnet, vgg", {"models.resnet", "models.vgg"}),
        ("from .weights.cards import read", {"models.weights.cards"}),
        ("from .. import harness", None),
    ],
)
def test_relative_imports_are_read(text: str, expected: set[str] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    if expected is None:
        with pytest.raises(AssertionError, match="from above its package"):
            imports(ROOT / "models" / "x.py")
    else:
        assert imports(ROOT / "models" / "x.py") == expected
    with pytest.raises(AssertionError, match="a relative import"):
        imports(ROOT / "harness" / "data" / "x.py")


LATE = {"weights", "data", "models"}  # what the room of commands imports late alone
ROOMS = {  # of `harness`, and which others each may import; `errors` is everybody's
    "config": {"models.catalogue"},
    "run": {"config"},
    "data": {"run", "config"},
    "evaluation": {"data", "run", "config", "models.catalogue"},
    "weights": {"models", "models.catalogue", "data", "run", "config"},
    "comparison": {"evaluation", "run", "config", "models.catalogue"},
    "training": {"evaluation", "data", "run", "config"},
    "build": {"models", "training", "evaluation", "weights", "data", "run", "config"},
    "prediction": {"build", "weights", "evaluation", "data", "run", "config"},
    "export": {"prediction", "build", "weights", "evaluation", "data", "run", "config"},
    "insight": {"prediction", "build", "weights", "evaluation", "data", "run", "config"},
    "mistakes": {"prediction", "comparison", "weights", "evaluation", "data", "run", "config"},
    "stories": {
        *("build", "training", "evaluation", "comparison", "weights", "data", "run", "config"),
        "models.catalogue",
    },
    "command": {
        "stories",
        "prediction",
        "export",
        "insight",
        "mistakes",
        "comparison",
        "run",
        "config",
        "models.catalogue",
        *LATE,
    },
    "door": {"stories", "prediction", "run", "config"},
    "errors": set(),
}
BOUNDARIES = {"command", "door"}  # where the heavy half is imported late
WITHOUT_TORCH = {"config", "comparison", "command"}


def room_of(module: str) -> str:
    """`harness.data.images.folder` -> `data`; `models.catalogue` -> itself, any other of `models` -> `models`."""
    parts = module.split(".")
    if parts[0] == "models":
        return "models.catalogue" if parts[1:2] == ["catalogue"] else "models"
    return parts[1] if len(parts) > 1 else "door"


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def own_imports(path: Path, late: bool = False) -> set[str]:
    """The modules of `harness` and `models` that a file imports; with `late` those inside functions alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes: list[ast.AST] = [*ast.walk(tree)]
    if late:
        functions = [node for node in nodes if isinstance(node, (ast.FunctionDef, ast.Lambda))]
        nodes = [node for function in functions for node in ast.walk(function)]
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = (ROOT / f"{whole.replace('.', '/')}.py").exists() or (
                    ROOT / whole.replace(".", "/")
                ).is_dir()
                found.add(whole if is_module else str(node.module))
    return {name for name in found if name.split(".")[0] in ("harness", "models")}


@pytest.mark.parametrize("path", sources("harness"), ids=str)
def test_a_room_imports_the_rooms_below_it_alone(path: Path) -> None:
    room = room_of(module_of(path))
    for name in own_imports(path):
        other = room_of(name)
        assert other in (room, "errors") or other in ROOMS[room], f"{room} imports {name}"
        if room == "command" and other in LATE:
            assert name in own_imports(path, late=True), f"{path} imports {name} at its top"


def test_the_table_has_one_direction() -> None:
    order = [*ROOMS]
    assert {room_of(module_of(path)) for path in sources("harness")} == set(order)
    for room, others in ROOMS.items():
        for other in others - {"models", "models.catalogue"}:
            assert room not in ROOMS[other], f"{room} and {other} import each other"


def test_no_circle_of_files() -> None:
    graph = {module_of(path): own_imports(path) for path in sources("harness")}
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way[way.index(module) :], module))
        if module not in done:
            for other in graph.get(module, set()):
                visit(other, (*way, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("path", sources("harness"), ids=str)
def test_own_files_are_imported_at_the_top_but_for_the_boundaries(path: Path) -> None:
    if room_of(module_of(path)) not in BOUNDARIES:
        assert not own_imports(path, late=True)


def test_what_answers_before_torch_is_loaded_does_not_import_it() -> None:
    paths = [path for path in sources("harness") if room_of(module_of(path)) in WITHOUT_TORCH]
    modules = " ".join(f"{module_of(path)}," for path in paths).rstrip(",")
    program = f"import sys, {modules}; print(sorted({{'torch', 'lightning', 'torchvision'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done


def test_nothing_outside_of_config_and_command_knows_hydra() -> None:
    for path in sources("harness"):
        if room_of(module_of(path)) not in ("config", "command"):
            assert not any(name.split(".")[0] == "hydra" for name in imports(path)), path
    for path in sources("harness"):
        assert "HydraConfig" not in path.read_text(encoding="utf-8"), path


def test_versions_of_lightning_that_held_a_credential_stealer_are_never_installed() -> None:
    """GHSA-w37p-236h-pfx3."""
    (lightning,) = re.findall(r'"(lightning[^"]*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    allowed = Requirement(lightning).specifier
    assert [version for version in ("2.6.1", "2.6.2", "2.6.3", "2.6.4") if version in allowed] == ["2.6.1", "2.6.4"]
