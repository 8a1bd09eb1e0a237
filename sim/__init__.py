"""Simulation programs, and what they compute with: problems, batch orders, compiled kernels.

Imports the library ``adam_minibatch_noise`` and ``common``.
"""

from common.programs import refuse_others

refuse_others(__name__)
