"""Training the generator: EDM loss, label dropout, moving average of the weights, exact resume.

Step t draws all its randomness from (seed, t), so a run killed anywhere and started again ends
with the weights it would have had.
"""

import hashlib
import json
import math
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ddid.balance.diffusion import Denoiser, NoisyBatch, centre, edm_loss, training_sigma
from ddid.balance.network import (
    FORMAT,
    Generator,
    GeneratorConfig,
    LabelledUNet,
    load_generator,
    save_generator,
)
from ddid.balance.prior import measure_sigma_data
from ddid.balance.warp import apply_warps, draw_warps
from ddid.checkpoint import Settings, check_settings, load_checkpoint, save_checkpoint
from ddid.data.images import ImageSet, to_unit
from ddid.errors import require
from ddid.files import read_json
from ddid.progress import Progress
from ddid.seeds import seed_of


@dataclass(frozen=True)
class GeneratorTraining:
    """How a generator is trained. Our choices, made on the procedural street on a CPU."""

    steps: int = 400
    batch: int = 16
    lr: float = 2e-3
    """Peak learning rate of Adam, reached by a linear warm-up and left by a cosine."""
    warmup: float = 0.05
    """Share of the steps that warm up, in [0, 1)."""
    half_life: float = 0.05
    """Steps in which the moving average forgets one half, as a share of the steps done so far."""
    label_dropout: float = 0.1
    """Probability that the identity, and independently the camera, is hidden."""
    warp: float = 0.15
    """Probability of each part of the non-leaky augmentation."""
    tail_boost: float = 0.5
    """An identity with n images is drawn ~ n^(1 − tail_boost): 0 as it comes, 1 all alike."""
    clip: float = 1.0
    """Largest Euclidean norm of a step's gradient."""
    start: str = ""
    """Folder of the user's own diffusers `UNet2DModel` to start from; empty for random weights."""
    checkpoint_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"generator: steps is {self.steps}: give at least 1")
        require(self.batch >= 1, f"generator: batch is {self.batch}: give at least 1")
        require(self.lr > 0, f"generator: lr is {self.lr}: give a positive learning rate")


def pays_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster: GPUs that have it, CPUs with AVX512-BF16 or AMX.

    Our choice: measured 1.6 times faster with those instructions and 15 times slower without.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has: dict = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


def train_generator(
    real: ImageSet,
    config: GeneratorConfig,
    training: GeneratorTraining,
    folder: str | Path,
    progress: Progress | None = None,
) -> Generator:
    """Train on real images, going on from what `folder` holds; the averaged weights are kept.

    Args:
        real: images whose identities and cameras `config` knows, at its size.
        config: the network.
        training: settings.
        folder: gets `generator.safetensors` and `generator.json`; a checkpoint until it is done.
        progress: told the steps done.

    Raises:
        InputError: settings other than the folder's, unknown labels, or a loss that is no number.
    """
    folder = Path(folder)
    settings = _settings(real, config, training)
    accelerator = Accelerator()
    if not (folder / "generator.json").exists():
        trainer = GeneratorTrainer(real, config, training, accelerator)
        trainer.run(folder, settings, progress)
        if accelerator.is_main_process:
            save_generator(Generator(trainer.average, config), folder, settings)
            (folder / "checkpoint.safetensors").unlink(missing_ok=True)
        accelerator.wait_for_everyone()
    check_settings(folder, read_json(folder / "generator.json")["settings"], settings)
    generator = load_generator(folder)
    generator.denoiser.to(accelerator.device)
    return generator


