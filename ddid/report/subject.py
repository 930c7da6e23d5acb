"""A model as the report sees it: checked once, with the clean features of its test images."""

import importlib
import os
import sys
from dataclasses import dataclass, replace

import torch
from accelerate import PartialState
from torch import Tensor, nn

from ddid.attack import Budget, Scene
from ddid.attack.objectives import fna
from ddid.attack.pgd import value_and_grad, valued
from ddid.data.images import ImageSet, to_unit
from ddid.errors import refused, require
from ddid.metric.distance import Embed, check_embeddings
from ddid.metric.ranking import Embedded, answerable
from ddid.model import embed as embed_all


@dataclass(frozen=True)
class Subject:
    """Any callable from images in [0, 1] to embeddings, and the images it is measured on."""

    embed: Embed
    query: Embedded  # clean float32 features, identities and cameras, on the CPU
    gallery: Embedded
    query_images: Tensor  # uint8 (N, 3, H, W), on the CPU
    gallery_images: Tensor
    rows: Tensor  # the queries that are attacked and scored; all stay references
    device: torch.device  # where the model computes
    name: str = "model"  # what progress calls it

    @classmethod
    def of(cls, embed: Embed, query: ImageSet, gallery: ImageSet, name: str = "model") -> "Subject":
        """Check a model on a few images (`check_model`) and embed all of them."""
        device = check_model(embed, to_unit(query.images[:3]))
        known, ranked = (
            Embedded(embed_all(embed, side.images), side.pids, side.camids)
            for side in (query, gallery)
        )
        rows = torch.arange(len(query))
        return cls(embed, known, ranked, query.images, gallery.images, rows, device, name)

    def some(self, count: int) -> "Subject":
        """The same with at most `count` queries under attack, evenly spread over those that have a
        right answer; 0: as it is. All remain references, so the attack is as strong as on all."""
        if not count:
            return self
        scored = answerable(self.attacked, self.gallery)
        rows = self.rows[scored] if scored.any() else self.rows
        return replace(self, rows=rows[evenly(len(rows), count)])

    @property
    def attacked(self) -> Embedded:
        """The queries under attack, clean."""
        return self.query[self.rows]

    def targets(self, side: str) -> Tensor:
        """Rows of the images an attack on one side changes: `rows`, or the gallery images of their
        identities (a distractor has no guide among the queries)."""
        if side == "query":
            return self.rows
        return torch.isin(self.gallery.pids, self.attacked.pids).nonzero().squeeze(1)

    def images(self, side: str) -> Tensor:
        """The images an attack on one side changes, uint8, clean."""
        return (self.query_images if side == "query" else self.gallery_images)[self.targets(side)]

    def scene(self, side: str, budget: Budget, generator: torch.Generator) -> Scene:
        """Scene of the images an attack on one side changes; the references are all queries."""
        some = (self.query if side == "query" else self.gallery)[self.targets(side)]
        return Scene(
            self.embed,
            self.images(side),
            some.pids,
            budget,
            generator,
            clean=some.embeddings.to(self.device),
            references=self.query.to(self.device),
            camids=some.camids,
            gallery=self.gallery.to(self.device) if side == "query" else None,
        )

    def slopes(self) -> list[str]:
        """The input gradient of FNA on a few images, told coarsely: three digits of its products
        with fixed random images, which another number of threads does not change."""
        some = self.some(min(4, len(self.rows)))
        scene = some.scene("query", Budget(), torch.Generator()).ready()
        _, gradient = value_and_grad(valued(self.embed, fna(scene.guides)), scene.images)
        source = torch.Generator().manual_seed(0)
        against = torch.randn(2, gradient[0].numel(), generator=source)
        return [f"{value:.2e}" for value in (gradient.cpu().flatten(1) @ against.T).flatten()]


def evenly(total: int, count: int) -> Tensor:
    """Indices of `count` (at most `total`) things, evenly spread over `total`."""
    require(count > 0, f"{count} of {total} are asked for: take at least one")
    return torch.linspace(0, total - 1, min(count, total), dtype=torch.float64).long()


def check_model(embed: Embed, images: Tensor) -> torch.device:
    """Try a model on batches of one, two and all of a few `images` (B, 3, H, W).

    Returns where its answers lie. InputError: it, or a part of it, is in training mode or goes
    there; it fails on a batch size, or returns anything but one finite floating-point row per
    image, always of the same length.
    """
    module = embed if isinstance(embed, nn.Module) else nn.Identity().eval()
    told = "the model, or a part of it, is in training mode: call its eval() before measuring"
    require(not any(part.training for part in module.modules()), told)
    device = next((p.device for p in module.parameters()), images.device)
    lengths = set()
    for size in sorted({1, 2, len(images)} & set(range(len(images) + 1))):
        told = f"the model fails on a batch of {size} images of {tuple(images.shape[1:])}"
        with refused(told, Exception), torch.no_grad():  # a stranger's code may raise anything
            found = embed(images[:size].to(device))
        require(isinstance(found, Tensor), f"the model returns {type(found).__name__}: want (B, D)")
        check_embeddings(found, "the model's")
        require(len(found) == size, f"{size} images gave {len(found)} embeddings: want one each")
        lengths.add(found.shape[1])
    require(len(lengths) == 1, f"embeddings have lengths {sorted(lengths)} in batches of 1 to 3")
    switched = any(part.training for part in module.modules())
    require(not switched, "the model switched itself to training mode: keep it in eval()")
    return found.device


def load_factory(spec: str, weights: str = "") -> Embed:
    """Build a model from "package.module:factory" and put it on the machine's device.

    The factory is called with the weights' path if there is one, and returns a callable from images
    (B, 3, H, W) in [0, 1] to embeddings (B, D). Modules are also looked for in the working
    directory, after all others. `ddid.model:load_model` with a model folder is this kit's own.
    """
    module_name, _, name = spec.partition(":")
    require(bool(module_name and name), f"model {spec!r}: write package.module:factory")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    lost = f"{spec} cannot be imported: write my_model:load for load() of my_model.py, here or "
    told = f"{spec} cannot be used, called with{'' if weights else 'out'} weights"
    with refused(told, Exception), refused(f"{lost}installed", ImportError):  # a stranger's code
        factory = getattr(importlib.import_module(module_name), name)
        embed = factory(weights) if weights else factory()
    require(callable(embed), f"{spec} returned {type(embed).__name__}: want a callable")
    return embed.to(PartialState().device) if isinstance(embed, nn.Module) else embed
