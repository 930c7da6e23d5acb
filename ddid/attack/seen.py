"""White-box attacks on the metric; their worst case per query is the figure to quote."""

from torch import Tensor

from ddid.attack import objectives
from ddid.attack.budget import random_start
from ddid.attack.pgd import auto_ascent
from ddid.attack.registry import Card, attack
from ddid.attack.scene import Scene

SAME = "away from the mean of all reference images of the identity"


@attack("Bouniot et al. 2020", f"{SAME}, n-fold; to the centroid of the farthest other identity")
def fna(scene: Scene) -> Tensor:
    """Furthest-negative attack."""
    return scene.pgd(objectives.fna(scene.guides))


@attack(
    "Bouniot et al. 2020",
    "away from the image's own clean feature",
    start="a random point of the ball: from the clean image the first gradient is zero",
)
def sma(scene: Scene) -> Tensor:
    """Self-metric attack."""
    return scene.spending(random_start=True).pgd(objectives.sma(scene.guides))


@attack("Bai et al. 2019", SAME)
def ifgsm(scene: Scene) -> Tensor:
    """Iterated metric FGSM."""
    return scene.pgd(objectives.ifgsm(scene.guides))


@attack(
    "Dong et al. 2018, Bai et al. 2019",
    SAME,
    budget=f"{Card.budget}; momentum 1 on mean-normalised gradients",
)
def mifgsm(scene: Scene) -> Tensor:
    """Metric FGSM with momentum."""
    return scene.spending(momentum=1.0).pgd(objectives.ifgsm(scene.guides))


@attack("Goodfellow et al. 2015, Bai et al. 2019", SAME, "one step of eps")
def fgsm(scene: Scene) -> Tensor:
    """Metric FGSM in one step."""
    return scene.spending(steps=1, step=0.0).pgd(objectives.ifgsm(scene.guides))


@attack(
    "Zheng et al. 2018",
    "to the negated own clean feature",
    start="a random point of the ball: under cosine the clean image's gradient is rounding alone",
)
def odfa(scene: Scene) -> Tensor:
    """Opposite-direction feature attack: towards, not away from, -f(x)."""
    return scene.spending(random_start=True).pgd(objectives.odfa(scene.guides))


@attack(
    "our choice of objective; steps in the spirit of APGD (Croce & Hein 2020)",
    "all reference centroids: as many others as possible nearer than the own one (smooth "
    "rank, temperature 0.2)",
    budget="2 eps halved when it stalls, 15 steps a start",
    start="the clean image; with restarts also random points of the ball",
)
def auto(scene: Scene) -> Tensor:
    """Auto-step attack on a ranking objective."""
    return scene.pgd(objectives.misrank(scene.guides), auto_ascent)


@attack("our choice", "none", "eps, no step", "a random point of the ball, kept", family="baseline")
def noise(scene: Scene) -> Tensor:
    """Random noise of the same size: what an attack must beat to be called one."""
    return random_start(scene.images, scene.budget, scene.generator)
