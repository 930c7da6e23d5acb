"""Phase 1 of the paper: measure the bias of the data and resample it away."""
