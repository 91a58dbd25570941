"""What this machine has for a run. No torch."""

from __future__ import annotations

import os
from pathlib import Path


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shared_memory() -> int:
    """Bytes that are free for batches on their way between processes."""
    place = Path("/dev/shm")
    if not place.is_dir():
        return 2**62
    system = os.statvfs(place)
    return system.f_bavail * system.f_frsize
