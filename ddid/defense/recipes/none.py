"""No defence: the ReID baseline every other recipe is built on."""

from ddid.defense.recipe import Card, Recipe

CARD = Card(
    paper="Luo et al. 2019, Bag of Tricks and a Strong Baseline for Deep Person Re-identification",
    idea="Label-smoothed classification and batch-hard triplets on clean images.",
)
RECIPES = [Recipe("none", CARD, craft=None)]
