"""White-box attacks on the metric; their worst case per query is the figure to quote.

Read `help(ddid.attack.ATTACKS[name].craft)` for an attack's card. What a card does not mention is
as in `Card`'s defaults.
"""

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from ddid.attack import objectives
from ddid.attack.auto import ascend_auto
from ddid.attack.guides import Guides
from ddid.attack.loop import Budget, Objective, ascend, scatter
from ddid.attack.suite import Card, Scene, attack

SAME = "away from the mean of all reference images of the identity"
RANDOM = "a random point of the eps-ball (from the clean image its first gradient is zero)"
OWN = "its own feature is the only guide"


def follow(objective: Callable[[Guides], Objective], scene: Scene, budget: Budget) -> Tensor:
    """Run the shared loop on one objective."""
    return ascend(scene.embed, scene.images, objective(scene.guides), budget, scene.generator)


@attack(Card(f"{SAME}, n-fold; to the centroid of the farthest other identity"))
def fna(scene: Scene, budget: Budget) -> Tensor:
    """Furthest-negative attack (Bouniot et al. 2020)."""
    return follow(objectives.fna, scene, budget)


@attack(Card("away from the image's own clean feature", itself=OWN, start=RANDOM))
def sma(scene: Scene, budget: Budget) -> Tensor:
    """Self-metric attack (Bouniot et al. 2020)."""
    return follow(objectives.sma, scene, replace(budget, random_start=True))


@attack(Card(SAME))
def ifgsm(scene: Scene, budget: Budget) -> Tensor:
    """Iterated metric FGSM (Bai et al. 2019)."""
    return follow(objectives.ifgsm, scene, budget)


@attack(Card(SAME, budget=f"{Card.budget}; momentum 1 on mean-normalised gradients"))
def mifgsm(scene: Scene, budget: Budget) -> Tensor:
    """Metric FGSM with momentum (Dong et al. 2018, Bai et al. 2019)."""
    return follow(objectives.ifgsm, scene, replace(budget, momentum=1.0))


@attack(Card(SAME, budget="eps 8/255, one step of eps; L-inf or L2"))
def fgsm(scene: Scene, budget: Budget) -> Tensor:
    """Metric FGSM in one step (Goodfellow et al. 2015, Bai et al. 2019)."""
    one = replace(budget, steps=1, step=max(budget.eps, 1e-6))
    return follow(objectives.ifgsm, scene, one)


@attack(
    Card(
        "to the negated own clean feature",
        itself=OWN,
        start="the clean image, nudged at random: under cosine its first gradient is zero",
    )
)
def odfa(scene: Scene, budget: Budget) -> Tensor:
    """Opposite-direction feature attack (Zheng et al. 2018): towards, not away from, -f(x)."""
    return follow(objectives.odfa, scene, budget)


@attack(
    Card(
        "all reference centroids: as many others as possible nearer than the own one",
        budget="eps 8/255, 2 eps halved when it stalls, 15 steps a start; L-inf or L2",
        start="the clean image; with restarts also random points of the ball",
        distance="smooth rank of the own centroid by squared distance, temperature 0.2",
    )
)
def auto(scene: Scene, budget: Budget) -> Tensor:
    """Auto-step attack on the ranking objective, in the spirit of APGD (Croce & Hein 2020)."""
    value = objectives.misrank(scene.guides)
    return ascend_auto(scene.embed, scene.images, value, budget, scene.generator)


@attack(
    Card("none", budget="eps 8/255, no step", start="a random point of the ball, kept"),
    family="baseline",
)
def noise(scene: Scene, budget: Budget) -> Tensor:
    """Random noise of the same size: what an attack must beat to be called one."""
    return scatter(scene.images, budget, scene.generator)
