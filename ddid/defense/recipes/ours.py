"""Beyond the paper: attacked images learn to rank clean ones, as the test asks of them."""

from ddid.defense.losses import Batch, Terms, identity_terms
from ddid.defense.recipe import Recipe
from ddid.metric.losses import batch_hard_triplet
from ddid.model import Heads


def crossed_terms(batch: Batch, clean: Heads, attacked: Heads) -> Terms:
    """Metric AT's terms, the attacked triplets with clean positives and negatives [ours]: at test
    time only the query is attacked, the gallery is not."""
    crossed = batch_hard_triplet(attacked.feature, batch.labels, references=clean.feature)
    return identity_terms(batch, clean, attacked) | {"attacked_tri": crossed}


RECIPES = [
    Recipe(
        "crossed_at",
        paper="Metric AT of Zhou et al. 2026 (arXiv 2511.09933), changed",
        idea="FNA on the network in training; attacked anchors are compared with clean images.",
        ours="The crossing; ACT (Zhou et al. 2021) has it the other way round. It gains clean mAP, "
        "which a larger budget spends: `crossed_at-eps12`.",
        loss=crossed_terms,
    )
]
