"""Training programs in PyTorch: Transformer-XL on text, networks on images, and their noise scale.

Imports the library ``adam_minibatch_noise`` and ``common``.
"""

from common.programs import refuse_others

refuse_others(__name__)
