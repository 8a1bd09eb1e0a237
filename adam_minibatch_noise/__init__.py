"""What mini-batch noise does to Adam's memory: theory, exact expansion, optimisers, noise scale and advice.

Importing this package loads nothing. `adam_minibatch_noise.theory`, `adam_minibatch_noise.expansion` and
`adam_minibatch_noise.advice` need NumPy; `adam_minibatch_noise.optimizers` and `adam_minibatch_noise.noise_scale` need
the extra ``torch``, `adam_minibatch_noise.callbacks` the trainer that they are for, an optimiser of one's own in
`adam_minibatch_noise.expansion` the extra ``symbolic``. `python -m adam_minibatch_noise advise` prints advice.
"""
