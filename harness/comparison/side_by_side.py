"""The tables of `docs/performance.md` that compare this program with what users would run instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.comparison.tables import markdown_table

COLUMNS = ("instead of ours", "times as long", "lowest to highest", "times the memory")
NOT_MEASURED = "not measured yet"
ROWS = {
    "bare": "a bare loop on tensors in memory, which counts and writes nothing",
    "reference_loop": "torchvision's reference loop",
    "timm_scripts": "timm's scripts",
    "lightning_template": "the Lightning-Hydra template",
    "fastai_learner": "fastai",
    "ours_bf16": "`train.py` in bfloat16",
    "ours_bf16_cache": "the same, with `data.cache=146`",
}
OURS = ("ours_bf16", "ours_bf16_cache")
PEERS = ("reference_loop", "timm_scripts", "lightning_template", "fastai_learner")
PARTS = {  # the rows of each, by the name of its record
    "lenet5-mnist": ("bare", *PEERS),
    "resnet20-cifar10": PEERS,
    "resnet18-imagenette": (*PEERS, *OURS),
    "first-step": PEERS,
    "resnet50-evaluation": PEERS,
}
ONCE = "of so few steps, what a run does once, its checkpoint and its curves, is a part that can be seen"
LONGER = {  # why, by part and row
    ("lenet5-mnist", "bare"): (
        "it neither counts nor checks nor reports, writes no checkpoint and no curves, and normalises images beforehand"
    ),
    ("resnet20-cifar10", "reference_loop"): ONCE,
    ("resnet20-cifar10", "timm_scripts"): ONCE,
    ("first-step", "reference_loop"): "it imports neither Lightning nor Hydra",
    ("first-step", "timm_scripts"): "they import neither Lightning nor Hydra",
    ("first-step", "lightning_template"): (
        "it is retyped without its Hydra, which composes and checks the settings here before Lightning starts"
    ),
}
LARGER = (
    "Lightning, Hydra and matplotlib take memory before the first image does, and so does a process that starts those "
    "that decode pictures, with torch loaded once more"
)


def block(part: str, record: Mapping[str, Any] | None) -> str:
    """Return what stands on the page for a part: what was measured, its table, and where this program is behind.

    Args:
        part: name of the record, of `PARTS`.
        record: of `python tools/benchmark.py side_by_side`; None if there is none yet.
    """
    table = markdown_table(COLUMNS, [_row(name, record) for name in PARTS[part]])
    if record is None:
        return table
    return f"{_measured(record)}\n\n{table}\n\n{_behind(part, record)}"


def _row(name: str, record: Mapping[str, Any] | None) -> tuple[str, str, str, str]:
    found = record and record["to_ours"].get(name)
    if not record or not found:
        return ROWS[name], NOT_MEASURED, "", ""
    spread = f"{found['lowest']:.2f} to {found['highest']:.2f}"
    memory = _memory(name, record)
    return ROWS[name], f"{found['median']:.2f}", spread, "-" if memory is None else f"{memory:.2f}"


def _memory(name: str, record: Mapping[str, Any]) -> float | None:
    """The peak as a multiple of ours; None where it was not measured."""
    peaks = record.get("peak_mebibytes")
    return peaks[name] / peaks["ours"] if peaks else None


def _measured(record: Mapping[str, Any]) -> str:
    """What it was measured on, and how long we took."""
    versions = {**record["machine"]["versions"], **record["versions"]}
    peak = record.get("peak_mebibytes")
    images = f"{record['images']:,} images, " if "images" in record else ""
    memory = f" and {peak['ours']:,.0f} MiB" if peak else ""
    return (
        f"{images}batches of {record['batch_size']}, {record['threads']} threads of "
        f"{record['machine']['cpu_count']} cores, {record['rounds']} rounds: ours took "
        f"{record['seconds']['ours']:.1f} s{memory}. {', '.join(f'{name} {of}' for name, of in versions.items())}."
    )


def _behind(part: str, record: Mapping[str, Any]) -> str:
    """Where another is faster or smaller, and why."""
    others = [name for name in PARTS[part] if name not in OURS and name in record["to_ours"]]
    faster = {name: record["to_ours"][name]["median"] for name in others}
    smaller = {name: memory for name in others if (memory := _memory(name, record)) is not None}
    said = [
        f"Behind {ROWS[name]} ({times:.2f}): {LONGER.get((part, name), 'why is not known yet')}."
        for name, times in faster.items()
        if times < 1
    ]
    less = [f"{ROWS[name]} ({times:.2f})" for name, times in smaller.items() if times < 1]
    if less:
        said.append(f"Behind in memory: {'; '.join(less)}. {LARGER}.")
    return " ".join(said) or "Ahead of each."
