"""Transformer-XL trainer: corpora, model, optimisers, the training loop. Imports only ``sim.theory`` and ``sim.records``."""
