"""Phase 2 of the paper: bi-adversarial self-meta defence, and its rivals."""
