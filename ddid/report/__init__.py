"""What came out: robustness, audit, embeddings, figures, the attack explorer."""
