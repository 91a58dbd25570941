"""The tables of a record of `benchmarks.audit`."""

from __future__ import annotations

from typing import Any


def flipped(record: dict[str, Any]) -> str:
    """Markdown: what is found of labels that were flipped by a seed."""
    lines = [
        "| pictures | seed | network's error (%) | flipped | suspected | precision (%) | recall (%) | among the first "
        "| by all probabilities |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in record["flipped"]:
        whole = row["of_all_probabilities"]
        lines.append(
            f"| {row['images']:,} {row['data']} | {row['seed']} | {row['top1_error']:.1f} | {row['wanted']} | "
            f"{row['found']} | {row['precision']:.0f} | {row['recall']:.0f} | {row['right_among_first']} | "
            f"{whole['right']} of {whole['found']} |"
        )
    return "\n".join(lines)


def copies(record: dict[str, Any]) -> str:
    """Markdown: what is found of planted copies."""
    lines = [
        "| copies | pictures | planted | found | precision (%) | recall (%) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in record["copies"]:
        precision = "-" if row["precision"] is None else f"{row['precision']:.0f}"
        counts = f"{row['wanted']} | {row['found']}"
        lines.append(f"| {row['copies']} | {row['data']} | {counts} | {precision} | {row['recall']:.0f} |")
    return "\n".join(lines)
