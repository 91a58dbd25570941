"""Variants measured in turns: noise that lasts longer than a round meets all of them."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

import torch


def in_turns(variants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """The measurements of each variant, `rounds` of them, after one round that is thrown away."""
    for variant in variants.values():
        variant()
    measured: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            measured[name].append(variant())
    return measured


def ratio(measured: Mapping[str, list[float]], over: str, under: str) -> dict[str, float]:
    """The median over rounds of one variant's measurement divided by another's of the same round, and its spread."""
    ratios = [a / b for a, b in zip(measured[over], measured[under], strict=True)]
    return {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu_count": os.cpu_count(),
        "architecture": platform.machine(),
        "gpu": gpu,
        "threads": torch.get_num_threads(),
        "versions": {package: metadata.version(package) for package in ("torch", "torchvision", "lightning")},
    }
