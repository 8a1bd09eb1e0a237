"""Set the article with typst: the text from ``paper``, every number, table and figure from the results folder."""

import argparse
from pathlib import Path
from typing import Any

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, run
from common.files import atomic_write


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.article", description=__doc__)
    parser.add_argument("--source", default="paper/article.typ", help="the text")
    parser.add_argument(
        "--results", metavar="FOLDER", help="of numbers and figures; default: above that of --out"
    )
    parser.add_argument("--out", required=True, metavar="FILE.pdf", help="the article")
    parser.add_argument("--pages", metavar="FOLDER", help="also write each page as FOLDER/page-1.png, ...")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Set the article and write it by rename."""
    args = parser().parse_args(argv)
    import typst

    root = Path.cwd()
    results = Path(args.results).resolve() if args.results else Path(args.out).resolve().parent.parent
    if not results.is_relative_to(root):
        raise InputError(f"--results is {results}, allowed: a folder below {root}")
    settings: dict[str, Any] = {
        "root": str(root),
        "sys_inputs": {"results": "/" + results.relative_to(root).as_posix()},
        "ignore_system_fonts": True,
    }
    try:
        document = typst.compile(args.source, **settings)
        pages = typst.compile(args.source, format="png", ppi=110, **settings) if args.pages else []
    except (typst.TypstError, RuntimeError) as error:
        raise InputError(f"{args.source}: {error}") from error
    for i, page in enumerate([pages] if isinstance(pages, bytes) else pages, start=1):
        with atomic_write(Path(args.pages) / f"page-{i}.png", "wb") as file:
            file.write(page)
    with atomic_write(args.out, "wb") as file:
        file.write(document)


if __name__ == "__main__":
    run(main)
