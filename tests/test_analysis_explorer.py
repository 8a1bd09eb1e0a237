"""The page to explore: its numbers against the formulas, and its controls in a browser without a network."""

import csv
import functools
import json
import math

import pytest

from adam_minibatch_noise.expansion import exact_c_total
from adam_minibatch_noise.theory import c_total, noise_to_signal
from analysis import explorer
from analysis.reductions import explorer as reductions
from analysis.reductions.explorer import BETA1, BETA2, exact_parts, limit_parts, measured_bests, studied_bests
from tests import browser

ROWS = [
    {"batch_size": 64, "best_beta": 0.999, "beta_low": 0.99, "beta_high": 0.9995},
    {"batch_size": 512, "best_beta": 0.98, "beta_low": "", "beta_high": ""},
    {"batch_size": 1024, "best_beta": "", "beta_low": "", "beta_high": ""},
]


def test_exact_parts_give_c_total_at_any_noise():
    rows = exact_parts((0.8, 0.95), (0.5, 0.9, 0.999), (1, 2, 16), (1, 3))
    assert len(rows) == 2 * 3 * 3 * 2
    for row in rows:
        betas, lam = (row["beta1"], row["beta2"]), 0.7 if row["n_batches"] > 1 else 0.0
        expected = exact_c_total(*betas, lam, row["n_batches"], row["n_epochs"])
        assert row["forward"] + row["noise"] * lam == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_limit_parts_give_c_total_at_any_noise():
    rows = limit_parts()
    assert len(rows) == len(BETA1) * len(BETA2)
    for row in rows:
        expected = float(c_total(row["beta1"], row["beta2"], 0.7))
        assert row["forward"] + row["noise"] * 0.7 == pytest.approx(expected, rel=1e-4, abs=1e-2)


def test_measured_bests_leave_out_what_has_none():
    import pandas as pd

    table = pd.DataFrame(ROWS).replace("", math.nan).astype(float)
    assert measured_bests(table, "a study") == [
        {
            "batch_size": 64,
            "best": 0.999,
            "low": 0.99,
            "high": 0.9995,
            "source": "a study",
            "n_samples": None,
        },
        {"batch_size": 512, "best": 0.98, "low": 0.98, "high": 0.98, "source": "a study", "n_samples": None},
    ]


STUDY = {
    "variants": [{"variant": "digits", "title": "digits", "n_samples": 1024}],
    "bests": [
        {"variant": "digits", "curve": curve, "lr": lr, "batch_size": size, "best": best, "low": low, "high": high}
        for curve, lr, size, best, low, high in (
            ("beta2", "tuned", 4, 0.99, 0.9, 0.999),
            ("beta2", "tuned", 16, None, None, None),
            ("beta2", 0.001, 4, 0.5, 0.5, 0.5),
            ("beta1", "tuned", 4, 0.5, 0.5, 0.5),
        )
    ],
}  # fmt: skip


def test_bests_of_the_study_are_those_at_tuned_learning_rates():
    source = {"source": "digits, learning rate tuned", "n_samples": 1024}
    assert studied_bests(STUDY) == [{"batch_size": 4, "best": 0.99, "low": 0.9, "high": 0.999} | source]


@pytest.mark.parametrize("value", ["{", "[1]", '{"records": {"bests": [], "variants": 3}}', '{"here": [3]}'])
def test_verdicts_that_cannot_be_used_are_refused(tmp_path, fails, value):
    pytest.importorskip("vl_convert")
    (tmp_path / "study.json").write_text(value)
    fails(explorer.main, "--study", tmp_path / "study.json", "--out", tmp_path / "explorer.html")
    assert not (tmp_path / "explorer.html").exists()


