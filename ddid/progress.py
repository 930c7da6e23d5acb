"""What long loops tell while they run."""

import sys
import time
from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called as `progress(what, done, total)` by every long loop."""

SECONDS_BETWEEN_LINES = 5.0  # our choice: often enough to trust, rare enough to read


def progress_lines(indent: str = "") -> Progress:
    """A `Progress` that prints one line every few seconds and at the end of each task."""
    last = float("-inf")

    def progress(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last >= SECONDS_BETWEEN_LINES:
            last = now
            sys.stdout.write(f"{indent}{what}: {done}/{total}\n")
            sys.stdout.flush()

    return progress
