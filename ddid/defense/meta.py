"""Self-meta learning: rehearse the unseen inside every batch.

A batch splits into meta-train and meta-test halves. θ_temp = θ − α∇L_mtrain(θ) is what learning
from the first half alone would give; training minimises L_mtrain(θ) + L_mtest(θ_temp), so a step
must also help on what it has not seen [summary].
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from ddid.attack.scene import Scene
from ddid.errors import require, require_within

Craft = Callable[[Scene], Tensor]
"""An inner attack: a scene to its images, attacked, in [0, 1]."""
Forward = Callable[..., Any]
"""The network as a function of images, with some parameters θ inside."""
Split = Literal["identity", "camera", "random"]
SPLITS = get_args(Split)


@dataclass(frozen=True)
class Meta:
    """How the self-meta step splits and looks ahead. Our choices, the split by identity apart."""

    rate: float = 0.01  # inner rate α ≥ 0
    second_order: bool = False  # differentiate through ∇L_mtrain, which costs more
    split: Split = "identity"  # what the halves do not share
    attacks: tuple[Craft, ...] = ()  # on the meta-test half, one drawn a step; none: the recipe's
    ahead: bool = False  # attack the meta-test half at θ_temp, where its loss is taken, not at θ

    def __post_init__(self) -> None:
        require_within("self-meta learning", self, rate="[0, inf)")
        known = self.split in SPLITS
        require(known, f"self-meta learning splits by {', '.join(SPLITS)}, not {self.split!r}")


def split_rows(
    labels: Tensor, camids: Tensor, split: str, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Rows of the meta-train and of the meta-test half of `labels` and `camids` (B,), on the host.
    Whole groups go to either side: identities, cameras, or single images (`random`), in random
    order, to meta-train until it holds half of the images. InputError for a single group."""
    groups = {"identity": labels, "camera": camids, "random": torch.arange(len(labels))}[split]
    _, group, sizes = groups.unique(return_inverse=True, return_counts=True)
    alone = f"a batch with one {split} cannot be split by {split}: take another key"
    require(len(sizes) > 1, alone)
    order = torch.randperm(len(sizes), generator=generator)
    before = sizes[order].cumsum(0) - sizes[order]
    in_test = torch.empty_like(sizes, dtype=torch.bool)
    in_test[order] = before >= len(labels) // 2
    in_test[order[-1]] = True
    tested = in_test[group]
    return (~tested).nonzero().squeeze(1), tested.nonzero().squeeze(1)


def meta_backward(
    net: nn.Module,
    meta_train: Callable[[Forward], Tensor],
    meta_test: Callable[[Forward], Tensor],
    meta: Meta,
) -> tuple[Tensor, Tensor]:
    """Add the gradient of L_mtrain(θ) + L_mtest(θ_temp) to every `.grad`, empty before.

    First order takes θ_temp as independent of ∇L_mtrain (Finn et al. 2017) and costs one plain step
    on the two halves. `net` holds θ; a loss is a function of the network's forward function. Other
    parameters in the losses get their gradients from both. Returns both losses, detached.
    """
    # A fused attention has no second derivative.
    with sdpa_kernel(SDPBackend.MATH) if meta.second_order else nullcontext():
        theta = {name: p for name, p in net.named_parameters() if p.requires_grad}
        loss_train = meta_train(net)
        if meta.second_order:
            step = torch.autograd.grad(
                loss_train, list(theta.values()), create_graph=True, materialize_grads=True
            )
        else:
            loss_train.backward()
            step = tuple(torch.zeros_like(p) if p.grad is None else p.grad for p in theta.values())
        ahead = {n: p - meta.rate * g for (n, p), g in zip(theta.items(), step, strict=True)}

        def look_ahead(*inputs: Tensor, **options: Any) -> Any:
            return functional_call(net, ahead, inputs, options)

        loss_test = meta_test(look_ahead)
        (loss_train + loss_test if meta.second_order else loss_test).backward()
    return loss_train.detach(), loss_test.detach()
