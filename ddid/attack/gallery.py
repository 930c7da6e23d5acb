"""The attacker who knows the gallery: wrong images up, right ones down, by the ranking scored."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ddid.attack.budget import random_start
from ddid.attack.objectives import Objective
from ddid.attack.pgd import auto_ascent, valued
from ddid.attack.registry import attack
from ddid.attack.scene import Scene
from ddid.data.images import where_rows
from ddid.errors import InputError
from ddid.metric.distance import normalize
from ddid.metric.ranking import SLACK, is_match

TEMPERATURES = (0.02, 0.01)  # of cosines, in turn
NEAREST = 1024  # wrong images that count at a time; those beyond change the precision by little
AT_ONCE = 2**24  # comparisons held at once, so that memory grows with the gallery alone


@dataclass(frozen=True)
class Known:
    """A gallery of G images as B queries meet it."""

    features: Tensor  # (G, D) of unit length
    right: Tensor  # (B, G): right answers to each query
    wrong: Tensor  # (B, G): wrong ones; the others are ignored
    rows: Tensor  # (B, R): the right ones, filled up with others that `right` leaves out

    @classmethod
    def of(cls, scene: Scene) -> "Known":
        """What one batch of queries meets; InputError where the gallery itself is attacked."""
        gallery = scene.gallery
        if gallery is None or scene.camids is None:
            raise InputError("an attack that knows the gallery changes queries: give side='query'")
        features = normalize(gallery.embeddings)
        pids, camids = (x.to(features.device)[:, None] for x in (scene.pids, scene.camids))
        right = is_match(gallery.pids, gallery.camids, pids, camids)
        rows = right.float().topk(most_right(right), dim=1).indices
        return cls(features, right, (gallery.pids != pids) & (gallery.pids >= 0), rows)

    def scores(self, embeddings: Tensor) -> Tensor:
        """Cosines (B, G)."""
        return normalize(embeddings.float()) @ self.features.T

    def near(self, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, right and wrong (B, N) of the images that count: all, or in a large gallery the
        right ones and the `NEAREST` wrong ones as the query is now."""
        kept = NEAREST + self.rows.shape[1]
        if kept >= scores.shape[1]:
            return scores, self.right, self.wrong
        first = scores.detach() + 4.0 * self.right.float() + 4.0 * (self.right | self.wrong).float()
        columns = first.topk(kept, dim=1).indices
        scores, right, wrong = (
            each.gather(1, columns) for each in (scores, self.right, self.wrong)
        )
        return scores, right, wrong & (wrong.cumsum(1) <= NEAREST)


def most_right(right: Tensor) -> int:
    """The largest number of right answers to a query, at least 1; waits for the device."""
    return max(1, int(right.sum(1).max()))


@attack(
    "smooth AP (Brown et al. 2020); steps in the spirit of APGD (Croce & Hein 2020)",
    "the gallery itself, under the camera rule: lowers the smooth average precision of the "
    "real ranking, temperatures 0.02 and 0.01 in turn",
    "2 eps halved when it stalls, 40 steps a start",
    "the clean image, a random point, then the best so far; kept is the lowest exact AP",
    family="gallery",
)
def gallery(scene: Scene) -> Tensor:
    """Average precision attacked directly, by who knows the gallery."""
    known, budget = Known.of(scene), scene.budget
    best, lowest = scene.images, known.features.new_full((len(scene.images),), torch.inf)
    for restart in range(budget.restarts):
        # From the best once more: the first step, of 2 eps, leaves its hill.
        start = random_start(scene.images, budget, scene.generator) if restart == 1 else best
        aim = smooth_miss(known, TEMPERATURES[restart % len(TEMPERATURES)])
        point = auto_ascent(valued(scene.embed, aim), start, scene.images, budget)
        with torch.no_grad():
            ap = exact_ap(known, scene.embed(point))
        best, lowest = where_rows(ap < lowest, point, best), ap.minimum(lowest)
    return best


def smooth_miss(known: Known, temperature: float) -> Objective:
    """One minus the smooth average precision of each query: steps of the rank become sigmoids."""
    real = known.right.gather(1, known.rows)

    def precision(
        own: Tensor, counted: Tensor, scores: Tensor, right: Tensor, wrong: Tensor
    ) -> Tensor:
        """Sum of the precisions at some right answers, whose scores are `own`, (B,)."""
        ahead = torch.sigmoid((scores[:, None] - own[:, :, None]) / temperature)
        before = (ahead * wrong[:, None]).sum(2)
        found = (ahead * right[:, None]).sum(2) + 0.5  # an image is half ahead of itself
        return (found / (found + before) * counted).sum(1)

    def miss(embeddings: Tensor) -> Tensor:
        scores = known.scores(embeddings)
        near, own = known.near(scores), scores.gather(1, known.rows)
        columns = max(1, AT_ONCE // near[0].numel())
        pieces = zip(own.split(columns, 1), real.split(columns, 1), strict=True)
        if columns >= real.shape[1]:
            sums = [precision(*piece, *near) for piece in pieces]
        else:  # computed again on the way back instead of kept
            sums = [checkpoint(precision, *piece, *near, use_reentrant=False) for piece in pieces]
        return 1 - torch.stack(sums).sum(0) / real.sum(1).clamp_min(1)

    return miss


def exact_ap(known: Known, embeddings: Tensor) -> Tensor:
    """Average precision of each query (B,), by sorting, as `rank` has it with its ties; 0 without
    a right answer."""
    order = (known.scores(embeddings) + SLACK * known.wrong).argsort(dim=1, descending=True)
    right, wrong = (mask.gather(1, order).cumsum(1) for mask in (known.right, known.wrong))
    hits = known.right.gather(1, order)
    return (hits * right / (right + wrong).clamp_min(1)).sum(1) / hits.sum(1).clamp_min(1)
