"""Name, list or remove the folder of results of a configuration (`make`, `make clean`), or show it as a page."""

import argparse
import base64
import binascii
import contextlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, allow_only, run
from common.config import MAIN, load, write_html
from common.files import take_lock

NAME = re.compile(r"results[A-Za-z0-9_.-]*")
"""What a folder of results may be called, as in the schema of the configuration."""
SNAKEMAKE_NOTES = (Path(".snakemake/metadata"), Path(".snakemake/incomplete"))
"""Where Snakemake keeps a note on each file that a job made, under the file's name in base64."""
SHOWN = {
    "article": "paper/article.pdf",
    "report": "report.html",
    "page to explore": "explorer.html",
    "figures": "analysis",
    "logs": "logs",
}
"""What a reader looks for, below the folder of results; `make report` writes the report."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m common.results", description=__doc__)
    parser.add_argument("action", choices=["name", "show", "remove", "page"], help="what to do")
    parser.add_argument("--configuration", default=MAIN, metavar="FILE", help="whose folder")
    parser.add_argument("--folder", help="this folder instead")
    parser.add_argument("--settings", default="{}", metavar="JSON", help="page: the configuration to show")
    parser.add_argument("--out", metavar="FILE", help="page: where it is written, as HTML")
    return parser


def folder_of(configuration: str) -> str:
    """Return the name of the folder of results of a configuration.

    Parameters
    ----------
    configuration : str
        Path of a file that changes `config/config.yaml`, or of that file itself.

    Raises
    ------
    InputError
        The file cannot be read as a configuration, or its `results` is not the name of a folder of results.
    """
    return _checked(str(load(MAIN, configuration).get("results")))


def _checked(folder: str) -> str:
    if not NAME.fullmatch(folder):
        raise InputError(f"results is {folder}, allowed: a name that matches {NAME.pattern}")
    return folder


def remove(folder: str) -> tuple[int, int]:
    """Remove a folder of results and Snakemake's notes on its files.

    Parameters
    ----------
    folder : str
        Below the working directory.

    Returns
    -------
    n_files, n_bytes : int
        What was removed, without the notes.

    Raises
    ------
    InputError
        The name is not that of a folder of results, or a workflow is working on it.
    """
    root = Path(_checked(folder))
    files = [path for path in root.rglob("*") if path.is_file()]
    n_bytes = sum(path.stat().st_size for path in files)
    if root.exists():
        with take_lock(root / "workflow"):
            shutil.rmtree(root)
    for note in list(_notes(folder)):
        note.unlink()
    return len(files), n_bytes


def _notes(folder: str) -> Iterator[Path]:
    """Yield Snakemake's notes on files below `folder`; a long name is split over several folders, each but the last with @."""
    for place in SNAKEMAKE_NOTES:
        for path in place.rglob("*"):
            if not path.is_file():
                continue
            name = "".join(part.removeprefix("@") for part in path.relative_to(place).parts)
            with contextlib.suppress(binascii.Error, UnicodeDecodeError):
                if base64.b64decode(name, altchars=b"-_").decode().startswith(f"{folder}/"):
                    yield path


def _write_page(settings: str, out: str | None) -> None:
    """Write a configuration, given as JSON, as a page for the report."""
    try:
        config = json.loads(settings)
    except ValueError as error:
        raise InputError(f"--settings is not JSON ({error})") from error
    if not isinstance(config, dict) or out is None:
        raise InputError("page needs --settings with a mapping, and --out")
    write_html(out, config)


def main(argv: list[str] | None = None) -> None:
    """Print the name of the folder, what is in it, or what was removed."""
    args = parser().parse_args(argv)
    allow_only(args, ["settings", "out"], args.action == "page", "with page")
    allow_only(args, ["configuration", "folder"], args.action != "page", "without page, which takes --settings")
    allow_only(args, ["configuration"], args.folder is None, "without --folder")
    if args.action == "page":
        return _write_page(args.settings, args.out)
    folder = _checked(args.folder) if args.folder else folder_of(args.configuration)
    if args.action == "name":
        print(folder)
    elif args.action == "show":
        for what, name in SHOWN.items():
            if (Path(folder) / name).exists():
                print(f"{what:>8}: {folder}/{name}")
            elif what == "report":
                print(f"{what:>8}: `make report` writes {folder}/{name}")
    else:
        n_files, n_bytes = remove(folder)
        print(f"removed {folder}: {n_files} files, {n_bytes / 1e6:.1f} MB")
        for other in sorted(path.name for path in Path().glob("results*") if path.is_dir()):
            print(f"left {other}: `make clean RESULTS={other}` removes it", file=sys.stderr)


if __name__ == "__main__":
    run(main)
