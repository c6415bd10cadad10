"""Measure the available memory, so that images that do not fit stay on disk."""

import os
import sys
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Limits of a container or a batch job (cgroups, versions 2 and 1)."""


def available_memory() -> int:
    """Return the bytes available without swapping on Linux; elsewhere the physical memory.

    The limit of a container is respected. The memory that the container already uses is not
    subtracted, because it includes cached files, which the system can drop.
    """
    bounds = []
    if _MEMINFO.exists():
        lines = (line.split() for line in _MEMINFO.read_text().splitlines())
        bounds += [int(kib) * 1024 for name, kib, *_ in lines if name == "MemAvailable:"]
    elif hasattr(os, "sysconf"):
        bounds.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    limits = [path.read_text().strip() for path in _LIMITS if path.exists()]
    bounds += [int(limit) for limit in limits if limit.isdecimal()]  # "max" means no limit
    return min(bounds, default=sys.maxsize)


def describe(size: int) -> str:
    """Format a number of bytes: GiB with one decimal, or MiB below one GiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
