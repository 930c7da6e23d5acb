"""The one training loop: of the generator, of its judges, and of every defence.

Step t draws all its randomness from (seed, t), so a run killed anywhere and started again, on the
same CPU with as many threads, ends with the weights it would have had. "Batch" is the whole batch,
over all processes.
"""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import convert_outputs_to_fp32
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ddid.errors import require, require_within
from ddid.files import lock, read_json, write_json
from ddid.identity import identity
from ddid.progress import Progress
from ddid.seeds import seed_of
from ddid.training.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint, set_aside
from ddid.training.log import LOG, Report, TrainLog, without_time

TRAINED = "trained.json"


@dataclass(frozen=True)
class Fit:
    """How anything here is trained: AdamW, linear warm-up, half a cosine down to 0."""

    steps: int
    lr: float  # at its peak
    warmup: float = 0.1  # share of the steps that warm up, in [0, 1)
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 10.0  # largest Euclidean norm of a step's gradient
    # Half-life of the moving average that is kept, as a share of the steps done; 0: last weights.
    average: float = 0.0
    precision: str = ""  # `no`, `bf16` (losses stay in float32); empty: the launcher's or `no`
    log_every: int = 10
    checkpoint_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        counts = dict.fromkeys(("steps", "log_every", "checkpoint_every"), "[1, inf)")
        sizes = {"lr": "(0, inf)", "warmup": "[0, 1)", "average": "[0, inf)", "clip": "(0, inf)"}
        sizes |= {"weight_decay": "[0, inf)", "seed": f"[0, {2**32})"}
        require_within("training", self, **counts, **sizes)
        fits = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        require(fits, f"training: betas are {self.betas}, give two numbers in [0, 1)")

    def in_force(self) -> dict[str, Any]:
        """What weights also depend on: precision, the launcher's or none other, and processes."""
        found = self.precision or launched() or "no"
        require(found in ("no", "bf16"), f"precision is {found!r}: choose 'no' or 'bf16'")
        require(
            launched() in ("", found),
            f"precision is {found!r} but `accelerate launch` was told {launched()!r}: leave "
            "`precision` empty",
        )
        return {"precision": found, "processes": Accelerator().num_processes}


def launched() -> str:
    """The precision that `accelerate launch` was told; empty without it."""
    return os.environ.get("ACCELERATE_MIXED_PRECISION", "")


class Task(Protocol):
    """What the loop trains."""

    name: str  # for the progress line
    modules: nn.ModuleDict  # everything that learns, on its device

    @property
    def counted(self) -> Sequence[nn.Module]:
        """Networks whose passes the log counts."""

    def step(self, step: int, seed: int) -> Report:
        """Leave this process' gradient of step number `step` in every `.grad`, empty before. `seed`
        belongs to this step of this process; torch's global generator starts from it."""

    def save(self, folder: Path) -> None:
        """Write what is kept of the trained modules."""


def is_trained(folder: Path, key: str) -> bool:
    """Whether `folder` holds what training under this key ends with."""
    known = read_json(folder / TRAINED, {})
    kept = known.get("result", {})
    return known.get("key") == key and kept == _result(folder, kept)


