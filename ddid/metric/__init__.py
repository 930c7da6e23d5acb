"""Pure tensors, no files: distances, losses, and the ranking protocol."""

from ddid.metric.ranking import Embedded, Ranking, answerable, is_match, rank

__all__ = ["Embedded", "Ranking", "answerable", "is_match", "rank"]
