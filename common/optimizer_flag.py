"""How every program reads ``--optimizer``: a name of the library's registry, or "help", which lists them."""

import argparse
import sys

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.registry import make_rule, optimizer_names, settings_of
from common.files import to_table
from common.settings import flag


def read_optimizer(text: str) -> str:
    """Return a name of the registry; "help" lists all of them and ends.

    Raises
    ------
    argparse.ArgumentTypeError
        There is no such optimiser, or it is not of the form.
    """
    if text == "help":
        print(optimizers_table())
        sys.exit(0)
    try:
        settings_of(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("optimizer ")) from None
    return text


def optimizers_table() -> str:
    """Return every optimiser with its settings and their defaults."""
    lines = []
    for name in optimizer_names():
        micro = ["--micro-batch-size"] if make_rule(name).of_micro_batches else []
        lines.append(
            [name, " ".join([f"{flag(key)} {value:g}" for key, value in settings_of(name).items()] + micro)]
        )
    return to_table(["optimizer", "settings and their defaults"], lines)
