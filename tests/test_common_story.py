"""The report opens on sentences that follow the numbers of the results, whatever these are."""

import json

import pytest

from common import captions, story


def results_with(folder, slopes, gains):
    """Write what the answer reads: (variant, lr, verdict); gains: (variant, batch size, gain, verdict, best beta2)."""
    rows = [{"curve": "beta2", "variant": v, "lr": lr, "verdict": verdict} for v, lr, verdict in slopes]
    about = {"curve": "beta2", "metric": "test_loss", "baseline": 0.999}
    study = {
        "slopes": [*rows, {"curve": "beta1", "variant": "digits", "lr": "tuned", "verdict": "holds"}],
        "gains": [
            about | {"variant": v, "batch_size": b, "gain": gain, "verdict": verdict}
            for v, b, gain, verdict, _ in gains
        ],
        "bests": [
            {"curve": "beta2", "lr": "tuned", "variant": v, "batch_size": b, "best": best}
            for v, b, _, _, best in gains
        ],
    }
    few = {"n_batches": 64.0, "beta2": 0.99, "predicted": 30.0, "exact": 10.0}
    numbers = {"expectation": {"few_batches": few}, "certify": {"n_published": 14, "n_published_proved": 13}}
    cells = [
        {"batch": batch, "replacement": again, "test_error": error}
        for batch, again, error in (("large", False, 0.7), ("large", True, 0.1), ("small", False, 0.9))
    ]
    files = {
        "overfitting": {"records": {}, "here": study},
        "article_numbers": numbers,
        "plot_invariance": {
            "n_accepted": 2,
            "n_curves": 3,
            "cases": [{"floor_max": 0.2}, {"floor_max": 0.5}],
        },
        "feature_noise_verdicts": {"published_size": {"replacement": {"cells": cells}}},
    }
    (folder / "analysis").mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / "analysis" / f"{name}.json").write_text(json.dumps(content))
    return str(folder)


def test_sentences_follow_the_numbers(tmp_path):
    slopes = [
        ("digits", 0.001, "holds"),
        ("digits", 0.01, "holds"),
        ("words", 0.001, "opposite"),
        ("words", "tuned", "open"),
    ]
    gains = [
        ("digits", 4, 13.0, "holds", 0.9),
        ("digits", 1, 15.0, "holds", 0.9),
        ("words", 64, 0.2, "holds", 0.9),
        ("words", 256, 5.0, "open", 0.9),
        ("words", 16, 5.0, "holds", 0.9997),
    ]
    first, second, third, fourth, fifth = story.answer(results_with(tmp_path, slopes, gains))
    assert "13 of its 14" in first
    assert "64 batches an epoch and beta2 = 0.99 it overstates the effect of noise 3-fold" in second
    assert "at a fixed learning rate falls with the batch size on 1 and rises on 1 of 2 kinds" in third
    assert "tuned it falls with the batch size on 0 and rises on 0" in third
    assert (
        "a memory shorter than that of 0.999 gains more than 1 % only in batches of at most 4 samples"
        in third
    )
    assert "in 2 of 3 cases" in fourth
    assert "up to 50 %" in fourth
    assert "up to 0.7)" in fifth
    assert "the error is 0.1 or less" in fifth
    other = story.answer(
        results_with(tmp_path, [("digits", "tuned", "holds"), ("words", "tuned", "opposite")], [])
    )[2]
    assert "tuned it falls with the batch size on 1 and rises on 1, and no memory shorter" in other


def test_verdicts_on_the_language_model_are_said_where_there_are_any(tmp_path):
    results = results_with(tmp_path, [("digits", "tuned", "open")], [])
    assert "Transformer-XL" not in story.answer(results)[2]
    path = tmp_path / "analysis/overfitting.json"
    rates = {0.001: "holds", 0.006: "opposite", "tuned": "open"}
    slopes = [{"curve": "beta2", "lr": lr, "verdict": verdict} for lr, verdict in rates.items()]
    slopes += [{"curve": "beta1", "lr": "tuned", "verdict": "holds"}]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"text": {"slopes": slopes}}))
    wanted = (
        "it falls at learning rate 0.001, rises at learning rate 0.006, and shows no clear trend when that is"
    )
    assert story.answer(results)[2].endswith(f"{wanted} tuned.")


def test_opening_shows_the_main_figures_once_they_are_there(tmp_path):
    from docutils.core import publish_parts

    results = results_with(tmp_path, [("digits", "tuned", "open")], [])
    assert story.opening(results) == ""
    for name in story.MAIN_FIGURES:
        path = tmp_path / "analysis" / f"{name}.svg"
        path.parent.mkdir(exist_ok=True)
        path.write_text("<svg/>" + " " * 20_000)  # longer than docutils takes in one line
    strict = {"halt_level": 2, "report_level": 2}
    html = publish_parts(story.opening(results), writer="html", settings_overrides=strict)["body"]
    assert html.count("data:image/svg+xml;base64,") == len(story.MAIN_FIGURES)


@pytest.mark.parametrize("name", story.MAIN_FIGURES)
def test_main_figures_are_figures_of_the_article(name):
    assert name in captions.captions(captions.read())
