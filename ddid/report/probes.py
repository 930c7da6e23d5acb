"""Questions to a model itself, without ranking anything: is what an attack would see the truth?

Each probe takes the model, clean images (B, 3, H, W) in [0, 1] and their guides, and returns a
`Verdict`. The limits are ours: honest models, defended or not, stay clear of them by a wide margin.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ddid.attack.budget import Budget, steepest, uniform
from ddid.attack.guides import Guides
from ddid.attack.objectives import fna
from ddid.attack.pgd import value_and_grad, valued
from ddid.metric.distance import Embed

LEVEL = 1 / 255


@dataclass(frozen=True)
class Verdict:
    """One finding of an audit, with the numbers behind it."""

    check: str
    passed: bool
    finding: str
    evidence: dict[str, float]


@dataclass(frozen=True)
class Probe:
    """What a probe looks at."""

    embed: Embed
    images: Tensor
    guides: Guides

    def __call__(self, images: Tensor) -> Tensor:
        """Embeddings (B, D) without gradient."""
        with torch.no_grad():
            return self.embed(images)


def deterministic(probe: Probe) -> Verdict:
    """Asked twice, with other images in between, the model must say the same."""
    first, _, again = probe(probe.images), probe(probe.images.flip(3)), probe(probe.images)
    change = relative(again, first)
    return Verdict(
        "deterministic",
        float(change.max()) <= 1e-4,
        "the same images get the same embeddings",
        {"largest_relative_change": float(change.max())},
    )


def independent(probe: Probe) -> Verdict:
    """The embedding of an image must not depend on its company in the batch."""
    whole, alone = probe(probe.images), [probe(image[None]) for image in probe.images[:4]]
    change = relative(torch.cat(alone), whole[: len(alone)])
    return Verdict(
        "independent of the batch",
        float(change.max()) <= 1e-3,
        "an image alone gets the embedding it gets among others",
        {"largest_relative_change": float(change.max())},
    )


def unchanged(probe: Probe) -> Verdict:
    """Answering must leave weights, statistics and mode as they were, in evaluation mode."""
    module = probe.embed if isinstance(probe.embed, nn.Module) else nn.Identity().eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    probe(probe.images)
    after = module.state_dict()
    moved = sum(not torch.equal(value, after[name]) for name, value in before.items())
    return Verdict(
        "evaluation mode",
        moved == 0 and not any(part.training for part in module.modules()),
        "the model is in evaluation mode and answering changes none of its tensors",
        {"tensors_changed": moved, "training": sum(part.training for part in module.modules())},
    )


def optimizes_nothing(probe: Probe) -> Verdict:
    """A test-time defense that optimizes would have to be attacked through its optimization."""
    with counted_gradients() as calls:
        found = probe(probe.images)
    return Verdict(
        "no optimization at inference",
        not calls and not found.requires_grad,
        "embedding an image computes no gradient",
        {"gradient_calls": len(calls)},
    )


def has_gradients(probe: Probe) -> Verdict:
    """More than 99 % of the images must have a gradient for the attack to follow."""
    _, gradient = value_and_grad(valued(probe.embed, fna(probe.guides)), probe.images)
    strength = gradient.flatten(1).abs().amax(1)
    share = float((strength > 1e-12).double().mean())
    return Verdict(
        "gradients",
        share > 0.99,
        "the input gradient is there",
        {"share_nonzero": share, "median_largest": float(strength.median())},
    )


def true_gradients(probe: Probe) -> Verdict:
    """A step along the gradient must change the objective by about what the gradient promises."""
    value, two_norm = valued(probe.embed, fna(probe.guides)), Budget(norm="l2")
    _, gradient = value_and_grad(value, probe.images)
    size = 0.1 * LEVEL * probe.images[0].numel() ** 0.5
    step = size * steepest(gradient, two_norm)
    with torch.no_grad():
        got = value(probe.images + step) - value(probe.images - step)
    promised = 2 * size * gradient.flatten(1).norm(dim=1)
    ratio = float((got / promised.clamp_min(1e-12)).median())
    return Verdict(
        "gradients are true",
        0.5 <= ratio <= 2,
        "the objective changes as its gradient promises",
        {"median_ratio": ratio},
    )


def responds(probe: Probe) -> Verdict:
    """One random level on every pixel must change the embedding, a little and not by a jump.

    A model that looks its answers up returns a stored one, or leaves it at the slightest change.
    """
    source = torch.Generator().manual_seed(0)
    signs = [uniform(probe.images.shape, source, probe.images).sign() for _ in range(2)]
    near, other = (probe((probe.images + LEVEL * sign).clamp(0, 1)) for sign in signs)
    clean = probe(probe.images)
    moved = relative(near, clean)
    share = float((moved > 1e-6).double().mean())
    jump = float((moved / relative(other, near).clamp_min(1e-12)).median())
    return Verdict(
        "small changes",
        share > 0.99 and jump < 3,
        "a change of one level moves the embedding smoothly",
        {"share_moved": share, "jump": jump},
    )


PROBES: tuple[Callable[[Probe], Verdict], ...] = (
    deterministic,
    independent,
    unchanged,
    optimizes_nothing,
    has_gradients,
    true_gradients,
    responds,
)


def relative(found: Tensor, wanted: Tensor) -> Tensor:
    """Distance of each row to its counterpart, relative to the counterpart's length."""
    return (found - wanted).norm(dim=1) / wanted.norm(dim=1).clamp_min(1e-12)


@contextmanager
def full_precision() -> Iterator[None]:
    """Switch TF32 off within the block: its rounding depends on the batch, the model's need not."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@contextmanager
def counted_gradients() -> Iterator[list[str]]:
    """Collect the calls of torch's two gradient functions within the block."""
    calls: list[str] = []
    originals = {name: getattr(torch.autograd, name) for name in ("grad", "backward")}

    def counting(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return originals[name](*args, **kwargs)

        return call

    for name in originals:
        setattr(torch.autograd, name, counting(name))
    try:
        yield calls
    finally:
        for name, original in originals.items():
            setattr(torch.autograd, name, original)
