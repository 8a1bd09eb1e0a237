"""Which modules of a package are programs, and what `python -m` says of those that are none.

A program is a module at the top of its package that does something when it is run: its last lines ask whether its
``__name__`` is "__main__".
"""

import ast
import re
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parent.parent
_STARTS = re.compile(r"^if __name__ == .__main__.:", re.MULTILINE)


def find_programs(package: str) -> list[str]:
    """Return the programs of a package in the order of their names, such as "sim.exact"."""
    paths = sorted((ROOT / package).glob("*.py"))
    return [f"{package}.{path.stem}" for path in paths if path.stem[0] != "_" and _is_program(path)]


def refuse_others(package: str) -> None:
    """End in exit status 2 if this process was started to run a module of the package that is no program.

    For the package's ``__init__``: `python -m` imports it before it looks for the module, and until then ``sys.argv``
    begins with "-m". In any other process, and at any other time, this does nothing.

    Parameters
    ----------
    package : str
        Name of a top-level package.
    """
    module = _asked_for() if sys.argv[:1] == ["-m"] else ""
    name = module.removeprefix(f"{package}.")
    if name == module or name in ("__main__", "__init__"):
        return
    if "." in name or not _is_program(ROOT / package / f"{name}.py"):
        what = "is no program" if _exists(module) else "does not exist"
        print(f"error: {module} {what}: `python -m {package}` lists the programs", file=sys.stderr)
        raise SystemExit(2)


def list_programs(package: str) -> NoReturn:
    """Print the programs of a package, each with the first line of its docstring, and end."""
    names = find_programs(package)
    width = max(map(len, names))
    for name in names:
        tree = ast.parse((ROOT / name.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8"))
        print(f"python -m {name:{width}}  {(ast.get_docstring(tree) or '').split(chr(10))[0]}")
    print("\nEach explains its flags with --help.")
    raise SystemExit(0)


def _asked_for() -> str:
    """Return the module that `python -m` was given: the word before the module's own, perhaps with the -m itself."""
    word = sys.orig_argv[len(sys.orig_argv) - len(sys.argv)]
    return re.sub(r"^-[A-Za-z]*?m", "", word)


def _exists(module: str) -> bool:
    path = ROOT / module.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def _is_program(path: Path) -> bool:
    return path.is_file() and bool(_STARTS.search(path.read_text(encoding="utf-8")))