def _result(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Digests of the files a training ended with, which damage changes, a slow computer not."""
    found = {n: identity(file=folder / n) for n in sorted(names) if (folder / n).is_file()}
    return found | {LOG: identity(log=without_time(folder / LOG))}


def _files(folder: Path) -> set[tuple[str, int]]:
    return {(path.name, path.stat().st_mtime_ns) for path in folder.iterdir() if path.is_file()}


def fit(
    task: Task, settings: Fit, folder: str | Path, key: str, progress: Progress | None = None
) -> None:
    """Train, going on from what `folder` holds, and let the task save its result there.

    The folder gets `train_log.jsonl`, the result, and `checkpoint.safetensors` until it is done;
    files of another `key`, which names all that the result depends on, are moved to its folder
    `before`. InputError: a damaged checkpoint, a loss that is no number, or `folder` is in use.
    """
    loop, folder = Loop(task, settings), Path(folder)
    cuda = [loop.device] if loop.device.type == "cuda" else []
    own = lock(folder) if loop.writes else nullcontext()
    numbers = torch.random.fork_rng(cuda)
    with own, numbers, low_precision(task.modules, loop.precision, loop.device):
        loop.run(folder, key, progress)


class Loop:
    """Optimizer, average and processes around one task."""

    def __init__(self, task: Task, settings: Fit) -> None:
        self.task, self.settings, self.accelerator = task, settings, Accelerator()
        self.device, self.writes = self.accelerator.device, self.accelerator.is_main_process
        self.precision = settings.in_force()["precision"]
        self.parameters = [p for p in task.modules.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=settings.lr,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )
        self.average, self.kept = None, nn.ModuleDict({"learnt": task.modules})
        if settings.average:
            self.average = AveragedModel(task.modules, multi_avg_fn=self.follow, use_buffers=True)
            self.kept["average"] = self.average.requires_grad_(False)

    def run(self, folder: Path, key: str, progress: Progress | None) -> None:
        """Take the steps that are left, log and checkpoint on the way, and save the result."""
        checkpoint, settings = folder / CHECKPOINT, self.settings
        if self.writes:
            ended = read_json(folder / TRAINED, {}).get("result", {})
            set_aside(folder, key, {CHECKPOINT, LOG, TRAINED, *ended})
        self.accelerator.wait_for_everyone()
        first = load_checkpoint(checkpoint, self.kept, self.optimizer)
        with closing(TrainLog(folder / LOG, first, self.task.counted)) as log:
            for done in range(first + 1, settings.steps + 1):
                log.add(self.take(done - 1))
                keep = done % settings.checkpoint_every == 0
                if keep or done % settings.log_every == 0 or done == settings.steps:
                    log.flush(done, write=self.writes)
                if keep and self.writes:
                    save_checkpoint(checkpoint, self.kept, self.optimizer, done, key)
                if progress:
                    progress(f"training {self.task.name}", done, settings.steps)
        if self.average:
            self.task.modules.load_state_dict(self.average.module.state_dict())
        if self.writes:
            before = _files(folder)
            self.task.save(folder)
            result = _result(folder, [name for name, _ in _files(folder) - before])
            write_json(folder / TRAINED, {"key": key, "steps": settings.steps, "result": result})
            checkpoint.unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()

    def take(self, step: int) -> Report:
        """Take training step number `step`."""
        seed = seed_of(self.settings.seed, step, self.accelerator.process_index)
        torch.manual_seed(seed)
        self.task.modules.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr * learning_rate(self.settings, step)
        self.optimizer.zero_grad()
        report = self.task.step(step, seed)
        self.average_processes()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        self.optimizer.step()
        if self.average:
            self.done = step
            self.average.update_parameters(self.task.modules)
        return report | {"gradient_norm": norm}

    def follow(self, average: Sequence[Tensor], weights: Sequence[Tensor], _: object) -> None:
        """Move averaged weights towards those of this step; counters are copied. Not by the count
        that torch hands over: it is on the device, which would be waited for."""
        share = 1 - 0.5 ** (1 / (self.settings.average * (self.done + 1)))
        for old, new in zip(average, weights, strict=True):
            old.lerp_(new, share) if old.is_floating_point() else old.copy_(new)

    def average_processes(self) -> None:
        """Give all processes the mean gradient and the mean BatchNorm statistics. Not left to
        accelerate: its hooks never see parameters that functional_call replaces."""
        if self.accelerator.num_processes == 1:
            return
        shared = [p.grad for p in self.parameters if p.grad is not None]
        shared += [b for b in self.task.modules.buffers() if b.is_floating_point()]
        mean = self.accelerator.reduce(torch.cat([t.flatten() for t in shared]), "mean")
        for tensor, part in zip(shared, mean.split([t.numel() for t in shared]), strict=True):
            tensor.copy_(part.view_as(tensor))


def learning_rate(settings: Fit, step: int) -> float:
    """Share of the peak rate at `step`: linear warm-up, then half a cosine down to 0."""
    warm = settings.warmup * settings.steps
    if step < warm:
        return (step + 1) / (warm + 1)
    return (1 + math.cos(math.pi * (step - warm) / (settings.steps - warm))) / 2


@contextmanager
def low_precision(modules: nn.ModuleDict, precision: str, device: torch.device) -> Iterator[None]:
    """Within it, the modules run forwards as `precision` says and return float32; accelerate's own
    setting would be one for the whole interpreter."""
    lowered = list(modules.values()) if precision == "bf16" else []
    autocast = torch.autocast(device.type, torch.bfloat16)
    for module in lowered:
        module.forward = convert_outputs_to_fp32(autocast(module.forward))
    try:
        yield
    finally:
        for module in lowered:
            del module.forward
