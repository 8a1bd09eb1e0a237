"""Captions of the report are those of the article, in another markup."""

import pytest
from docutils.core import publish_parts

from adam_minibatch_noise.errors import InputError
from common import captions

STRICT = {"halt_level": 2, "report_level": 2}


@pytest.mark.parametrize("file", captions.titles(captions.read()))
def test_every_caption_is_valid_and_without_the_article_s_markup(file):
    html = publish_parts(captions.captions(captions.read())[file], writer="html", settings_overrides=STRICT)[
        "body"
    ]
    assert not set('$#@"\\`') & set(html.replace('<p class="', ""))
    assert html.count("<p>") == 1


def test_formulas_become_letters_with_subscripts():
    text = (
        r'$bb(E)["Corr"]$ in $kappa partial_j norm(nabla L)_1 \/ |nabla_j L|$, $C_"total"$ and $beta_(1 2)$.'
    )
    html = publish_parts(captions.to_rst(text), writer="html", settings_overrides=STRICT)["body"].strip()
    assert html == (
        "<p>E[Corr] in κ ∂<sub>j</sub> ‖∇ L‖<sub>1</sub> / |∇<sub>j</sub> L|, "
        "C<sub>total</sub> and β<sub>1 2</sub>.</p>"
    )


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("The $beta_2", "does not end"),
        ("The $sigma_2$", "'sigma' is not understood"),
        ("Of @ctotal", "'@' outside a formula"),
        ("An *important* figure", r"'\*' outside a formula"),
        ("$#n$", "'#' is not understood"),
    ],
)
def test_rejects_markup_that_the_report_could_not_show(caption, words):
    with pytest.raises(InputError, match=words):
        captions.to_rst(caption)


def test_what_a_file_adds_follows_the_caption():
    figures = {
        "plot": {
            "title": "T",
            "caption": "Words.",
            "files": {"here_plot": "Runs of today.", "old_plot": "Recorded runs."},
        }
    }
    assert captions.captions(figures) == {
        "here_plot": "Words. Runs of today.",
        "old_plot": "Words. Recorded runs.",
    }
    assert captions.titles(figures) == {"here_plot": "T, here", "old_plot": "T, recorded"}


def test_no_two_figures_of_the_report_have_the_same_title():
    titles = captions.titles(captions.read())
    assert len(set(titles.values())) == len(titles)


def test_files_of_the_article_are_found_in_its_text(tmp_path):
    source = tmp_path / "a.typ"
    source.write_text(
        '#fig("plot_a", note: [x]) <a>\n#let n = json(results + "/analysis/n.json")\nresults + "/analysis/" + f\n'
    )
    assert captions.files_of_article(str(source)) == ["analysis/plot_a.svg", "analysis/n.json"]


def test_a_figure_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "figures.yaml"
    path.write_text(
        "plot_a: {title: T, caption: One.}\nplot_b: {title: T, caption: Two.}\nplot_a: {title: U, caption: Three.}\n"
    )
    with pytest.raises(InputError, match="plot_a stands twice"):
        captions.read(str(path))
