"""One training loop for every recipe: device and processes by accelerate, exact resume.

Step t draws all its randomness from (seed, t), so a run killed anywhere and started again ends
with the weights it would have had.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ddid.attack.loop import Budget
from ddid.checkpoint import Settings, check_settings, load_checkpoint, save_checkpoint
from ddid.data.images import Augment, ImageSet, pk_batches, to_unit
from ddid.defense.discriminator import Discriminator
from ddid.defense.log import PassCounter, TrainLog
from ddid.defense.recipe import Batch, Recipe, Scene, Terms
from ddid.defense.recipes import find_recipe
from ddid.defense.step import collect_gradients, prepare_batch
from ddid.errors import require
from ddid.files import read_json
from ddid.model import ModelConfig, ReIDNet, load_model, save_model
from ddid.progress import Progress

LAYOUT = torch.channels_last  # our choice: measured faster on CPUs, by half in the inner attack


@dataclass(frozen=True)
class TrainConfig:
    """What is the same for every recipe in a fair comparison.

    Our choice where nothing else is said: what trains in minutes on a CPU; tuned on a street
    whose people appear in no result (`tests/benchmarks/tuning.py`).
    """

    backbone: str = "resnet-tiny"
    weights: str = ""
    """Folder or hub name of pretrained backbone weights; empty for random ones."""
    steps: int = 300
    identities: int = 16
    """P identities a batch (Hermans et al. 2017) …"""
    images_per_identity: int = 4
    """… with K images each."""
    lr: float = 1e-3
    """Peak learning rate of AdamW, reached by a linear warm-up and left by a cosine."""
    warmup: float = 0.1
    """Share of the steps that warm up, in [0, 1)."""
    weight_decay: float = 5e-4
    clip: float = 10.0
    """Largest Euclidean norm of a step's gradient."""
    eps: float = 8 / 255
    """Budget of the inner attack, in fractions of the pixel range [summary]."""
    attack_step: float = 4 / 255
    attack_steps: int = 3
    precision: str = ""
    """accelerate's mixed precision, `no` or `bf16`; empty for what `accelerate launch` says."""
    log_every: int = 10
    checkpoint_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "images_per_identity", "log_every", "checkpoint_every"):
            count = getattr(self, name)
            require(count >= 1, f"training: {name} is {count}: give at least 1")
        _ = self.budget  # refuses an impossible inner attack here, not in the first step
        require(self.lr > 0, f"training: lr is {self.lr}: give a positive learning rate")
        require(0 <= self.warmup < 1, f"training: warmup is {self.warmup}: give a share in [0, 1)")

    @property
    def budget(self) -> Budget:
        """Of the inner attack, from a random start."""
        return Budget(self.eps, self.attack_step, self.attack_steps, random_start=True)


def train(
    recipe: Recipe | str,
    train_set: ImageSet,
    config: TrainConfig,
    folder: str | Path,
    progress: Progress | None = None,
) -> ReIDNet:
    """Train `recipe`, going on from what `folder` holds.

    Args:
        recipe: a recipe or its name in the registry.
        train_set: images whose identities are the classes.
        config: settings shared by all recipes.
        folder: gets `train_log.jsonl`, the model, and `checkpoint.safetensors` until it is done.
        progress: told the steps done.

    Returns:
        The trained network in evaluation mode, as saved.

    Raises:
        InputError: bad settings, a folder of another run, or a loss that is no number.
    """
    recipe = find_recipe(recipe) if isinstance(recipe, str) else recipe
    folder = Path(folder)
    settings = describe_run(recipe, train_set, config)
    accelerator = Accelerator(mixed_precision=config.precision or None)
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        if (folder / "model.json").exists():
            notes = read_json(folder / "model.json").get("notes", {})
            check_settings(folder, notes.get("settings", {}), settings)
        else:
            source = None
            if recipe.needs_source:
                source = train("none", train_set, config, folder / "source", progress)
            trainer = Trainer(recipe, train_set, config, accelerator, source)
            trainer.run(folder, settings, progress)
        accelerator.wait_for_everyone()
        return load_model(folder).to(accelerator.device)


def describe_recipe(recipe: Recipe) -> Settings:
    """A recipe's name and switches as JSON values; what its functions do is the code's version."""
    named = [f.name for f in fields(recipe) if f.name not in ("card", "craft", "loss")]
    switches = {f"recipe.{name}": getattr(recipe, name) for name in named}
    return json.loads(json.dumps(switches, default=asdict))


def describe_run(recipe: Recipe, train_set: ImageSet, config: TrainConfig) -> Settings:
    """Everything the final weights depend on, as JSON values."""
    pixels = train_set.images.contiguous().numpy().data  # without a copy: Market-1501 is 1.3 GB
    digest = hashlib.blake2b(pixels, digest_size=16).hexdigest()
    data = {"classes": train_set.classes, "images": digest}
    return describe_recipe(recipe) | json.loads(json.dumps(asdict(config) | data))


