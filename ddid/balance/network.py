"""The generator's network: diffusers' `UNet2DModel`, told identity, camera and augmentation."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from ddid.balance.diffusion import Denoiser
from ddid.balance.prior import Prior
from ddid.balance.warp import WARPS
from ddid.errors import InputError, require
from ddid.files import atomic_write, read_json, write_json

FORMAT = 2
# c_noise = ln σ / 4 spans only ±1.5, but a positional embedding resolves steps of about 1.
NOISE_SPREAD = 250.0
GROUPS = 16  # of channels normalised together

UNet = dict[str, Any]
"""Settings of a `UNet2DModel`, as in its `config.json`."""


def unet_settings(
    channels: Iterable[int] = (32, 64, 128), patch: int = 2, layers: int = 1, prior: bool = True
) -> UNet:
    """A U-Net with attention at its lowest level, working on patch×patch pixels at a time.

    Our choice: folding patches into channels (pixel-unshuffle) makes a CPU step several times
    faster than convolutions at full size. With a `prior` as many further input channels show its
    sketch.
    """
    channels = tuple(channels)
    require(
        len(channels) > 0 and all(c >= GROUPS and c % GROUPS == 0 for c in channels),
        f"generator channels {list(channels)}: give one or more multiples of {GROUPS}",
    )
    require(
        patch >= 1, f"generator patch is {patch}: give the side of a square of pixels, 1 or more"
    )
    plain = len(channels) - 1
    return {
        "in_channels": 3 * patch**2 * (1 + prior),
        "out_channels": 3 * patch**2,
        "block_out_channels": list(channels),
        "layers_per_block": layers,
        "down_block_types": ["DownBlock2D"] * plain + ["AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D"] + ["UpBlock2D"] * plain,
        "norm_num_groups": GROUPS,
        "attention_head_dim": 32,
    }


@dataclass(frozen=True)
class GeneratorConfig:
    """What it takes to build a generator again."""

    identities: tuple[int, ...]  # pids it knows, ascending
    cameras: tuple[int, ...]  # camids it knows, ascending
    height: int = 64  # pixels
    width: int = 32  # pixels
    unet: UNet = field(default_factory=unet_settings)

    @property
    def patch(self) -> int:
        """Side of the square of pixels folded into channels."""
        return round((self.unet["out_channels"] / 3) ** 0.5)

    @property
    def has_prior(self) -> bool:
        """Whether the network starts from a `Prior`; an ordinary diffusers checkpoint does not."""
        return self.unet["in_channels"] > self.unet["out_channels"]

    def __post_init__(self) -> None:
        factor = self.patch * 2 ** (len(self.unet["block_out_channels"]) - 1)
        require(
            self.height % factor == 0 and self.width % factor == 0,
            f"the generator halves images down by {factor}, which does not divide "
            f"{self.height}x{self.width}: change image_height and image_width",
        )
        require(
            self.unet.get("time_embedding_type", "positional") == "positional",
            "the checkpoint embeds time as 'fourier', which takes the logarithm of the noise "
            "level: start from one with time_embedding_type 'positional'",
        )

    @property
    def nulls(self) -> tuple[int, int]:
        """Label indices that mean "no identity" and "no camera"."""
        return len(self.identities), len(self.cameras)

    def labels(self, pids: Tensor, camids: Tensor) -> tuple[Tensor, Tensor]:
        """Label indices (B,) of identities and cameras (B,); camera −1 (unknown) is the null one.

        Raises:
            InputError: an identity or camera that the generator was not trained on.
        """
        return (
            _index(pids, self.identities, "identity"),
            _index(camids, (*self.cameras, -1), "camera"),
        )


def _index(values: Tensor, known: tuple[int, ...], what: str) -> Tensor:
    place = {value: i for i, value in enumerate(known)}
    unknown = sorted(set(values.tolist()) - place.keys())
    require(
        not unknown,
        f"{what} {unknown[:1]} is unknown to the generator, which was trained on {len(known)} "
        "others: train it on a manifest that has it, or take it out of the plan",
    )
    return torch.tensor([place[v] for v in values.tolist()], device=values.device)


class LabelledUNet(nn.Module):
    """F(x, c_noise, identity, camera, warp): the labels' embeddings join the noise level's."""

    def __init__(self, config: GeneratorConfig, start: str | Path = "") -> None:
        """Build from `config`; weights of the U-Net from a diffusers folder `start` if given."""
        super().__init__()
        from diffusers import UNet2DModel

        self.patch = config.patch
        settings = config.unet | {"class_embed_type": "identity", "num_class_embeds": None}
        self.unet = UNet2DModel.from_config(settings)
        if start:
            self.unet.load_state_dict(_diffusers_weights(start), strict=True)
        width = 4 * config.unet["block_out_channels"][0]
        no_identity, no_camera = config.nulls
        self.identity = nn.Embedding(no_identity + 1, width)
        self.camera = nn.Embedding(no_camera + 1, width)
        self.warp = nn.Linear(WARPS, width, bias=False)
        self.prior = Prior(config) if config.has_prior else None
        if self.prior:
            nn.init.zeros_(self.unet.conv_out.weight)  # begin as the prior
            nn.init.zeros_(self.unet.conv_out.bias)

    def learnt(self) -> nn.ModuleDict:
        """What training changes, so all of the network but the prior, which is measured."""
        parts = {"unet": self.unet, "identity": self.identity, "camera": self.camera}
        return nn.ModuleDict(parts | {"warp": self.warp})

    def forward(
        self,
        images: Tensor,
        c_noise: Tensor,
        identity: Tensor,
        camera: Tensor,
        warp: Tensor | None = None,
    ) -> Tensor:
        """F: (B, 3, H, W).

        Args:
            images: c_in x, (B, 3, H, W).
            c_noise: (B,).
            identity: label indices (B,).
            camera: label indices (B,).
            warp: how the images were warped, (B, WARPS); in training only.
        """
        label = self.identity(identity) + self.camera(camera)
        if warp is not None:
            label = label + self.warp(warp)
        seen, known = images, torch.zeros_like(images)
        if self.prior:
            known, sketch = self.prior(images, c_noise, identity, camera)
            seen = torch.cat([images, sketch], dim=1)
        folded = pixel_unshuffle(seen, self.patch)
        output = self.unet(folded, c_noise * NOISE_SPREAD, class_labels=label).sample
        return known + pixel_shuffle(output, self.patch)


def build(config: GeneratorConfig, sigma_data: float, start: str | Path = "") -> Denoiser:
    """An untrained generator; with `start`, its U-Net has the weights of a diffusers folder."""
    return Denoiser(LabelledUNet(config, start), sigma_data)


def diffusers_settings(folder: str | Path) -> UNet:
    """Settings of the user's own `UNet2DModel` checkpoint.

    Raises:
        InputError: no such folder, or not a U-Net over RGB images.
    """
    settings = read_json(Path(folder) / "config.json")
    channels = settings.get("in_channels", 0)
    side = round((channels / 3) ** 0.5)
    require(
        settings.get("_class_name") == "UNet2DModel"
        and channels == settings.get("out_channels") == 3 * side**2 > 0,
        f"{folder} is no UNet2DModel over RGB images (3, 12, 48 … channels in and out): "
        "give the folder that holds its config.json and its safetensors file",
    )
    return {name: value for name, value in settings.items() if not name.startswith("_")}


def _diffusers_weights(folder: str | Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    path = Path(folder) / "diffusion_pytorch_model.safetensors"
    require(path.is_file(), f"no weights {path}: save the U-Net with safe_serialization=True")
    weights = load_file(path)
    return {n: v for n, v in weights.items() if not n.startswith("class_embedding")}


class Generator(NamedTuple):
    """A denoiser and what its labels mean."""

    denoiser: Denoiser
    config: GeneratorConfig


def save_generator(generator: Generator, folder: str | Path, settings: dict[str, Any]) -> None:
    """Write `generator.safetensors` and `generator.json`; `settings` tell how it was trained."""
    from safetensors.torch import save_file

    folder, (denoiser, config) = Path(folder), generator
    state = {name: value.contiguous() for name, value in denoiser.state_dict().items()}
    with atomic_write(folder / "generator.safetensors") as temporary:
        save_file(state, temporary)
    description = {"format": FORMAT, "config": asdict(config), "settings": settings}
    write_json(folder / "generator.json", description)


def load_generator(folder: str | Path) -> Generator:
    """The generator saved in `folder`, in evaluation mode, on the CPU.

    Raises:
        InputError: nothing there, another format version, or weights that do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    description = read_json(folder / "generator.json")
    require(
        description.get("format") == FORMAT,
        f"{folder}/generator.json is not of format {FORMAT}: move {folder} away and train "
        "the generator again",
    )
    found = description["config"]
    config = GeneratorConfig(
        **found | {"identities": tuple(found["identities"]), "cameras": tuple(found["cameras"])}
    )
    denoiser = build(config, sigma_data=1.0)
    path = folder / "generator.safetensors"
    try:
        denoiser.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{path} is missing, damaged or of another architecture: train the generator again"
        ) from error
    return Generator(denoiser.eval(), config)
