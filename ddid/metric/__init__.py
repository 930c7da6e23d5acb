"""Pure tensors, no files: distances, losses, and the ranking protocol."""

from ddid.metric.ranking import Embedded, Ranking, has_matches, is_match, rank

__all__ = ["Embedded", "Ranking", "has_matches", "is_match", "rank"]
