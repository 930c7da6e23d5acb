"""A step of the attack, beside one forward and one backward pass to the pixels."""

import sys

import torch
from torch import Tensor

from ddid.attack.budget import Budget
from ddid.attack.objectives import Guides, fna, guides_within
from ddid.attack.scene import Scene
from ddid.model import ModelConfig, ReIDNet
from tests.benchmarks.timing import Row, compare, device, largest_memory, peak_memory, row

BATCH, STEPS = 64, 5


def rows(repeats: int = 6) -> list[Row]:
    """Time and memory of `STEPS` steps for two backbones."""
    table = []
    for backbone in ("resnet-tiny", "resnet18"):
        scene = build(backbone)
        what = f"{STEPS} attack steps, {backbone}, {BATCH} x 64 x 32"
        table.append(compare(what, lambda s=scene: ours(*s), lambda s=scene: bare(*s), repeats))
    memory = [peak_memory("tests.benchmarks.attack_step", name) for name in ("ours", "bare")]
    return [*table, row(f"attack, resnet18, {BATCH} x 64 x 32, peak MiB", *memory)]


def build(backbone: str) -> tuple[ReIDNet, Tensor, Guides]:
    """A network with random weights, noise for images, and their guides."""
    torch.manual_seed(0)
    net = ReIDNet(ModelConfig(classes=64, backbone=backbone)).eval().to(device())
    images = torch.rand(BATCH, 3, 64, 32, device=device())
    with torch.no_grad():
        return net, images, guides_within(net(images), torch.arange(BATCH, device=device()) // 4)


def ours(net: ReIDNet, images: Tensor, guides: Guides) -> Tensor:
    """FNA, as everywhere in the kit."""
    source = torch.Generator(images.device)
    scene = Scene(net, images, guides.pids, Budget(steps=STEPS), source)
    return scene.pgd(fna(guides))


def bare(net: ReIDNet, images: Tensor, guides: Guides) -> None:
    """As many forward and input-gradient passes and nothing else."""
    for _ in range(STEPS):
        point = images.detach().requires_grad_()
        torch.autograd.grad(net(point).sum(), point)


if __name__ == "__main__":
    {"ours": ours, "bare": bare}[sys.argv[1]](*build("resnet18"))
    sys.stdout.write(f"{largest_memory()}\n")
