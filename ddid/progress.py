"""What long loops tell while they run: bars where somebody looks, else a line now and then."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

Progress = Callable[[str, int, int], None]
"""Called as `progress(what, done, total)` by every long loop; loops may be nested."""

SECONDS_BETWEEN_LINES = 10.0  # our choice: often enough to trust, rare enough to read
SECONDS_WORTH_A_BAR = 2.0  # what takes less is not shown
SECONDS_BETWEEN_LOOKS = 0.5
UNITS = ((3600, "hour"), (60, "minute"))


def progress_bars() -> Progress:
    """Bars with rate and remaining time in JupyterLab or a terminal, lines without either, for
    papermill plays a browser to bars and then may wait for ever (nbclient's issue 312)."""
    kernel = "ipykernel" in sys.modules
    seen = "JPY_SESSION_NAME" in os.environ if kernel else sys.stderr.isatty()
    return _Bars() if seen else progress_lines()


class _Bars:
    """A bar for each loop under way, inner ones below outer ones; the outermost leaves a line."""

    def __init__(self) -> None:
        self.open: dict[str, Any] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        from tqdm.auto import tqdm

        if what not in self.open:
            begun = {"total": total, "initial": done, "delay": SECONDS_WORTH_A_BAR}
            self.open[what] = tqdm(desc=what, leave=None, **begun)
        while (inner := [*self.open][-1]) != what:
            self.open.pop(inner).close()
        self.open[what].update(done - self.open[what].n)
        if done >= total:
            self.open.pop(what).close()


def progress_lines(
    stream: TextIO | None = None, headline: Callable[[], str] | None = None
) -> Progress:
    """One line every few seconds; the end of a task only if its course was told."""
    begun: dict[str, tuple[float, int, int]] = {}
    last = [float("-inf")]

    def progress(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        first, start, before = begun.get(what, (now, done, done))
        if done < before:  # another task of the same name
            first, start = now, done
        begun[what] = first, start, done
        if now - last[0] >= SECONDS_BETWEEN_LINES or (done >= total and last[0] >= first):
            last[0] = now
            left = in_words((now - first) * (total - done) / max(done - start, 1))
            more = f", {left} left" if start < done < total and now > first else ""
            where = f" ({headline()})" if headline else ""
            print(f"    {what}: {done}/{total}{more}{where}", file=stream, flush=True)
        if done >= total:
            del begun[what]

    return progress


def progress_told(channel: Path) -> Progress:
    """Leaves the latest in a file, for the run that shows it; see `overall`."""
    last = [0.0]

    def progress(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total or now - last[0] >= SECONDS_BETWEEN_LOOKS:
            last[0] = now
            temporary = channel.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps([what, done, total]), encoding="utf-8")
            os.replace(temporary, channel)

    return progress


@contextmanager
def overall(
    channel: Path, stream: TextIO, headline: Callable[[], str]
) -> Iterator[Callable[[str], None]]:
    """Show where a run is, as `headline` says again and again, and what its notebook tells through
    the file `channel`, until the block ends: two bars at the foot of a terminal, else a line every
    few seconds. Yields what prints a text above the bars."""
    from tqdm import tqdm

    def say(text: str) -> None:
        tqdm.write(text, file=stream, end="")
        stream.flush()

    def look() -> None:
        seen, of = "", ""
        while not end.wait(SECONDS_BETWEEN_LOOKS):
            head.set_description_str(headline())
            told = channel.read_text(encoding="utf-8") if channel.exists() else ""
            if told in ("", seen):
                continue
            what, done, total = json.loads(told)
            if bar.disable:
                with suppress(BrokenPipeError):  # nobody reads on: `say` stops the run
                    lines(what, done, total)
            elif what != of:
                bar.reset(total)
                bar.initial = done
                bar.set_description(what, refresh=False)
            bar.n, bar.total = done, total
            bar.refresh()
            seen, of = told, what

    channel.unlink(missing_ok=True)  # a killed run's
    lines, end = progress_lines(stream, headline), threading.Event()
    foot = {"file": stream, "leave": False, "disable": not stream.isatty()}
    with tqdm(bar_format="{desc}", **foot) as head, tqdm(delay=1, **foot) as bar:
        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield say
        finally:
            end.set()
            thread.join()
            channel.unlink(missing_ok=True)


def in_words(seconds: float) -> str:
    """Roughly how long.

    >>> in_words(1), in_words(100), in_words(3700), in_words(3 * 3600)
    ('1 second', '2 minutes', '1 hour', '3 hours')
    """
    unit, name = next((pair for pair in UNITS if seconds >= 0.95 * pair[0]), (1, "second"))
    number = max(round(seconds / unit), 1)
    return f"{number} {name}{'s' * (number > 1)}"