@pytest.fixture(scope="module", autouse=True)
def computed_once():
    """The numbers of a page do not depend on what was measured: those of every page of this file."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("exact_parts", "limit_parts"):
            patch.setattr(reductions, name, functools.cache(getattr(reductions, name)))
        yield


# --------------------------------------------------------------------------------------- in a browser
@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    folder = tmp_path_factory.mktemp("explorer")
    with open(folder / "best.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ROWS[0])
        writer.writeheader()
        writer.writerows(ROWS)
    (folder / "study.json").write_text(json.dumps({"here": {}, "records": STUDY}))
    files = {"--best": "best.csv", "--study": "study.json", "--out": "explorer.html"}
    explorer.main([word for flag, name in files.items() for word in (flag, str(folder / name))])
    return folder / "explorer.html"


@pytest.fixture(scope="module")
def page(page_file, tmp_path_factory):
    if not browser.PROGRAM or not browser.can_cut():
        pytest.skip("needs chromium, and network namespaces (unshare --map-root-user --net)")
    with browser.Page(page_file.as_uri(), tmp_path_factory.mktemp("browser")) as page:
        page.wait_for("document.body.dataset.drawn")
        yield page


def chosen(page):
    return json.loads(page.run("document.body.dataset.drawn"))


def move(page, name, key="ArrowRight"):
    """Press a key on a slider, as a person without a mouse does; wait until the charts are drawn again."""
    before = page.run("document.body.dataset.drawn")
    page.run(f"document.getElementById('{name}').focus()")
    code = {"ArrowRight": 39, "ArrowLeft": 37, "Home": 36, "End": 35}[key]
    for kind in ("rawKeyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)
    page.wait_for(f"document.body.dataset.drawn != {json.dumps(before)}")


def shapes(page, chart):
    """Every path and line of a chart, as drawn."""
    drawn = "['d', 'x2', 'y2', 'transform', 'fill'].map(name => path.getAttribute(name))"
    return page.run(
        f"[...document.querySelectorAll('#{chart} svg :is(path, line)')].map(path => {drawn}.join()).sort().join()"
    )


def rows_with(page, condition):
    """Rows of the first data set of the curve whose first row meets a condition in JavaScript."""
    return page.run(
        "(() => { const view = views[0]; for (const name of Object.keys(view.getState({data: () => true}).data)) {"
        f" const rows = view.data(name), first = rows[0]; if (first && {condition})"
        " return rows.map(row => ({...row})); } })()"
    )


def drawn(page, kind):
    """Points of a curve, beta2 to C_total, as the chart holds them."""
    rows = rows_with(page, f"first.kind == {json.dumps(kind)} && 'memory' in first && !('most' in first)")
    return {row["beta2"]: row["c_total"] for row in rows}


def recommended(page):
    """Ends of the bar that marks the best beta2 over the interval of the noise scale."""
    (row,) = rows_with(page, "rows.length == 1 && 'low' in first && 'high' in first")
    return [1 - 1 / row[end] for end in ("low", "high")]


CONTROLS = ["n_samples", "batch_size", "noise_scale", "spread", "beta1", "n_epochs"]


@pytest.mark.slow
def test_every_control_has_a_label_with_its_unit_and_a_value_for_readers(page):
    for name in CONTROLS:
        label = page.run(f"document.querySelector('label[for={name}] span').textContent")
        shown = page.run(f"document.querySelector('label[for={name}] output').textContent")
        spoken = page.run(f"document.getElementById('{name}').getAttribute('aria-valuetext')")
        assert len(label) >= 5
        assert spoken == shown
        assert spoken.endswith({"n_epochs": "epochs", "spread": "", "beta1": ""}.get(name, "samples"))
    assert page.run("document.querySelectorAll('#curve svg[aria-label], #curve [aria-label]').length") > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("n_samples", "curve"),
        ("batch_size", "curve"),
        ("noise_scale", "curve"),
        ("beta1", "curve"),
        ("n_epochs", "curve"),
        ("n_samples", "map"),
        ("batch_size", "map"),
        ("noise_scale", "map"),
        ("beta1", "map"),
        ("n_epochs", "map"),
    ],
)
def test_every_slider_changes_the_charts(page, name, changes):
    before, was = shapes(page, changes), chosen(page)[name]
    move(page, name, "ArrowLeft")
    assert chosen(page)[name] < was
    assert shapes(page, changes) != before
    move(page, name)
    assert chosen(page)[name] == was
    assert shapes(page, changes) == before


@pytest.mark.slow
def test_the_bar_is_the_range_of_the_best_beta2_over_the_interval_of_the_noise_scale(page):
    """Near the turn a wide interval holds several; a single number holds one."""

    def best(noise_scale):
        lam = float(noise_to_signal(s["n_samples"], s["batch_size"], noise_scale))
        return max(BETA2, key=lambda r: exact_c_total(s["beta1"], r, lam, s["n_batches"], s["n_epochs"]))

    s, was = chosen(page), chosen(page)["spread"]
    move(page, "spread", "Home")
    assert recommended(page) == pytest.approx([best(s["noise_scale"])] * 2)
    move(page, "spread", "End")
    wide = chosen(page)["spread"]
    both = [best(s["noise_scale"] / wide), best(s["noise_scale"] * wide)]
    assert recommended(page) == pytest.approx(both)
    assert both[0] < both[1]
    while chosen(page)["spread"] > was:
        move(page, "spread", "ArrowLeft")


@pytest.mark.slow
def test_curves_are_those_of_the_formulas(page):
    s = chosen(page)
    lam = float(noise_to_signal(s["n_samples"], s["batch_size"], s["noise_scale"]))
    exact, limit = drawn(page, "exact, end of these epochs"), drawn(page, "limit of many steps")
    assert list(exact) == list(limit) == list(BETA2)
    for beta2 in BETA2[::6]:
        expected = exact_c_total(s["beta1"], beta2, lam, s["n_batches"], s["n_epochs"])
        assert exact[beta2] == pytest.approx(expected, rel=1e-3, abs=1e-2)
        assert limit[beta2] == pytest.approx(float(c_total(s["beta1"], beta2, lam)), rel=1e-3, abs=1e-2)
    assert f"lambda = {lam:.3g}" in page.run("document.getElementById('where').textContent")


@pytest.mark.slow
def test_measured_bests_are_in_the_map_and_bring_their_number_of_samples(page):
    dots = "document.querySelectorAll('#map [aria-roledescription=point]').length"
    assert (
        page.run("document.querySelector('label[for=source]').textContent")
        == "measured bests shown in the map"
    )
    assert page.run(dots) == 2
    before = page.run("document.body.dataset.drawn")
    choose = "select => { select.selectedIndex = 1; select.dispatchEvent(new Event('change')); }"
    page.run(f"({choose})(document.getElementById('source'))")
    page.wait_for(f"document.body.dataset.drawn != {json.dumps(before)}")
    assert page.run(dots) == 1
    assert chosen(page)["n_samples"] == 1024
    assert chosen(page)["source"] == "digits, learning rate tuned"


@pytest.mark.slow
def test_a_narrow_screen_scrolls_down_only(page):
    page.call("Emulation.setDeviceMetricsOverride", width=360, height=700, deviceScaleFactor=1, mobile=True)
    try:
        page.wait_for("document.querySelector('#map svg').getBoundingClientRect().width <= 360")
        assert page.run("document.documentElement.scrollWidth") <= 360
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")


@pytest.mark.slow
def test_there_was_no_error_and_nothing_asked_a_network(page):
    assert page.faults_in_the_end() == []


def test_without_measured_bests_it_says_so(tmp_path):
    pytest.importorskip("vl_convert")
    explorer.main(["--out", str(tmp_path / "explorer.html")])
    assert "No best values were measured." in (tmp_path / "explorer.html").read_text()
