"""Training the generator: EDM's loss, with references and labels hidden at random."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ddid.balance.edm import Condition, Denoiser, centre, edm_loss
from ddid.balance.network import (
    Generator,
    GeneratorConfig,
    ReferenceUNet,
    load_generator,
    pays_bfloat16,
    save_generator,
)
from ddid.balance.references import References
from ddid.data.images import ImageSet, rows_of_each, to_unit
from ddid.errors import InputError, require, require_within
from ddid.files import read_json
from ddid.identity import identity
from ddid.progress import Progress
from ddid.seeds import drawn_from
from ddid.training import Fit, fit, is_trained
from ddid.training.loop import launched

SPREAD = 1.2  # standard deviation of ln σ in training, EDM's [summary]
TAIL_BOOST = 0.5  # an identity with n images is drawn ~ n^(1 − TAIL_BOOST)
TOLERANCE = 0.02  # mean colour of an identity, in [0, 1], that decoders may disagree by


@dataclass(frozen=True)
class GeneratorTraining:
    """How a generator is trained. Our choices, made on the procedural street on a CPU."""

    steps: int = 1600  # 0 takes the start as it is
    batch: int = 16
    lr: float = 1.5e-3  # at its peak
    log_sigma: float = -0.4  # mean of ln σ, EDM's is −1.2; with a source, higher levels draw places
    average: float = 0.05  # half-life of the weights' average, of the steps so far; 0: none
    start: str = ""  # folder of a generator of the same people to go on from; empty: random weights
    seed: int = 0

    def __post_init__(self) -> None:
        steps = "[0, inf)" if self.start else "[1, inf)"
        require_within("generator", self, steps=steps, batch="[1, inf)", lr="(0, inf)")

    def settings(self, device: torch.device) -> Fit:
        """Those of the training loop; bfloat16 where it pays, unless a launcher decides."""
        return Fit(
            self.steps,
            self.lr,
            warmup=0.05,
            betas=(0.9, 0.99),
            clip=1.0,
            average=self.average,
            precision="" if launched() else "bf16" if pays_bfloat16(device) else "no",
            seed=self.seed,
        )


def train_generator(
    real: ImageSet,
    config: GeneratorConfig,
    training: GeneratorTraining,
    folder: str | Path,
    progress: Progress | None = None,
) -> Generator:
    """Train on real images that `config` knows, going on from what `folder` holds. `folder` gets
    the averaged weights, `generator.safetensors`, and `generator.json`. InputError: unknown labels,
    a start of other people or another architecture, or a loss that is no number."""
    device = Accelerator().device
    generator = started(real, config, training)
    if training.steps > 0:
        settings = training.settings(device)
        key = identity(
            code=(GeneratorTask, fit, ReferenceUNet),
            data=(real.images, real.pids, real.camids),
            start=generator.denoiser.state_dict(),
            to=training,
            fit=settings,
            **settings.in_force(),
        )
        if not is_trained(Path(folder), key):
            task = GeneratorTask(real, generator, training, device)
            fit(task, settings, folder, key, progress)
        generator = load_generator(folder)
    generator.denoiser.to(device)
    return generator


def started(real: ImageSet, config: GeneratorConfig, training: GeneratorTraining) -> Generator:
    """A generator as training finds it: random weights, or those of a start that fits."""
    if not training.start:
        rows = torch.linspace(0, len(real) - 1, min(len(real), 1024)).round().long()
        sigma_data = centre(to_unit(real.images[rows])).std().item()
        with drawn_from(training.seed):
            return Generator(Denoiser(ReferenceUNet(config), sigma_data), config)
    wrong = unfit(training.start, real, config)
    require(not wrong, f"{wrong}: leave generator_start empty to train one")
    return load_generator(training.start)


def unfit(folder: str | Path, real: ImageSet, config: GeneratorConfig) -> str:
    """Why the generator in `folder` is not for these images, in words; empty where it is."""
    if not Path(folder, "generator.json").is_file():
        return f"{folder} holds no generator"
    try:
        made_for = load_generator(folder).config
    except InputError as error:
        return str(error)
    if made_for != config:
        return f"{folder} is a generator of another architecture, other identities or cameras"
    known, found = read_json(Path(folder) / "generator.json").get("people", {}), people(real)
    strange = sum(
        pid not in known
        or max(abs(a - b) for a, b in zip(known[pid], found[pid], strict=True)) > TOLERANCE
        for pid in found
    )
    return f"{folder} was trained on other people ({strange} of {len(found)})" if strange else ""


def people(real: ImageSet) -> dict[str, list[float]]:
    """Whom a generator is made for: of each identity the number of images and the mean colour."""
    colours = torch.cat([to_unit(part).mean((2, 3)) for part in real.images.split(256)])
    return {
        str(pid): [len(own), *(round(value, 3) for value in colours[own].mean(0).tolist())]
        for pid, own in zip(real.classes, rows_of_each(real.pids), strict=True)
    }


class GeneratorTask:
    """A generator's training steps, for `ddid.training.fit`."""

    name = "the generator"

    def __init__(
        self,
        real: ImageSet,
        generator: Generator,
        training: GeneratorTraining,
        device: torch.device,
    ) -> None:
        self.net, self.config = generator
        self.training = training
        self.modules = nn.ModuleDict({"net": self.net}).to(device)
        self.counted = [self.net]
        self.references = References(real, self.config, device)
        self.people = people(real)
        counts = torch.bincount(self.references.identity)[self.references.identity]
        self.weights = counts.double() ** -TAIL_BOOST
        self.share = -(-training.batch // Accelerator().num_processes)

    def draw(self, seed: int) -> tuple[Tensor, Tensor, Tensor, Condition]:
        """Images, noise, noise levels and condition of one process' step."""
        references, size = self.references, self.share
        draw = torch.Generator().manual_seed(seed)
        rows = torch.multinomial(self.weights, size, replacement=True, generator=draw)
        told = references.training(rows, draw)
        images = references.show(rows)
        noise = torch.randn(images.shape, generator=draw).to(images)
        sigma = self.training.log_sigma + SPREAD * torch.randn(size, generator=draw)
        return images, noise, sigma.exp().to(images), told

    def step(self, step: int, seed: int) -> dict[str, Tensor]:
        """Leave the gradient of one step."""
        loss = edm_loss(self.net, *self.draw(seed))
        loss.backward()
        return {"loss": loss.detach()}

    def save(self, folder: Path) -> None:
        """Write the generator, how it was trained and for whom."""
        notes = {"training": asdict(self.training), "people": self.people}
        save_generator(Generator(self.net, self.config), folder, notes)
