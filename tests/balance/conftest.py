from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from ddid.balance.edm import Denoiser
from ddid.balance.network import Generator, GeneratorConfig, ReferenceUNet
from ddid.balance.references import References
from ddid.data.images import ImageSet

PIDS, CAMIDS = [3, 7, 20], [1, 2]
SIZE = (16, 8)


@pytest.fixture(scope="session")
def real(tmp_path_factory) -> ImageSet:
    """Four images for each identity and camera: the colour tells one, the glow the other."""
    draw = torch.Generator().manual_seed(0)
    rows = [(p, c) for p in PIDS for c in CAMIDS for _ in range(4)]
    pids, camids = torch.tensor(rows).T.contiguous()
    base = torch.zeros(len(rows), 3, *SIZE)
    base[torch.arange(len(rows)), torch.searchsorted(torch.tensor(PIDS), pids)] = 150
    base += 60 * (camids == 2).view(-1, 1, 1, 1)
    images = base + 40 * torch.rand(base.shape, generator=draw)
    folder = tmp_path_factory.mktemp("real")
    paths = tuple(str(folder / f"{i}.png") for i in range(len(rows)))
    for path, image in zip(paths, images.to(torch.uint8), strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return ImageSet(images.to(torch.uint8), pids, camids, paths)


@pytest.fixture
def manifest(real) -> pd.DataFrame:
    columns = {"path": real.paths, "pid": real.pids, "camid": real.camids}
    return pd.DataFrame(columns).assign(split="train", origin="real")


@pytest.fixture(scope="session")
def config() -> GeneratorConfig:
    return GeneratorConfig(tuple(PIDS), tuple(CAMIDS), *SIZE, channels=(16, 32))


@pytest.fixture
def generator(config) -> Generator:
    torch.manual_seed(0)
    network = ReferenceUNet(config)
    torch.nn.init.normal_(network.unet.conv_out.weight, std=0.1)  # past its start
    return Generator(Denoiser(network, 0.3).eval(), config)


@pytest.fixture(scope="session")
def references(real, config) -> References:
    return References(real, config, torch.device("cpu"))


@pytest.fixture
def plan() -> pd.DataFrame:
    rows = [("a", 3, 1, 11), ("b", 3, 2, 12), ("c", 7, 1, 13), ("d", 20, 2, 14), ("e", 20, 1, 15)]
    return pd.DataFrame(rows, columns=["name", "pid", "camid", "seed"]).assign(reason="few images")


@pytest.fixture
def files():
    """Modification times of the files in a folder."""
    return lambda folder: {p.name: p.stat().st_mtime_ns for p in Path(folder).iterdir()}
