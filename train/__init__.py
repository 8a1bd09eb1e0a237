"""Training programs in PyTorch: Transformer-XL on text, networks on images, and their noise scale.

Imports the library ``adam_minibatch_noise`` and ``common``.
"""
