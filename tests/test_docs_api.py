"""The pages of the library's functions and classes: made without a network, and every reference leads somewhere."""

import importlib
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from docs import make_api

NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(\(\))?")
WORDS = {
    *("torch", "symbolic", "huggingface", "lightning", "Trainer"),  # extras of the package, classes of trainers
    *("g", "z1", "z2", "a", "b", "t"),  # of formulas
    *("exp_avg", "exp_avg_sq", "grad_sum", "square_sum", "n_micro_batches"),  # keys of an optimiser's state
    *("eps", "eps_root"),  # settings of update rules
    *("log_every_n_steps", "optimizer.step", "scaler.unscale_"),  # of the loops of users
    "DistributedDataParallel", "no_sync", "AdamW",
}  # fmt: skip
"""Names that are no reference."""


class Page(HTMLParser):
    """Its anchors, its links, the names set as code in its text that are no links, and the parameters it lists."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.code, self.parameters = set(), [], set(), set()
        self.inside = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors.add(attrs.get("id"))
        if tag == "a" and "href" in attrs:
            self.links.append(attrs["href"])
        if tag in ("a", "code", "strong", "pre") or (tag == "span" and self.inside[-1:] != ["pre"]):
            self.inside.append("param" if "param" in (attrs.get("class") or "").split() else tag)

    def handle_endtag(self, tag):
        if self.inside and (tag == self.inside[-1] or (tag == "span" and self.inside[-1] == "param")):
            self.inside.pop()

    def handle_data(self, text):
        if self.inside[-1:] == ["code"] and "pre" not in self.inside:
            self.code.add(text)
        elif "param" in self.inside or self.inside[-1:] == ["strong"]:
            self.parameters |= set(re.findall(r"\w+", text))


def exists(name):
    """Whether somebody else's package has this name."""
    module, _, rest = name.partition(".")
    if module not in ("torch", "numpy", "math"):
        return False
    thing = importlib.import_module(module)
    try:
        for part in rest.split("."):
            thing = getattr(thing, part)
    except AttributeError:
        return False
    return True


def broken(pages):
    """(page, link or name) of every link that leads nowhere and every name that should have been one."""
    found = []
    for path, page in pages.items():
        for link in page.links:
            file, _, anchor = link.partition("#")
            if "://" not in link:
                target = pages.get((path.parent / file).resolve() if file else path)
                if target is None or (anchor and unquote(anchor) not in target.anchors):
                    found.append((path.name, link))
        for name in page.code - page.parameters - WORDS:
            if NAME.fullmatch(name) and not exists(name):
                found.append((path.name, name))
    return sorted(found)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api").resolve()
    make_api.main(["--out", str(folder)])
    return {path: Page(path.read_text()) for path in folder.rglob("*.html")}


def test_every_reference_leads_somewhere(pages):
    assert sum(len(page.links) for page in pages.values()) > 500
    assert broken(pages) == []


def test_what_users_import_has_an_entry(pages):
    by_name = {path.name: page for path, page in pages.items()}
    for package in ("advice", "expansion", "noise_scale", "optimizers"):
        offered = importlib.import_module(f"adam_minibatch_noise.{package}").__all__
        assert set(offered) <= by_name[f"{package}.html"].anchors
    assert "c_total" in by_name["theory.html"].anchors
    assert {"huggingface.html", "lightning.html", "errors.html", "index.html"} <= set(by_name)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ('<p><code>left_over</code></p>', [("p.html", "left_over")]),
        ('<p><a href="#x">x</a></p>', [("p.html", "#x")]),
        ('<p><a href="q.html">x</a></p>', [("p.html", "q.html")]),
        ('<p id="x"><a href="#x">x</a> <code>torch.optim.Adam</code> <code>x = 1</code></p>', []),
        ('<p><strong>lr</strong>: <code>lr</code>, <code>torch.Adam</code></p>', [("p.html", "torch.Adam")]),
    ],
)  # fmt: skip
def test_a_broken_reference_is_seen(tmp_path, text, seen):
    assert broken({(tmp_path / "p.html").resolve(): Page(text)}) == seen
