"""Titles and captions of figures for the report, from `paper/figures.yaml`, which the article reads by itself."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adam_minibatch_noise.errors import InputError
from common.config import read_yaml

FIGURES = "paper/figures.yaml"
SYMBOLS = {"beta": "β", "gamma": "γ", "kappa": "κ", "lambda": "λ", "rho": "ρ"}
SYMBOLS |= {"nabla": "∇", "partial": "∂", "log": "log"}
"""Words of a formula that are not shown as they are; single letters are."""
TOKEN = re.compile(
    r'bb\((?P<letter>\w)\)|norm\((?P<norm>[^()]*)\)|"(?P<word>[^"]+)"|(?P<name>[A-Za-z]+)|_(?P<index>\([^()]*\)|"[^"]+"|\w+)'
    r"|(?P<slash>\\/)|(?P<other>[^$#@\\*`])"
)
"""Parts of a formula."""


def read(path: str = FIGURES) -> dict[str, dict[str, Any]]:
    """Return what the file of figures says: by name of a figure, its title, caption and the rest.

    Parameters
    ----------
    path : str

    Raises
    ------
    InputError
        A figure, or an entry of one, stands there twice.
    """
    figures: dict[str, dict[str, Any]] = read_yaml(path)
    return figures


def files(name: str, figure: Mapping[str, Any]) -> dict[str, str]:
    """Return the files that show a figure, without ".svg", and what each adds to the caption."""
    return dict(figure.get("files", {name: ""}))


def files_of_article(*sources: str) -> list[str]:
    """Return the files below the results that the article's text shows by `fig` or reads by ``results + "/..."``.

    Parameters
    ----------
    *sources : str
        Paths of Typst files.
    """
    found: dict[str, None] = {}
    for source in sources:
        text = Path(source).read_text(encoding="utf-8")
        found |= dict.fromkeys(f"analysis/{name}.svg" for name in re.findall(r'#fig\("([^"]+)"', text))
        found |= dict.fromkeys(re.findall(r'results \+ "/([^"]+\.\w+)"', text))
    return list(found)


def titles(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the title of each file; of a figure of recorded runs and of this configuration's it says which."""
    return {
        file: figure["title"]
        + ("" if len(added) == 1 else ", recorded" if text.startswith("Recorded") else ", here")
        for name, figure in figures.items()
        for added in [files(name, figure)]
        for file, text in added.items()
    }


def captions(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the caption of each file in reStructuredText.

    Raises
    ------
    InputError
        A caption holds markup that `to_rst` does not know.
    """
    return {
        file: to_rst(f"{figure['caption']} {added}".strip())
        for name, figure in figures.items()
        for file, added in files(name, figure).items()
    }


def to_rst(caption: str) -> str:
    """Write a caption for the report: formulas in letters, with their indices as subscripts.

    Parameters
    ----------
    caption : str
        Words and formulas between dollar signs, in the markup of Typst.

    Returns
    -------
    str

    Raises
    ------
    InputError
        Naming what is not understood.
    """
    parts = caption.split("$")
    if len(parts) % 2 == 0:
        raise InputError(f"caption {caption[:40]!r}: a formula does not end")
    for words in parts[::2]:
        if found := re.search(r"[#@\\*_`<>|]", words):
            raise InputError(f"caption {caption[:40]!r}: {found[0]!r} outside a formula is not allowed")
    return "".join(_formula(part) if i % 2 else part for i, part in enumerate(parts))


def _formula(text: str) -> str:
    result, place = "", 0
    while place < len(text):
        found = TOKEN.match(text, place)
        if found is None:
            raise InputError(f"formula {text!r}: {text[place]!r} is not understood")
        result += _shown(found, text)
        place = found.end()
    return result.replace(" \\ ", "\\ ")


def _shown(found: "re.Match[str]", formula: str) -> str:
    kind, text = found.lastgroup, found[found.lastgroup or 0]
    if kind == "name":
        if len(text) > 1 and text not in SYMBOLS:
            raise InputError(f"formula {formula!r}: {text!r} is not understood")
        return SYMBOLS.get(text, text)
    if kind == "norm":
        return f"‖{_formula(text)}‖"
    if kind == "index":
        return rf"\ :sub:`{text.strip('()')}`\ ".replace('"', "")
    return {"slash": "/", "other": text.replace("|", r"\|")}.get(kind or "", text)
