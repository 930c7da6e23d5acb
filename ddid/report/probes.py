"""Questions to a model itself, without ranking anything: is what an attack would see the truth?

The limits are ours: honest models, defended or not, stay clear of them by a wide margin.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from unittest.mock import patch

import torch
from torch import Tensor, nn

from ddid.attack.budget import uniform
from ddid.attack.objectives import fna
from ddid.attack.pgd import value_and_grad, valued
from ddid.attack.scene import Scene
from ddid.metric.distance import normalize

LEVEL = 1 / 255


@dataclass(frozen=True)
class Verdict:
    """One finding of an audit, with the numbers behind it."""

    check: str
    passed: bool
    finding: str
    evidence: Mapping[str, float]


@torch.no_grad()
def question(scene: Scene) -> list[Verdict]:
    """The verdicts of all probes, without TF32, whose rounding depends on the batch."""
    ready = scene.ready()
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return [probe(ready) for probe in PROBES]


def deterministic(scene: Scene) -> Verdict:
    """Asked twice, with other images in between, the model must say the same."""
    images, told = scene.images, "the same images get the same embeddings"
    first, _, again = (scene.embed(some) for some in (images, images.flip(3), images))
    change = float(relative(again, first).max())
    return Verdict("deterministic", change <= 1e-4, told, {"largest_relative_change": change})


def independent(scene: Scene) -> Verdict:
    """The embedding of an image must not depend on its company in the batch."""
    whole, alone = scene.embed(scene.images), [scene.embed(x[None]) for x in scene.images[:4]]
    change = float(relative(torch.cat(alone), whole[: len(alone)]).max())
    evidence = {"largest_relative_change": change}
    told = "an image alone gets the embedding it gets among others"
    return Verdict("independent of the batch", change <= 1e-3, told, evidence)


def unchanged(scene: Scene) -> Verdict:
    """Answering must leave weights, statistics and mode as they were, in evaluation mode."""
    module = scene.embed if isinstance(scene.embed, nn.Module) else nn.Identity().eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    scene.embed(scene.images)
    after = module.state_dict()
    moved = sum(not torch.equal(value, after[name]) for name, value in before.items())
    training = sum(part.training for part in module.modules())
    told = "the model is in evaluation mode and answering changes no tensor of it"
    evidence = {"tensors_changed": moved, "training": training}
    return Verdict("evaluation mode", moved == training == 0, told, evidence)


def at_rest(scene: Scene) -> Verdict:
    """A test-time defense that optimizes would have to be attacked through its optimization."""
    # What `grad` and `backward` both end in, however a model imported them.
    engine = torch.autograd._engine_run_backward
    with patch.object(torch.autograd, "_engine_run_backward", wraps=engine) as run:
        found = scene.embed(scene.images)
    passed = not run.call_count and not found.requires_grad
    told, evidence = "embedding an image computes no gradient", {"gradient_calls": run.call_count}
    return Verdict("no optimization at inference", passed, told, evidence)


def has_gradients(scene: Scene) -> Verdict:
    """More than 99 % of the images must have a gradient for the attack to follow."""
    _, gradient = value_and_grad(valued(scene.embed, fna(scene.guides)), scene.images)
    strength = gradient.nan_to_num(0.0).flatten(1).abs().amax(1)  # no number leads nowhere
    share = float((strength > 1e-12).float().mean())
    evidence = {"share_nonzero": share, "median_largest": float(strength.median())}
    return Verdict("gradients", share > 0.99, "the input gradient is there", evidence)


def true_gradients(scene: Scene) -> Verdict:
    """A step along the gradient must change the objective by about what the gradient promises."""
    value = valued(scene.embed, fna(scene.guides))
    gradient = value_and_grad(value, scene.images)[1].nan_to_num(0.0)
    size = 0.1 * LEVEL * scene.images[0].numel() ** 0.5
    step = size * normalize(gradient.flatten(1)).view_as(gradient)
    up, down = ((scene.images + way).clamp(0, 1) for way in (step, -step))
    got = (value(up) - value(down)).nan_to_num(0.0)
    promised = (gradient * (up - down)).flatten(1).sum(1)
    ratio = float((got / promised.clamp_min(1e-12)).median())
    told = "the objective changes as its gradient promises"
    return Verdict("gradients are true", 0.5 <= ratio <= 2, told, {"median_ratio": ratio})


def responds(scene: Scene) -> Verdict:
    """One random level on every pixel must change the embedding, a little and not by a jump. A
    model that looks its answers up returns a stored one, or leaves it at the slightest change."""
    images, source = scene.images, torch.Generator().manual_seed(0)
    signs = [uniform(images.shape, source, images).sign() for _ in range(2)]
    near, other = (scene.embed((images + LEVEL * sign).clamp(0, 1)) for sign in signs)
    moved = relative(near, scene.embed(images))
    share = float((moved > 1e-6).float().mean())
    jump = float((moved / relative(other, near).clamp_min(1e-12)).median())
    evidence = {"share_moved": share, "jump": jump}
    told = "a change of one level moves the embedding smoothly"
    return Verdict("small changes", share > 0.99 and jump < 3, told, evidence)


PROBES = (deterministic, independent, unchanged, at_rest, has_gradients, true_gradients, responds)


def relative(found: Tensor, wanted: Tensor) -> Tensor:
    """Distance of each row to its counterpart, relative to the counterpart's length."""
    return (found - wanted).norm(dim=1) / wanted.norm(dim=1).clamp_min(1e-12)
