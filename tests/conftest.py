"""What several test files need: the scripts as a user runs them, one trained run, and real data where it is."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import scripts

# Small tensors gain nothing from more threads, and lose much where the cores are shared; read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent
Script = Callable[..., subprocess.CompletedProcess[str]]


def run_script(
    *arguments: str, cwd: Path = ROOT, timeout: float = 600, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`python ARGUMENTS`, with its output; a script is named relative to the repository."""
    script, *rest = arguments
    named = [str(ROOT / script)] if script.endswith(".py") else [script]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HYDRA_", "CNN_ZOO_"))}
    return scripts.run([*named, *rest], cwd, {**kept, **(environment or {})}, timeout)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where a test was skipped for a reason that `EXPECTED_SKIPS`, a regular expression, does not know."""
    expected = os.environ.get("EXPECTED_SKIPS")
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if expected is None or terminal is None or hasattr(session.config, "workerinput"):
        return
    reasons = {str(report.longrepr[2]).removeprefix("Skipped: ") for report in terminal.stats.get("skipped", [])}
    unexpected = sorted(reason for reason in reasons if not re.search(expected, reason))
    if unexpected:
        terminal.write_line(f"skipped without being expected: {'; '.join(unexpected)}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run of the default command, made once."""
    runs = tmp_path_factory.mktemp("runs")
    done = run_script("train.py", "recipe.epochs=3", "recipe.warmup_epochs=1", f"runs={runs}")
    assert done.returncode == 0, done.stderr
    (folder,) = (runs / "lenet5-digits").iterdir()
    return folder


@pytest.fixture(scope="session")
def cifar10_jpeg() -> Path:
    """CIFAR-10, compressed once more as JPEG, in parquet files."""
    root = ROOT.parent / "shared" / "data" / "cifar10-jpeg"
    if not root.is_dir():
        pytest.skip("CIFAR-10 as parquet is not at ../shared/data/cifar10-jpeg")
    return root


@pytest.fixture(scope="session")
def akamasters_resnet20() -> Path:
    """A third party's ResNet-20, trained on CIFAR-10."""
    path = ROOT.parent / "shared" / "data" / "checkpoints" / "akamaster-cifar10-resnet20-12fca82f.th"
    if not path.is_file():
        pytest.skip(f"a third party's checkpoint is not at ../shared/data/checkpoints/{path.name}")
    return path


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """Real MNIST in torchvision's layout."""
    root = ROOT.parent / "shared" / "data" / "mnist"
    if not root.is_dir():
        pytest.skip("real MNIST is not at ../shared/data/mnist")
    return root
