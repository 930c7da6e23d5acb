"""What a training writes about itself: `train_log.jsonl`, one line per few steps."""

import json
import math
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from ddid.errors import require
from ddid.files import atomic_write

LOG = "train_log.jsonl"
Report = dict[str, Tensor]
"""One step's scalars by name, detached."""


class TrainLog:
    """`train_log.jsonl`: means over the steps since the last line, and the images that went through
    `nets` forwards and, where the output can be differentiated, backwards. Lines later than `step`
    are dropped, for those steps are taken again."""

    def __init__(self, path: Path, step: int, nets: Iterable[nn.Module]) -> None:
        self.path = path
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            with atomic_write(path) as temporary:
                temporary.write_text("".join(x for x in lines if _step(x) <= step), "utf-8")
        self.hooks = [net.register_forward_hook(self._count) for net in nets]
        self._begin()

    def close(self) -> None:
        """Count no longer."""
        for hook in self.hooks:
            hook.remove()

    def add(self, report: Report) -> None:
        """Remember one step's scalars; does not wait for the device."""
        self.reports.append(report)

    def flush(self, step: int, *, write: bool = True) -> None:
        """Append the line of the steps up to `step`; InputError for a loss that is not finite."""
        names = self.reports[0].keys()
        told = f"a loss has the same terms in every step, not {', '.join(names)} in one alone"
        require(all(report.keys() == names for report in self.reports), told)
        values = torch.stack([torch.stack([r[n] for n in names]).float() for r in self.reports])
        means = dict(zip(names, values.mean(0).tolist(), strict=True))
        wrong = [name for name, value in means.items() if not math.isfinite(value)]
        require(
            not wrong,
            f"training broke down: {''.join(wrong[:1])} is no number in the {len(self.reports)} "
            f"steps before step {step}; lower the learning rate. The last good checkpoint in "
            f"{self.path.parent} is kept",
        )
        line = {"step": step, **means, "forward": self.forward, "backward": self.backward}
        line["seconds"] = round(time.monotonic() - self.began, 3)
        if write:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")
        self._begin()

    def _begin(self) -> None:
        self.reports: list[Report] = []
        self.forward = self.backward = 0
        self.began = time.monotonic()

    def _count(self, net: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        first = output if isinstance(output, Tensor) else output[0]
        self.forward += len(inputs[0])
        self.backward += len(inputs[0]) * first.requires_grad


def read_log(folder: str | Path) -> pd.DataFrame:
    """`train_log.jsonl` as a table: step, loss, the task's terms, gradient_norm, and since the last
    row forward, backward (images through the networks) and seconds."""
    path = Path(folder) / LOG
    require(path.is_file(), f"no training log {path}: train first")
    return pd.read_json(path, lines=True)


def without_time(path: Path) -> str:
    """A log's text, whole or damaged, without what another run of the same training changes."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return re.sub(r', "seconds": [\d.]+}', "}", text)


def _step(line: str) -> float:
    """Step of a log line; a half-written one counts as past everything."""
    try:
        return json.loads(line)["step"]
    except json.JSONDecodeError:
        return math.inf
