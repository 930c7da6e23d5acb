"""What defences minimise: named terms of the network's answers to clean and attacked images."""

from torch import Tensor

from ddid.defense.batch import Batch
from ddid.errors import InputError
from ddid.metric.distance import normalize
from ddid.metric.losses import batch_hard_triplet, soft_cross_entropy
from ddid.model import Heads

Terms = dict[str, Tensor]


def identity_terms(batch: Batch, clean: Heads | None, attacked: Heads | None) -> Terms:
    """ℓ = L_cls + L_tri on clean and attacked images, each where there are such [summary]."""
    terms = {}
    if clean is not None:
        terms["clean_cls"] = soft_cross_entropy(clean.logits, batch.targets)
        terms["clean_tri"] = batch_hard_triplet(clean.feature, batch.labels, pool=batch.pool)
    if attacked is not None and batch.attacked_targets is not None:
        terms["attacked_cls"] = soft_cross_entropy(attacked.logits, batch.attacked_targets)
        terms["attacked_tri"] = batch_hard_triplet(attacked.feature, batch.labels, pool=batch.pool)
    return terms


def both(clean: Heads | None, attacked: Heads | None) -> tuple[Heads, Heads]:
    """The two outputs of a loss that compares them.

    Raises:
        InputError: the recipe does not produce both.
    """
    if clean is None or attacked is None:
        raise InputError("this loss compares clean and attacked images: give the recipe a `craft`")
    return clean, attacked


def unit(heads: Heads) -> Tensor:
    """Embeddings (B, D) at unit length: the cosine space in which galleries are ranked."""
    return normalize(heads.embedding)


def same_identity(labels: Tensor) -> Tensor:
    """(B, B) booleans: whether two rows of labels (B,) are one identity; true on the diagonal."""
    return labels[:, None] == labels[None, :]


def accuracies(batch: Batch, clean: Heads | None, attacked: Heads | None) -> Terms:
    """Share of images the classifier names rightly, in [0, 1]."""
    outputs = {"clean_accuracy": clean, "attacked_accuracy": attacked}
    return {
        name: (heads.logits.argmax(1) == batch.labels).float().mean()
        for name, heads in outputs.items()
        if heads is not None
    }
