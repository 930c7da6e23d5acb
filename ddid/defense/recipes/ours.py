"""Beyond the paper: attacked images learn to rank clean ones, as the test asks of them."""

from functools import partial

from ddid.defense.losses import Batch, Terms, identity_terms
from ddid.defense.recipe import Recipe
from ddid.metric.losses import batch_hard_triplet
from ddid.model import Heads

SOURCE = "Metric AT of Zhou et al. 2026 (arXiv 2511.09933), changed"


def crossed_terms(batch: Batch, clean: Heads, attacked: Heads, *, still: bool = False) -> Terms:
    """Metric AT's terms, the attacked triplets with clean positives and negatives [ours]: at test
    time only the query is attacked, the gallery is not. `still`: these are not moved by it."""
    references = clean.feature.detach() if still else clean.feature
    crossed = batch_hard_triplet(attacked.feature, batch.labels, references=references)
    return identity_terms(batch, clean, attacked) | {"attacked_tri": crossed}


RECIPES = [
    Recipe(
        "crossed_at",
        SOURCE,
        idea="FNA on the network in training; attacked anchors are compared with clean images.",
        ours="The crossing; ACT (Zhou et al. 2021) has it the other way round. It gains clean mAP, "
        "which a larger budget spends: `crossed_at-eps12`. On photographs its training was seen to "
        "collapse at first, which an attack that grows prevents: `crossed_at-eps12+ramp`.",
        loss=crossed_terms,
    ),
    Recipe(
        "anchored_at",
        SOURCE,
        idea="`crossed_at` whose clean images hold still: only the attacked anchor is pulled.",
        ours="All of it. Where clean images may come to meet attacked ones, all can fall together, "
        "and attacked images be classified before any clean one is.",
        loss=partial(crossed_terms, still=True),
    ),
]