class Trainer:
    """Network, discriminator, optimizer and data of one run."""

    def __init__(
        self,
        recipe: Recipe,
        train_set: ImageSet,
        config: TrainConfig,
        accelerator: Accelerator,
        source: ReIDNet | None = None,
    ) -> None:
        self.recipe, self.config = recipe, config
        self.accelerator, self.source = accelerator, source
        self.batches = own_share(train_set, config, accelerator)
        height, width = train_set.images.shape[-2:]
        torch.manual_seed(config.seed)
        shape = ModelConfig(len(train_set.classes), config.backbone, height, width)
        self.net = self._placed(ReIDNet(shape, config.weights))
        self.discriminator = Discriminator(self.net.width) if recipe.discriminator else None
        parts = {"net": self.net, "discriminator": self.discriminator}
        self.modules = nn.ModuleDict({n: m for n, m in parts.items() if m is not None})
        self.modules.to(accelerator.device)
        self.parameters = [p for p in self.modules.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
        data = (train_set.images, train_set.labels, train_set.camids)
        self.images, self.labels, self.camids = (part.to(accelerator.device) for part in data)
        self.augment = Augment((height, width))

    def _placed(self, net: ReIDNet) -> ReIDNet:
        """On the device, in the wanted precision and layout.

        Averaging over processes is left to `average_processes`: accelerate's wrapper does it in
        hooks that parameters replaced by functional_call never reach.
        """
        net = self.accelerator.prepare_model(net, evaluation_mode=True)
        return net.to(memory_format=LAYOUT)  # type: ignore[call-overload]  # torch has no stub

    def run(self, folder: Path, settings: Settings, progress: Progress | None = None) -> None:
        """Take the steps that are left, log and checkpoint on the way, and save the model."""
        checkpoint, config, first = folder / "checkpoint.safetensors", self.config, 0
        if checkpoint.exists():
            first = load_checkpoint(checkpoint, self.modules, self.optimizer, settings)
        writes = self.accelerator.is_main_process
        counter = PassCounter(net for net in (self.net, self.source) if net is not None)
        log = TrainLog(folder / "train_log.jsonl", first, counter)
        self.modules.train()
        for step in range(first, config.steps):
            log.add(self.step(step))
            done = step + 1
            keep = done % config.checkpoint_every == 0
            if keep or done % config.log_every == 0 or done == config.steps:
                log.flush(done, write=writes)
            if keep and writes:
                save_checkpoint(checkpoint, self.modules, self.optimizer, done, settings)
            if progress:
                progress(f"training {self.recipe.name}", done, config.steps)
        if writes:
            save_model(self.net, folder, settings=settings)
            checkpoint.unlink(missing_ok=True)

    def step(self, step: int) -> Terms:
        """Take training step number `step`; its losses and accuracies, detached."""
        batch = self.batch(step)
        self.optimizer.zero_grad()
        report = collect_gradients(self.recipe, self.net, self.discriminator, batch)
        self.average_processes()
        report["gradient_norm"] = nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * learning_rate(step, self.config)
        self.optimizer.step()
        return report

    def batch(self, step: int) -> Batch:
        """Augment and attack the images of step number `step`; seeds torch for the whole step."""
        process = self.accelerator.process_index
        seed = int(np.random.SeedSequence([self.config.seed, step, process]).generate_state(1)[0])
        torch.manual_seed(seed)
        rows = self.batches[step].to(self.images.device)
        scene = Scene(
            self.net,
            self.augment(to_unit(self.images[rows])).contiguous(memory_format=LAYOUT),
            self.labels[rows],
            self.config.budget,
            torch.Generator(self.images.device).manual_seed(seed),
            source=self.source,
        )
        return prepare_batch(self.recipe, scene, self.camids[rows])

    def average_processes(self) -> None:
        """Give all processes the mean gradient and the mean BatchNorm statistics."""
        if self.accelerator.num_processes == 1:
            return
        shared = [p.grad for p in self.parameters if p.grad is not None]
        shared += [b for b in self.modules.buffers() if b.is_floating_point()]
        mean = self.accelerator.reduce(torch.cat([t.flatten() for t in shared]), "mean")
        for tensor, part in zip(shared, mean.split([t.numel() for t in shared]), strict=True):
            tensor.copy_(part.view_as(tensor))


def own_share(train_set: ImageSet, config: TrainConfig, accelerator: Accelerator) -> Tensor:
    """Row indices (steps, B) of this process' part of every batch, whole identities each.

    Raises:
        InputError: the identities of a batch do not go round, or leave a process with one.
    """
    count, identities = accelerator.num_processes, config.identities
    require(
        identities % count == 0 and identities >= 2 * count,
        f"batches of {identities} identities for {count} process(es): give a multiple of {count}, "
        f"at least {2 * count}, so that every process sees two identities",
    )
    shape = (identities, config.images_per_identity)
    batches = pk_batches(train_set.labels, *shape, config.steps, config.seed)
    return batches.chunk(count, dim=1)[accelerator.process_index]


def learning_rate(step: int, config: TrainConfig) -> float:
    """Share of the peak rate at `step`: linear warm-up, then half a cosine down to 0."""
    warm = config.warmup * config.steps
    if step < warm:
        return (step + 1) / (warm + 1)
    return (1 + math.cos(math.pi * (step - warm) / (config.steps - warm))) / 2
