"""Optimisers for PyTorch: Adam with either eps, batch-size invariant AdamW, and settings for another batch size."""
