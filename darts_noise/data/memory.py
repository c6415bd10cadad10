"""How much memory there is, so that images which do not fit are left on disk."""

import os
import sys
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Of a container or a batch job (cgroups, versions 2 and 1)."""


def available_memory() -> int:
    """Bytes that can be taken without swapping, on Linux; elsewhere all of the physical memory.

    A container's limit counts where there is one. What the container has taken already is not
    subtracted, since that includes cached files, which make room.
    """
    bounds = []
    if _MEMINFO.exists():
        lines = (line.split() for line in _MEMINFO.read_text().splitlines())
        bounds += [int(kib) * 1024 for name, kib, *_ in lines if name == "MemAvailable:"]
    elif hasattr(os, "sysconf"):
        bounds.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    limits = [path.read_text().strip() for path in _LIMITS if path.exists()]
    bounds += [int(limit) for limit in limits if limit.isdecimal()]  # "max" is none
    return min(bounds, default=sys.maxsize)


def describe(size: int) -> str:
    """Bytes for a person to read: GiB to one decimal, or MiB below one GiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
