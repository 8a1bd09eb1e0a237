"""Write the pages of the library's functions and classes, from their docstrings: `make api`, no network needed.

The page of a package lists what the package offers. The trainers of `callbacks` need not be installed.
"""

import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from common.cli import Parser, run

LIBRARY = "adam_minibatch_noise"
NOT_SHOWN = ("__main__", "ranges", "advice.advise", "expansion.weight_sums")
"""Modules that others do not import, or whose name a function of their package has."""
CITATION = re.compile(r"(\[\d+\])_")
"""How numpydoc refers to a source."""
TRAINERS = {"transformers": "TrainerCallback", "lightning.pytorch": "Callback"}
"""Packages that a checkout does not install, and the class of each that the library inherits from."""


@contextmanager
def stand_in_for_trainers() -> Iterator[None]:
    """Let `callbacks` be imported where a trainer is not installed: its class is empty then. It is undone after."""
    before = set(sys.modules)
    for name, inherited in TRAINERS.items():
        package = name.partition(".")[0]
        if package not in sys.modules and importlib.util.find_spec(package) is None:
            module = ModuleType(name)
            setattr(module, inherited, type(inherited, (), {"__module__": name}))
            sys.modules |= {package: sys.modules.get(package, ModuleType(package)), name: module}
    try:
        yield
    finally:
        for name in set(sys.modules) - before:
            if name.startswith((*TRAINERS, "lightning", f"{LIBRARY}.callbacks")):
                del sys.modules[name]


def write_pages(folder: Path) -> None:
    """Write a page for each module of the library that others may import from, an index and the data of the search."""
    import pdoc

    pdoc.render.configure(docformat="numpy", footer_text=LIBRARY)
    to_html = pdoc.render.env.filters["to_html"]
    pdoc.render.env.filters["to_html"] = lambda text: to_html(CITATION.sub(r"\1", text))
    with stand_in_for_trainers():
        pdoc.pdoc(LIBRARY, *(f"!{LIBRARY}.{name}" for name in NOT_SHOWN), output_directory=folder)


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m docs.make_api",
        description=__doc__,
        examples=("python -m docs.make_api --out docs/api",),
    )
    parser.add_argument(
        "--out", type=Path, default=Path("docs/api"), metavar="FOLDER", help="default: docs/api"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Write the pages, say where they begin."""
    folder = parser().parse_args(argv).out
    write_pages(folder)
    print(f"wrote {folder}/index.html")


if __name__ == "__main__":
    run(main)
