"""The resources of this machine: CPU cores and shared memory. No torch."""

from __future__ import annotations

import os
from pathlib import Path


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shared_memory() -> int:
    """Return the free bytes of shared memory, through which processes exchange batches."""
    place = Path("/dev/shm")
    if not place.is_dir():
        return 2**62
    system = os.statvfs(place)
    return system.f_bavail * system.f_frsize
