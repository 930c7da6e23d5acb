"""TRADES on embeddings: stay put under attack, and learn identities from clean images only."""

from ddid.attack.seen import sma
from ddid.defense.losses import Batch, Terms, identity_terms
from ddid.defense.recipe import Card, Recipe
from ddid.metric.distance import normalize
from ddid.model import Heads

CARD = Card(
    paper="Zhang et al. 2019, Theoretically Principled Trade-off between Robustness and Accuracy",
    idea="Clean loss plus beta times how far the attack moves the output.",
    ours="The output is the unit-length embedding and the attack SMA, for ReID has no classes to "
    "keep; beta keeps the paper's 6.",
)
BETA = 6.0


def trade_off(batch: Batch, clean: Heads, attacked: Heads) -> Terms:
    """Clean identity terms and beta times the mean squared move in the cosine space."""
    move = normalize(clean.embedding) - normalize(attacked.embedding)
    return identity_terms(batch, clean, None) | {"move": BETA * move.square().sum(1).mean()}


RECIPES = [Recipe("trades", CARD, sma, trade_off)]
