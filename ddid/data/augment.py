"""What training does to its images, so that none is seen twice alike."""

from torch import Tensor, nn


class Augment(nn.Module):
    """Random flip, pad-and-crop and erasing, each image on its own (Luo et al. 2019). The padding
    is scaled to the image: 10 pixels at 256×128. Erased areas get noise's mean, 0.5."""

    def __init__(self, size: tuple[int, int], flip: float = 0.5, erase: float = 0.5) -> None:
        """Probabilities of `flip` and `erase` in [0, 1]; `size` = (height, width) in pixels."""
        super().__init__()
        from kornia.augmentation import RandomCrop, RandomErasing, RandomHorizontalFlip

        self.transform = nn.Sequential(
            RandomHorizontalFlip(p=flip),
            RandomCrop(size, padding=max(1, size[0] // 25), padding_mode="constant"),
            RandomErasing(scale=(0.02, 0.3), ratio=(0.3, 3.3), value=0.5, p=erase),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Float (B, 3, H, W) in [0, 1] → the same shape; uses torch's global generator."""
        return self.transform(images)
