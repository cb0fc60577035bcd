"""What a process has used: its CPU time, and the most memory that it had."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """CPU time of all threads, user and system; and the most memory resident, in MB."""

    cpu_seconds: float
    peak_mb: float


def usage_of(process_id: int) -> Usage:
    """What a process, alive or not yet waited for, has used so far. Raises OSError when there is no such process."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    cpu_seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return Usage(cpu_seconds, _peak_mb(Path(f"/proc/{process_id}/status")))


def own_peak_mb() -> float:
    """The most memory that this program has had resident, in MB.

    `ru_maxrss` survives exec and so knows the parent's peak too; it is the fallback where there is no /proc.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return _peak_mb(status)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def _peak_mb(status: Path) -> float:
    for line in status.read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0  # A process that has ended has no memory any more.
