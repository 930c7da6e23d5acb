"""What long loops tell while they run: bars where somebody looks, else a line now and then."""

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

Progress = Callable[[str, int, int], None]
"""Called as `progress(what, done, total)` by every long loop; loops may be nested."""

CHANNEL = "DDID_PROGRESS"  # environment variable: the file through which a notebook tells the run
SECONDS_BETWEEN_LINES = 10.0  # our choice: often enough to trust, rare enough to read
SECONDS_WORTH_A_LINE = 5.0  # a bar that took less leaves nothing behind
SECONDS_BETWEEN_LOOKS = 0.5


def progress_bars() -> Progress:
    """Bars with rate and remaining time in a notebook or terminal, lines without either.

    Under `ddid run` a notebook's progress goes to the run's own display, and the executed notebook
    stays free of it.
    """
    if CHANNEL in os.environ:
        return _told(Path(os.environ[CHANNEL]))
    return _Bars() if "ipykernel" in sys.modules or sys.stderr.isatty() else progress_lines()


def progress_lines(stream: TextIO | None = None) -> Progress:
    """One line every few seconds; the end of a task only if its course was told."""
    begun: dict[str, float] = {}
    last = [float("-inf")]

    def progress(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        first = begun.setdefault(what, now)
        if now - last[0] >= SECONDS_BETWEEN_LINES or (done >= total and last[0] >= first):
            last[0] = now
            left = in_words((now - first) * (total - done) / max(done, 1))
            more = f", {left} left" if done < total and now > first else ""
            print(f"    {what}: {done}/{total}{more}", file=stream or sys.stdout, flush=True)
        if done >= total:
            del begun[what]

    return progress


class _Bars:
    """A bar for each loop under way, inner ones below outer ones."""

    def __init__(self, stream: TextIO | None = None, first: int = 0) -> None:
        self.open: list[Any] = []
        self.names: list[str] = []
        self.stream, self.first = stream, first

    def __call__(self, what: str, done: int, total: int) -> None:
        from tqdm import tqdm as on_terminal
        from tqdm.auto import tqdm

        kind = on_terminal if self.stream else tqdm
        if what not in self.names:
            self.names.append(what)
            position = self.first + len(self.open)
            where = {"position": position, "file": self.stream, "leave": False}
            self.open.append(kind(desc=what, total=total, initial=done, **where))
        depth = self.names.index(what)
        self.close(depth + 1)
        bar = self.open[depth]
        bar.total = total
        bar.update(done - bar.n)
        if done >= total:
            self.close(depth)

    def close(self, depth: int = 0) -> None:
        """Close the bars from `depth` on; the outermost leaves a line if it took a while."""
        for index, bar in reversed(list(enumerate(self.open[depth:], depth))):
            bar.leave = (
                index + self.first == 0 and bar.format_dict["elapsed"] > SECONDS_WORTH_A_LINE
            )
            bar.close()
            self.open.pop()
            self.names.pop()


def _told(channel: Path) -> Progress:
    last = [0.0]

    def progress(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - last[0] < SECONDS_BETWEEN_LOOKS:
            return
        last[0] = now
        temporary = channel.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps([what, done, total]), encoding="utf-8")
        os.replace(temporary, channel)

    return progress


@contextmanager
def overall(stream: TextIO, headline: Callable[[], str]) -> Iterator[Callable[[str], None]]:
    """Show where a run is, and what its notebook tells, until the block ends.

    Args:
        stream: two bars at its foot if it is a terminal; else a line every few seconds.
        headline: say "notebook 3 of 6, about 6 minutes left"; asked again and again.

    Yields what prints a text above the bars.
    """
    with tempfile.TemporaryDirectory(prefix="ddid-") as folder:
        os.environ[CHANNEL] = str(Path(folder) / "progress.json")
        show = _Foot(stream, headline) if stream.isatty() else _Lines(stream, headline)
        end = threading.Event()
        thread = threading.Thread(target=_look, args=(end, show), daemon=True)
        thread.start()
        try:
            yield show.say
        finally:
            end.set()
            thread.join()
            show.close()
            del os.environ[CHANNEL]


def _look(end: threading.Event, show: "_Lines | _Foot") -> None:
    channel = Path(os.environ[CHANNEL])
    while not end.wait(SECONDS_BETWEEN_LOOKS):
        show(*(json.loads(channel.read_text("utf-8")) if channel.exists() else ["", 0, 0]))


class _Lines:
    """A line every few seconds, if something is new."""

    def __init__(self, stream: TextIO, headline: Callable[[], str]) -> None:
        self.stream, self.headline, self.last, self.told = stream, headline, time.monotonic(), ""

    def __call__(self, what: str, done: int, total: int) -> None:
        now, text = time.monotonic(), f"{what} {done}/{total}"
        if what and text != self.told and now - self.last >= SECONDS_BETWEEN_LINES:
            self.last, self.told = now, text
            self.say(f"    {text} ({self.headline()})\n")

    def say(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()

    def close(self) -> None:
        """Nothing is left open."""


class _Foot:
    """The headline and the bar of the task, at the foot of a terminal."""

    def __init__(self, stream: TextIO, headline: Callable[[], str]) -> None:
        from tqdm import tqdm

        self.stream, self.headline, self.bars = stream, headline, _Bars(stream, first=1)
        self.top = tqdm(total=0, bar_format="{desc}", position=0, leave=False, file=stream)

    def __call__(self, what: str, done: int, total: int) -> None:
        self.top.set_description_str(self.headline())
        if self.bars.names and self.bars.names[0] != what:
            self.bars.close()
        if what and (done < total or self.bars.open):
            self.bars(what, done, total)

    def say(self, text: str) -> None:
        self.top.write(text, file=self.stream, end="")

    def close(self) -> None:
        self.bars.close()
        self.top.close()


def in_words(seconds: float) -> str:
    """Roughly how long.

    >>> in_words(20), in_words(100), in_words(3700), in_words(3 * 3600)
    ('20 seconds', '2 minutes', '1 hour', '3 hours')
    """
    for unit, name in ((3600, "hour"), (60, "minute")):
        if seconds >= 0.95 * unit:
            number = max(round(seconds / unit), 1)
            return f"{number} {name}{'s' * (number > 1)}"
    return f"{max(round(seconds), 1)} seconds"
