"""What mini-batch noise does to Adam's memory: theory, exact expansion, optimisers, noise scale and advice.

Importing this package loads nothing. `theory`, `expansion` and `advice` need NumPy; `optimizers` and `noise_scale`
need the extra ``torch``, `callbacks` the trainer that they are for, an optimiser of one's own in `expansion` the extra
``symbolic``. `python -m adam_minibatch_noise advise` prints advice.
"""