class GeneratorTrainer:
    """Network, its moving average, optimizer and data of one run."""

    def __init__(
        self,
        real: ImageSet,
        config: GeneratorConfig,
        training: GeneratorTraining,
        accelerator: Accelerator,
    ) -> None:
        self.training, self.device = training, accelerator.device
        self.accelerator = accelerator
        self.images = real.images.to(self.device)
        with torch.random.fork_rng([]):
            torch.manual_seed(training.seed)
            network = LabelledUNet(config, training.start)
        labels = config.labels(real.pids, real.camids)
        if network.prior:
            network.prior.fit(real.images, *labels)
        followed = deepcopy(network).requires_grad_(False)
        followed.prior = network.prior
        sigma_data = measure_sigma_data(real.images)
        net, self.average = Denoiser(network, sigma_data), Denoiser(followed, sigma_data)
        nn.ModuleList([net, self.average]).to(self.device)
        # A checkpoint without the prior: that of Market-1501 takes 300 MB and is measured again.
        self.learnt = nn.ModuleDict({"net": network.learnt(), "average": followed.learnt()})
        self.net = accelerator.prepare_model(net)
        self.parameters: list[Tensor] = list(net.parameters())
        fused = self.device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.Adam(
            self.parameters, lr=training.lr, betas=(0.9, 0.99), fused=fused
        )
        self.labels = [label.to(self.device) for label in labels]
        self.nulls = config.nulls
        counts = torch.bincount(real.labels)[real.labels]
        self.weights = counts.double() ** -training.tail_boost
        self.bfloat16 = pays_bfloat16(self.device)

    def run(self, folder: Path, settings: Settings, progress: Progress | None) -> None:
        """Take the steps that are left, with a checkpoint every so often."""
        checkpoint, training, first = folder / "checkpoint.safetensors", self.training, 0
        if checkpoint.exists():
            first = load_checkpoint(checkpoint, self.learnt, self.optimizer, settings)
        for step in range(first, training.steps):
            keep = (step + 1) % training.checkpoint_every == 0
            loss = self.step(step)
            if keep or step + 1 == training.steps:
                self.check(loss, step + 1)
            if keep and self.accelerator.is_main_process:
                save_checkpoint(checkpoint, self.learnt, self.optimizer, step + 1, settings)
            if progress:
                progress("training the generator", step + 1, training.steps)

    def step(self, step: int) -> Tensor:
        """Take training step number `step`; its loss, detached."""
        batch = self.draw(step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.training.lr * learning_rate(step, self.training)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            loss = edm_loss(self.net, batch, self.average.sigma_data)
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        nn.utils.clip_grad_norm_(self.parameters, self.training.clip)
        self.optimizer.step()
        self.follow(step)
        return loss.detach()

    def draw(self, step: int) -> NoisyBatch:
        """Images, noise and labels of step number `step`, on the device."""
        training, size = self.training, self.training.batch
        words = [training.seed, step, self.accelerator.process_index]
        draw = torch.Generator().manual_seed(seed_of(*words))
        rows = torch.multinomial(self.weights, size, replacement=True, generator=draw)
        warps = draw_warps(size, training.warp, draw)
        noise = torch.randn((size, *self.images.shape[1:]), generator=draw)
        sigma = training_sigma(torch.randn(size, generator=draw))
        hidden = torch.rand(2, size, generator=draw) < training.label_dropout
        rows, warps, hidden = (t.to(self.device) for t in (rows, warps, hidden))
        labels = (
            torch.where(hide, null, label[rows])
            for hide, null, label in zip(hidden, self.nulls, self.labels, strict=True)
        )
        images = apply_warps(centre(to_unit(self.images[rows])), warps)
        noise, sigma = noise.to(self.device), sigma.to(self.device)
        return NoisyBatch(images, noise, sigma, (*labels, warps))

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move the averaged weights towards the new ones."""
        keep = 0.5 ** (1 / (self.training.half_life * (step + 1)))
        average: list[Tensor] = list(self.average.parameters())
        torch._foreach_lerp_(average, self.parameters, 1 - keep)

    def check(self, loss: Tensor, step: int) -> None:
        """Stop a run that has gone astray before its weights are kept."""
        require(
            bool(torch.isfinite(loss)),
            f"the generator's loss is no number at step {step}: lower its learning rate "
            f"(now {self.training.lr}); the checkpoint before it is kept",
        )


def learning_rate(step: int, training: GeneratorTraining) -> float:
    """Share of the peak rate at `step`: linear warm-up, then half a cosine down to 0."""
    warm = training.warmup * training.steps
    if step < warm:
        return (step + 1) / (warm + 1)
    return (1 + math.cos(math.pi * (step - warm) / (training.steps - warm))) / 2


def _settings(real: ImageSet, config: GeneratorConfig, training: GeneratorTraining) -> Settings:
    data = hashlib.blake2b(real.images.numpy().tobytes(), digest_size=16).hexdigest()
    described = asdict(config) | asdict(training) | {"images": data, "format": FORMAT}
    del described["checkpoint_every"]
    return json.loads(json.dumps(described))
