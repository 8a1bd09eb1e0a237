"""How figures and article call what the tables name: one registry for each kind of name.

Keys are the words in the tables' columns, in the order in which figures show them.
"""

from collections.abc import Iterable, Mapping

from adam_minibatch_noise.errors import InputError

OPTIMIZERS = {
    "sgd-momentum": "SGD with momentum",
    "adam": "Adam",
    "adamw": "AdamW",
    "invariant-adamw": "invariant Adam",
}
SCALINGS = {"invariant": "invariant rule", "square-root": "square-root rule", "linear": "linear rule"}
"""Rules by which learning rate and betas follow the batch size; "linear" is the control of `sim.invariance`."""
PROBLEMS = {"least-squares": "least squares", "quadratics": "quadratics", "cnn": "two-layer CNN"}
CORPORA = {"pydoc": "Python's language reference", "wikitext-2": "WikiText-2"}
"""Another corpus is the user's own text and keeps its name."""
DATASETS = {"cifar10": "CIFAR-10", "cifar10-jpeg": "CIFAR-10 (JPEG copy)", "digits": "handwritten digits"}
NETWORKS = {"small-cnn": "small CNN", "resnet18": "ResNet18", "vgg16": "VGG16"}
NORMS = {"batch": "batch norm", "layer": "layer norm", "none": "no norm"}


def known(values: Iterable[str], registry: Mapping[str, str], column: str) -> list[str]:
    """Return the names that occur, in the order of their registry.

    Parameters
    ----------
    values : iterable of str
        A column of a table.
    registry : mapping
        Of this module.
    column : str
        Its name, for the message.

    Raises
    ------
    InputError
        If a value is none of the registry's names.
    """
    found = set(map(str, values))
    if others := sorted(found - set(registry)):
        raise InputError(f"column {column!r} holds {others[0]!r}, allowed: {', '.join(registry)}")
    return [name for name in registry if name in found]
