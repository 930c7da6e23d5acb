"""A model as the report sees it: checked once, with the clean features of its test images."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ddid.attack.guides import Guides, find_guides
from ddid.attack.suite import Scene
from ddid.data.images import ImageSet, to_unit
from ddid.errors import InputError, require
from ddid.metric.distance import Metric, check_embeddings
from ddid.metric.ranking import Embedded
from ddid.model import Embed
from ddid.model import embed as embed_all


@dataclass(frozen=True)
class Subject:
    """Any callable from images in [0, 1] to embeddings, and the images it is measured on.

    query_features (Q, D) and gallery_features (G, D) are clean, float32, on the CPU.
    """

    embed: Embed
    query: ImageSet
    gallery: ImageSet
    query_features: Tensor
    gallery_features: Tensor

    @classmethod
    def of(cls, embed: Embed, query: ImageSet, gallery: ImageSet) -> "Subject":
        """Check a model on a few images and embed all of them.

        Raises:
            InputError: what `check_model` finds, or features that are not finite.
        """
        check_model(embed, to_unit(query.images[:3]))
        features = [embed_all(embed, side.images) for side in (query, gallery)]
        for side, name in zip(features, ("query", "gallery"), strict=True):
            check_embeddings(side, name)
        return cls(embed, query, gallery, *features)

    @property
    def device(self) -> torch.device:
        """Where the model computes: where its parameters are, or the CPU."""
        parameters = self.embed.parameters() if isinstance(self.embed, nn.Module) else ()
        return next((parameter.device for parameter in parameters), torch.device("cpu"))

    def sides(self, query: Tensor, gallery: Tensor) -> tuple[Embedded, Embedded]:
        """Label features of the query and gallery images, for `rank`."""
        return (
            Embedded(query, self.query.pids, self.query.camids),
            Embedded(gallery, self.gallery.pids, self.gallery.camids),
        )

    def targets(self, side: str) -> Tensor:
        """Indices of the images an attack on one side changes: every query, or the gallery images
        of the queries' identities (a distractor has no guide among the queries)."""
        if side == "query":
            return torch.arange(len(self.query))
        return torch.isin(self.gallery.pids, self.query.pids).nonzero().squeeze(1)

    def some(self, count: int) -> "Subject":
        """The same model on `count` of the queries, evenly spread, and the whole gallery."""
        index = evenly(len(self.query), count)
        return replace(
            self, query=self.query.take(index), query_features=self.query_features[index]
        )

    def guides(self, side: str, metric: Metric) -> Guides:
        """Guides of the attacked images; the references are the queries on either side."""
        index, device = self.targets(side), self.device
        images, features = (
            (self.query, self.query_features)
            if side == "query"
            else (self.gallery, self.gallery_features)
        )
        references = self.query_features.to(device), self.query.pids.to(device)
        return find_guides(features[index].to(device), images.pids[index], *references, metric)

    def scene(self, side: str, metric: Metric, generator: torch.Generator) -> Scene:
        """Scene of the images an attack on one side changes."""
        images = (self.query if side == "query" else self.gallery).images
        return Scene(self.embed, images[self.targets(side)], self.guides(side, metric), generator)


def evenly(total: int, count: int) -> Tensor:
    """Indices of `count` (at most `total`) things, evenly spread over `total`."""
    require(count > 0, f"{count} of {total} queries asked for: take at least one")
    return torch.linspace(0, total - 1, min(count, total)).long()


def check_model(embed: Embed, images: Tensor) -> None:
    """Try a model on batches of one, two and all of a few `images` (B, 3, H, W).

    Raises:
        InputError: it is in training mode or changes its mode, fails on a batch size, or returns
            anything but one finite floating-point row per image, always of the same length.
    """
    module = embed if isinstance(embed, nn.Module) else nn.Identity().eval()
    require(not module.training, "the model is in training mode: call its eval() before measuring")
    lengths = set()
    for size in sorted({1, 2, len(images)} & set(range(len(images) + 1))):
        batch = images[:size].to(next((p.device for p in module.parameters()), images.device))
        try:
            with torch.no_grad():
                found = embed(batch)
        except Exception as error:
            first = (str(error).splitlines() or [""])[0]
            raise InputError(
                f"the model fails on a batch of {size} images of {tuple(images.shape[1:])}: "
                f"{type(error).__name__}: {first}"
            ) from error
        require(isinstance(found, Tensor), f"the model returns {type(found).__name__}: want (B, D)")
        check_embeddings(found, "the model's")
        require(len(found) == size, f"{size} images gave {len(found)} embeddings: want one each")
        lengths.add(found.shape[1])
    require(len(lengths) == 1, f"embeddings have lengths {sorted(lengths)} in batches of 1 to 3")
    require(not module.training, "the model switched itself to training mode: keep it in eval()")
