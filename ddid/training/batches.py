"""Batches of a training set: which images, how they come to the device, and what changes there."""

import torch
from torch import Tensor, nn

from ddid.data.images import rows_of_each
from ddid.errors import require
from ddid.seeds import seed_of


def pk_batches(
    labels: Tensor, identities: int, images_per_identity: int, steps: int, seed: int
) -> Tensor:
    """Indices of `steps` batches with P identities and K images each (Hermans et al. 2017).

    Returns int64 (steps, P·K) for `labels` (N,), images of an identity side by side; one with fewer
    than K repeats some. Batch t depends on the seed and on t alone. Raises InputError if P is below
    2 or above the number of identities.
    """
    groups = rows_of_each(labels)
    require(
        2 <= identities <= len(groups),
        f"batches of {identities} identities: ask for 2 to {len(groups)} by `identities`, in "
        "notebook 03 identities_per_batch",
    )

    def draw(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed_of(seed, step))
        chosen = torch.randperm(len(groups), generator=generator)[:identities].tolist()
        return torch.cat([sample(groups[i], images_per_identity, generator) for i in chosen])

    return torch.stack([draw(step) for step in range(steps)])


def sample(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` of `rows` in random order, each as often as any other as far as that goes."""
    order = torch.randperm(len(rows), generator=generator)
    return rows[order.repeat(-(-count // len(rows)))[:count]]


class Feed:
    """Pixels uint8 (N, 3, H, W) on the device; batch by batch through pinned memory if they take
    more than half of what is free there."""

    def __init__(self, images: Tensor, device: torch.device) -> None:
        fits = device.type != "cuda" or 2 * images.nbytes < torch.cuda.mem_get_info(device)[0]
        self.images, self.device = images.to(device) if fits else images, device
        self.pinned = not fits

    def __getitem__(self, rows: Tensor) -> Tensor:
        part = self.images[rows.to(self.images.device)]
        return part.pin_memory().to(self.device, non_blocking=True) if self.pinned else part


def augmentation(size: tuple[int, int]) -> nn.Module:
    """Random flip, pad-and-crop and erasing, each image on its own (Luo et al. 2019), so that none
    is seen twice alike: floats (B, 3, *size) in [0, 1] → the same, by torch's global generator. The
    padding is scaled to the image, 10 pixels at 256×128. Erased areas get noise's mean, 0.5."""
    from kornia.augmentation import RandomCrop, RandomErasing, RandomHorizontalFlip

    return nn.Sequential(
        RandomHorizontalFlip(),
        RandomCrop(size, padding=max(1, size[0] // 25), padding_mode="constant"),
        RandomErasing(scale=(0.02, 0.3), ratio=(0.3, 3.3), value=0.5),
    )
