"""Two pieces of work against each other on a machine that others use too."""

import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

Row = dict[str, object]
"""what, measured, floor, ratio: seconds unless `what` names another unit."""


def compare(
    what: str, work: Callable[[], object], floor: Callable[[], object], repeats: int = 5
) -> Row:
    """Alternate both, so that a busy machine slows both alike, and take each one's best."""
    work(), floor()
    times = [(timed(work), timed(floor)) for _ in range(repeats)]
    return row(what, *(min(column) for column in zip(*times, strict=True)))


def row(what: str, measured: float, floor: float) -> Row:
    """One line of the table."""
    return {"what": what, "measured": measured, "floor": floor, "ratio": measured / floor}


def timed(run: Callable[[], object]) -> float:
    """Seconds one call takes, the device's queue included."""
    begin = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def device() -> torch.device:
    """The machine's accelerator, or its CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def hardware() -> str:
    """What the figures were measured on."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} CPU threads"


def peak_memory(module: str, *arguments: str) -> float:
    """Largest memory in MiB of `python -m module arguments` in a process of its own.

    The module prints what `largest_memory` says when its work is done.
    """
    command = [sys.executable, "-m", module, *arguments]
    # What is freed goes back at once: else glibc keeps blocks or not, by how it happened to begin.
    given = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=given)
    return float(done.stdout.split()[-1])


def largest_memory() -> float:
    """Largest memory of this process so far, in MiB: on the GPU where there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would also count the parent, up to where this one began
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
