"""Questions to a model itself, without ranking anything: is what an attack would see the truth?

The limits are ours: honest models, defended or not, stay clear of them by a wide margin.
"""

from collections.abc import Callable
from dataclasses import dataclass
from unittest.mock import patch

import torch
from torch import Tensor, nn

from ddid.attack.budget import uniform
from ddid.attack.objectives import Guides, fna
from ddid.attack.pgd import value_and_grad, valued
from ddid.attack.scene import Scene
from ddid.metric.distance import Embed, normalize

LEVEL = 1 / 255


@dataclass(frozen=True)
class Verdict:
    """One finding of an audit, with the numbers behind it."""

    check: str
    passed: bool
    finding: str
    evidence: dict[str, float]


@dataclass(frozen=True)
class Asked:
    """The model under question, clean images (B, 3, H, W) in [0, 1] and their guides."""

    embed: Embed
    images: Tensor
    guides: Guides

    @classmethod
    def by(cls, scene: Scene) -> "Asked":
        """What an attacker sees."""
        ready = scene.ready()
        return cls(ready.embed, ready.images, ready.guides)

    def __call__(self, images: Tensor) -> Tensor:
        """Embeddings (B, D) without gradient."""
        with torch.no_grad():
            return self.embed(images)


Probe = Callable[[Asked], tuple[bool, dict[str, float]]]
"""A model to whether it passes, and the evidence."""

PROBES: dict[tuple[str, str], Probe] = {}
"""Name of the check and what should hold → its probe."""


def probe(check: str, finding: str) -> Callable[[Probe], Probe]:
    """Enter a probe into `PROBES`."""

    def enter(ask: Probe) -> Probe:
        PROBES[check, finding] = ask
        return ask

    return enter


def question(model: Asked) -> list[Verdict]:
    """The verdicts of all probes, without TF32, whose rounding depends on the batch."""
    verdicts = []
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for (check, finding), ask in PROBES.items():
            passed, evidence = ask(model)
            verdicts.append(Verdict(check, passed, finding, evidence))
    return verdicts


@probe("deterministic", "the same images get the same embeddings")
def deterministic(model: Asked) -> tuple[bool, dict[str, float]]:
    """Asked twice, with other images in between, the model must say the same."""
    first, _, again = model(model.images), model(model.images.flip(3)), model(model.images)
    change = float(relative(again, first).max())
    return change <= 1e-4, {"largest_relative_change": change}


@probe("independent of the batch", "an image alone gets the embedding it gets among others")
def independent(model: Asked) -> tuple[bool, dict[str, float]]:
    """The embedding of an image must not depend on its company in the batch."""
    whole, alone = model(model.images), [model(image[None]) for image in model.images[:4]]
    change = float(relative(torch.cat(alone), whole[: len(alone)]).max())
    return change <= 1e-3, {"largest_relative_change": change}


@probe("evaluation mode", "the model is in evaluation mode and answering changes no tensor of it")
def unchanged(model: Asked) -> tuple[bool, dict[str, float]]:
    """Answering must leave weights, statistics and mode as they were, in evaluation mode."""
    module = model.embed if isinstance(model.embed, nn.Module) else nn.Identity().eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    model(model.images)
    after = module.state_dict()
    moved = sum(not torch.equal(value, after[name]) for name, value in before.items())
    training = sum(part.training for part in module.modules())
    return moved == training == 0, {"tensors_changed": moved, "training": training}


@probe("no optimization at inference", "embedding an image computes no gradient")
def optimizes_nothing(model: Asked) -> tuple[bool, dict[str, float]]:
    """A test-time defense that optimizes would have to be attacked through its optimization."""
    # What `grad` and `backward` both end in, however a model imported them.
    engine = torch.autograd._engine_run_backward
    with patch.object(torch.autograd, "_engine_run_backward", wraps=engine) as run:
        found = model(model.images)
    calls = run.call_count
    return not calls and not found.requires_grad, {"gradient_calls": calls}


@probe("gradients", "the input gradient is there")
def has_gradients(model: Asked) -> tuple[bool, dict[str, float]]:
    """More than 99 % of the images must have a gradient for the attack to follow."""
    _, gradient = value_and_grad(valued(model.embed, fna(model.guides)), model.images)
    strength = gradient.nan_to_num(0.0).flatten(1).abs().amax(1)  # no number leads nowhere
    share = float((strength > 1e-12).float().mean())
    return share > 0.99, {"share_nonzero": share, "median_largest": float(strength.median())}


@probe("gradients are true", "the objective changes as its gradient promises")
def true_gradients(model: Asked) -> tuple[bool, dict[str, float]]:
    """A step along the gradient must change the objective by about what the gradient promises."""
    value = valued(model.embed, fna(model.guides))
    gradient = value_and_grad(value, model.images)[1].nan_to_num(0.0)
    size = 0.1 * LEVEL * model.images[0].numel() ** 0.5
    step = size * normalize(gradient.flatten(1)).view_as(gradient)
    with torch.no_grad():
        got = value(model.images + step) - value(model.images - step)
    promised = 2 * size * gradient.flatten(1).norm(dim=1)
    ratio = float((got / promised.clamp_min(1e-12)).median())
    return 0.5 <= ratio <= 2, {"median_ratio": ratio}


@probe("small changes", "a change of one level moves the embedding smoothly")
def responds(model: Asked) -> tuple[bool, dict[str, float]]:
    """One random level on every pixel must change the embedding, a little and not by a jump. A
    model that looks its answers up returns a stored one, or leaves it at the slightest change."""
    source = torch.Generator().manual_seed(0)
    signs = [uniform(model.images.shape, source, model.images).sign() for _ in range(2)]
    near, other = (model((model.images + LEVEL * sign).clamp(0, 1)) for sign in signs)
    moved = relative(near, model(model.images))
    share = float((moved > 1e-6).float().mean())
    jump = float((moved / relative(other, near).clamp_min(1e-12)).median())
    return share > 0.99 and jump < 3, {"share_moved": share, "jump": jump}


def relative(found: Tensor, wanted: Tensor) -> Tensor:
    """Distance of each row to its counterpart, relative to the counterpart's length."""
    return (found - wanted).norm(dim=1) / wanted.norm(dim=1).clamp_min(1e-12)
