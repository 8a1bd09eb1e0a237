"""Trainer: corpora, Transformer-XL, optimisers, the training loop, in torch.

Of the rest of the project it imports only ``sim.theory``, ``sim.commands`` and ``sim.records``.
"""
