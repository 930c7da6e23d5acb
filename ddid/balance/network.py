"""The generator's network: diffusers' `UNet2DModel`, told labels and shown references."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, silu

from ddid.balance.edm import Condition, Denoiser
from ddid.data.images import ImageSet
from ddid.errors import refused, require
from ddid.files import atomic_write, read_json, write_json

FORMAT = 3
# c_noise = ln σ / 4 spans only ±1.5, but a positional embedding resolves steps of about 1.
NOISE_SPREAD = 250.0
GROUPS = 16  # of channels normalised together
HEAD = 32  # channels of an attention head, of which the innermost level has one or more
SHOWN = 4  # images side by side: the noisy one, source, person and place


@dataclass(frozen=True)
class GeneratorConfig:
    """What it takes to build a generator again."""

    identities: tuple[int, ...]  # pids it knows, ascending
    cameras: tuple[int, ...]  # camids it knows, ascending
    height: int = 64  # pixels
    width: int = 32  # pixels
    channels: tuple[int, ...] = (32, 64, 128)
    patch: int = 2  # side of the square of pixels folded into channels, which makes steps cheaper

    def __post_init__(self) -> None:
        channels, patch = self.channels, self.patch
        require(
            bool(channels) and channels[-1] >= HEAD and all(c % GROUPS == 0 < c for c in channels),
            f"generator channels {list(channels)}: give multiples of {GROUPS}, the last {HEAD} or "
            "more",
        )
        require(patch >= 1, f"generator patch is {patch}: give the side of a square of pixels")
        factor = patch * 2 ** (len(channels) - 1)
        require(
            self.height % factor == 0 and self.width % factor == 0,
            f"the generator halves images down by {factor}, which does not divide "
            f"{self.height}x{self.width}: change image_height and image_width",
        )

    @classmethod
    def of(
        cls, real: ImageSet, channels: Sequence[int] = (32, 64, 128), patch: int = 2
    ) -> "GeneratorConfig":
        """For the identities, known cameras and size of some images."""
        cameras = tuple(sorted(set(real.camids.tolist()) - {-1}))
        height, width = real.images.shape[2:]
        return cls(tuple(real.classes), cameras, height, width, tuple(channels), patch)

    @property
    def nulls(self) -> tuple[int, int]:
        """Label indices that mean "no identity" and "no camera"."""
        return len(self.identities), len(self.cameras)

    def labels(self, pids: Tensor, camids: Tensor) -> tuple[Tensor, Tensor]:
        """Label indices (B,) of pids and camids (B,); camera −1 (unknown) is the null one."""
        known = {"identity": (pids, self.identities), "camera": (camids, (*self.cameras, -1))}
        found = []
        for what, (values, names) in known.items():
            place = {name: i for i, name in enumerate(names)}
            unknown = sorted(set(values.tolist()) - place.keys())
            require(
                not unknown,
                f"{what} {unknown[:1]} is unknown to the generator: train it on a manifest that "
                "has it, or take it out of the plan",
            )
            found.append(torch.tensor([place[v] for v in values.tolist()]))
        return found[0], found[1]


class ReferenceUNet(nn.Module):
    """F(x, c_noise, condition): images as further channels, labels joined to the noise level.

    Beside the U-Net the images are blended pixel by pixel, each with a weight for this noise level,
    identity and camera [ours: what a Wiener filter would do need not go through the U-Net].
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        from diffusers import UNet2DModel

        channels, self.patch = config.channels, config.patch
        plain, pixels = len(channels) - 1, 3 * config.patch**2
        self.unet = UNet2DModel(
            in_channels=SHOWN * pixels,
            out_channels=pixels,
            block_out_channels=channels,
            layers_per_block=1,
            down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * plain,
            norm_num_groups=GROUPS,
            attention_head_dim=HEAD,
            class_embed_type="identity",
        )
        (no_identity, no_camera), width = config.nulls, 4 * channels[0]
        self.identity = nn.Embedding(no_identity + 1, width)
        self.camera = nn.Embedding(no_camera + 1, width)
        self.gain = nn.Linear(width, SHOWN * pixels)
        self.blend = nn.Conv2d(SHOWN * pixels, pixels, 1)
        for layer in (self.unet.conv_out, self.gain, self.blend):  # begin with D(x; σ) = c_skip x
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, images: Tensor, c_noise: Tensor, told: Condition) -> Tensor:
        """F: (B, 3, H, W) of c_in x (B, 3, H, W), c_noise (B,) and what is told."""
        label = self.identity(told.identity) + self.camera(told.camera)
        noise = c_noise * NOISE_SPREAD
        shown = torch.cat([images, told.source, told.person, told.place], dim=1)
        folded = pixel_unshuffle(shown, self.patch)
        drawn = self.unet(folded, noise, class_labels=label).sample
        level = self.unet.time_embedding(self.unet.time_proj(noise).to(label)) + label
        weights = 1 + self.gain(silu(level))[..., None, None]
        return pixel_shuffle(drawn + self.blend(folded * weights), self.patch)


def pays_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster: on GPUs that have it, on CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has: dict = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


class Generator(NamedTuple):
    """A denoiser and what its labels mean."""

    denoiser: Denoiser
    config: GeneratorConfig


def save_generator(generator: Generator, folder: str | Path, notes: dict[str, Any]) -> None:
    """Write `generator.safetensors`, in half precision, and `generator.json` with the notes; no
    pixel of a training image is in either."""
    folder, (denoiser, config) = Path(folder), generator
    state = {n: v.to(torch.float16).contiguous() for n, v in denoiser.state_dict().items()}
    with atomic_write(folder / "generator.safetensors") as temporary:
        save_file(state, temporary)
    description = {"format": FORMAT, "config": asdict(config), **notes}
    write_json(folder / "generator.json", description)


def load_generator(folder: str | Path) -> Generator:
    """The generator saved in `folder`, in evaluation mode on the CPU, or InputError."""
    folder = Path(folder)
    description = read_json(folder / "generator.json")
    require(
        description.get("format") == FORMAT,
        f"{folder}/generator.json is not of format {FORMAT}: move it away and train again",
    )
    told = f"{folder} is incomplete, damaged or of another architecture: train it again"
    kinds = LookupError, TypeError, ArithmeticError, OSError, RuntimeError, SafetensorError
    with refused(told, *kinds):
        found = description["config"]
        lists = {name: tuple(found[name]) for name in ("identities", "cameras", "channels")}
        config = GeneratorConfig(**found | lists)
        with torch.random.fork_rng([]):  # weights drawn to be replaced cost the caller no numbers
            denoiser = Denoiser(ReferenceUNet(config), sigma_data=1.0)
        denoiser.load_state_dict(load_file(folder / "generator.safetensors"))
    return Generator(denoiser.eval(), config)
