"""What users would run instead is measured beside this program, and the page says what came out."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from benchmarks.side_by_side.measure import FASTER, PARTS, PEERS, Sizes, measure
from benchmarks.side_by_side.processes import _mebibytes
from harness.command.results import PERFORMANCE, TURNS, performance_page
from harness.comparison import side_by_side
from harness.errors import UserError

TINY = {"mnist": 64, "small": 32, "photographs": 20, "evaluated": 10, "batch_size": 16, "batch_of_photographs": 10}


def made(to_ours: dict[str, float], peaks: dict[str, float] | None = None) -> dict[str, Any]:
    """A record with these medians."""
    machine = {"cpu_count": 2, "versions": {"torch": "2.14.1"}}
    ratios = {name: {"median": m, "lowest": m - 0.1, "highest": m + 0.1} for name, m in to_ours.items()}
    record = {"rounds": 5, "batch_size": 128, "threads": 2, "seconds": {"ours": 3.42}, "to_ours": ratios}
    record |= {"images": 60_000, "peak_mebibytes": peaks} if peaks else {}
    return {**record, "machine": machine, "versions": {"timm": "1.0.31"}}


def test_a_part_without_a_record_says_so() -> None:
    rows = side_by_side.block("lenet5-mnist", None).splitlines()
    assert len(rows) == 2 + 5 and all("| not measured yet |" in row for row in rows[2:])


def test_the_block_says_how_long_others_take_and_where_we_are_behind() -> None:
    record = made({"bare": 0.951, "timm_scripts": 3.004}, {"ours": 800.0, "bare": 600.0, "timm_scripts": 880.0})
    text = side_by_side.block("lenet5-mnist", record)
    assert text.startswith(
        "60,000 images, batches of 128, 2 threads of 2 cores, 5 rounds: ours took 3.4 s and 800 MiB."
    )
    assert "torch 2.14.1, timm 1.0.31." in text
    assert "| timm's scripts | 3.00 | 2.90 to 3.10 | 1.10 |" in text
    assert "| fastai | not measured yet |" in text
    assert "counts and writes nothing (0.95): it neither counts" in text and "Behind timm" not in text
    assert "Behind in memory: a bare loop on tensors in memory, which counts and writes nothing (0.75)." in text


def test_settings_of_ours_are_no_others_to_be_behind() -> None:
    text = side_by_side.block("resnet18-imagenette", made({"fastai_learner": 1.2, "ours_bf16": 0.6}))
    assert "| `train.py` in bfloat16 | 0.60 | 0.50 to 0.70 | - |" in text and text.endswith("Ahead of each.")
    faster = side_by_side.block("resnet18-imagenette", made({"fastai_learner": 0.9}))
    assert faster.endswith("Behind fastai (0.90): why is not known yet.")


def test_the_page_is_made_of_the_records(tmp_path: Path) -> None:
    (tmp_path / TURNS).mkdir(parents=True)
    (tmp_path / PERFORMANCE).parent.mkdir()
    (tmp_path / PERFORMANCE).write_text((ROOT / PERFORMANCE).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / TURNS / "first-step.json").write_text(json.dumps(made({"reference_loop": 0.77})))
    text = performance_page(tmp_path)
    assert text.count("| torchvision's reference loop | not measured yet |") == len(PARTS) - 1
    assert "| torchvision's reference loop | 0.77 | 0.67 to 0.87 | - |" in text
    assert performance_page(ROOT) == (ROOT / PERFORMANCE).read_text(encoding="utf-8")


def test_every_part_and_everyone_measured_has_its_place_on_the_page() -> None:
    assert tuple(side_by_side.PARTS) == PARTS
    assert set(side_by_side.ROWS) == {"bare", *PEERS, *FASTER}
    page = (ROOT / PERFORMANCE).read_text(encoding="utf-8")
    assert all(f"(../benchmarks/side_by_side/{peer}.py)" in page for peer in PEERS)


def test_each_commit_that_a_peer_was_retyped_from_is_on_the_page() -> None:
    page = (ROOT / PERFORMANCE).read_text(encoding="utf-8")
    for peer in PEERS:
        text = (ROOT / "benchmarks" / "side_by_side" / f"{peer}.py").read_text(encoding="utf-8")
        commits = re.findall(r"\(([0-9a-f]{10})\)", text.split('"""')[1])
        assert commits and all(f"({commit})" in page for commit in commits), peer


def test_what_is_missing_is_named_and_what_has_a_record_is_not_measured_again(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"side_by_side: pip install no_such_package; "):
        measure(tmp_path, tmp_path, Sizes(), {"reference_loop": "torchvision", "fastai_learner": "no_such_package"})
    with pytest.raises(UserError, match="it holds no folder mnist"):
        measure(tmp_path, tmp_path, Sizes(), {})
    for data in ("mnist", "cifar10-jpeg", "imagenette224"):
        (tmp_path / data).mkdir()
    for part in PARTS:
        (tmp_path / f"{part}.json").write_text("{}")
    assert measure(tmp_path, tmp_path, Sizes(), {}) == [
        f"{part}: measured before; {tmp_path / part}.json" for part in PARTS
    ]


def test_memory_is_that_of_a_process_and_its_children() -> None:
    before = _mebibytes(os.getpid())
    code = "kept = bytearray(b'x') * (96 * 2**20); print(flush=True); input()"
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert 96 <= _mebibytes(os.getpid()) - before < 160
        child.communicate("\n")


@pytest.mark.slow
def test_each_part_is_measured(tmp_path: Path) -> None:
    root = ROOT.parent / "shared" / "data"
    if not root.is_dir():
        pytest.skip("real MNIST is not at ../shared/data/mnist")
    peers = {peer: package for peer, package in PEERS.items() if importlib.util.find_spec(package)}
    sizes = Sizes(**TINY, rounds=dict.fromkeys(PARTS, 1), threads=1)
    lines = measure(tmp_path, root, sizes, peers)
    assert [line.partition(":")[0] for line in lines] == list(PARTS)
    for part in PARTS:
        record = json.loads((tmp_path / f"{part}.json").read_text())
        assert set(record["to_ours"]) == {
            name for name in side_by_side.PARTS[part] if name not in set(PEERS) - set(peers)
        }
        assert min(record["seconds"].values()) > 0 and all(ratio["median"] > 0 for ratio in record["to_ours"].values())
        assert part == "first-step" or min(record["peak_mebibytes"].values()) > 100
        assert "not measured yet" not in side_by_side.block(part, record) or peers != PEERS
