"""What the report opens on: the answer in five sentences, from the numbers of the results, and the main figures."""

import base64
import json
import textwrap
from pathlib import Path
from typing import Any

MAIN_FIGURES = (
    "plot_c_total",
    "plot_expectation",
    "plot_overfitting/bests",
    "plot_overfitting/text",
    "plot_invariance",
    "plot_feature_noise/published_remedies",
)
"""Names of the files of the figures of the article's main part, in their order."""
LINE = 8000
"""Characters; docutils takes lines of 10,000."""
MAIN_VARIANTS = ("digits", "digits-wrong-30", "words", "characters", "regression", "cnn", "cnn-wrong-20")
"""Kinds of data of the study of small networks that the article compares."""


def answer(results: str) -> list[str]:
    """Return the answer in five sentences.

    Parameters
    ----------
    results : str
        Folder of results, complete.

    Returns
    -------
    list of str
    """

    def read(name: str) -> Any:
        return json.loads(Path(results, "analysis", f"{name}.json").read_text(encoding="utf-8"))

    numbers, verdicts = read("article_numbers"), read("overfitting")
    few, lemmas = numbers["expectation"]["few_batches"], numbers["certify"]
    invariance = read("plot_invariance")
    table = read("feature_noise_verdicts")["published_size"]["replacement"]["cells"]
    large = [cell for cell in table if cell["batch"] == "large"]
    without, drawn_again = (
        max(cell["test_error"] for cell in large if cell["replacement"] is again) for again in (False, True)
    )
    return [
        f"The theory is right: {lemmas['n_published_proved']} of its {lemmas['n_published']} published lemmas are "
        "proved here in exact arithmetic.",
        f"Its limit of many steps is not always near: with {few['n_batches']:g} batches an epoch and beta2 = "
        f"{few['beta2']:g} it overstates the effect of noise {few['predicted'] / few['exact']:.2g}-fold, and the exact "
        "expectation meets the measurement.",
        _evidence(verdicts["records"] or verdicts["here"]) + _language(verdicts.get("text", {})),
        f"Trainings by batch-size invariant Adam at different batch sizes coincide as the learning rate goes to 0, in "
        f"{invariance['n_accepted']} of {invariance['n_curves']} cases; the square-root rule leaves them up to "
        f"{100 * max(case['floor_max'] for case in invariance['cases']):.2g} % of their path apart.",
        f"Large batches do fit feature noise (test error up to {without:.2g}), but with batches drawn with replacement "
        f"the error is {drawn_again:.2g} or less.",
    ]


def _evidence(study: dict[str, list[dict[str, Any]]]) -> str:
    """Say what the study of small networks found on the best beta2."""
    slopes = [row for row in study["slopes"] if row["curve"] == "beta2" and row["variant"] in MAIN_VARIANTS]

    def count(verdict: str, tuned: bool) -> int:
        found = (row for row in slopes if row["verdict"] == verdict and (row["lr"] == "tuned") == tuned)
        return len({row["variant"] for row in found})

    def said(tuned: bool) -> str:
        return f"falls with the batch size on {count('holds', tuned)} and rises on {count('opposite', tuned)}"

    gains = [
        row
        for row in study["gains"]
        if (row["curve"], row["metric"], row["baseline"], row["verdict"])
        == ("beta2", "test_loss", 0.999, "holds")
        and row["variant"] in MAIN_VARIANTS
        and row["gain"] >= 1
    ]
    kinds = len({row["variant"] for row in slopes})
    bests = {
        (row["variant"], row["batch_size"]): row["best"]
        for row in study["bests"]
        if (row["curve"], row["lr"]) == ("beta2", "tuned") and row["best"] is not None
    }
    sizes = [row["batch_size"] for row in gains if bests.get((row["variant"], row["batch_size"]), 1) < 0.999]
    most = (
        f"a memory shorter than that of 0.999 gains more than 1 % only in batches of at most {max(sizes)} samples"
        if sizes
        else "no memory shorter than that of 0.999 gains more than 1 %"
    )
    return (
        f"In small networks trained past their best point the best beta2 at a fixed learning rate {said(False)} of "
        f"{kinds} kinds of data, with the learning rate tuned it {said(True)}, and {most}."
    )


def _language(text: dict[str, list[dict[str, Any]]]) -> str:
    """Say where the claim holds in the Transformer-XL, after a blank; nothing where no runs are recorded."""
    verdicts = {row["lr"]: row["verdict"] for row in text.get("slopes", []) if row["curve"] == "beta2"}
    if "tuned" not in verdicts:
        return ""
    words = {"holds": "falls", "opposite": "rises", "open": "shows no clear trend"}
    fixed = ", ".join(
        f"{words[verdict]} at learning rate {lr}" for lr, verdict in verdicts.items() if lr != "tuned"
    )
    return f" In a small Transformer-XL it {fixed}, and {words[verdicts['tuned']]} when that is tuned."


def opening(results: str) -> str:
    """Return the opening of the report in reStructuredText: answer and main figures; nothing while they are not there.

    Parameters
    ----------
    results : str
        Folder of results.
    """
    from common import captions

    figures = [(name, Path(results, "analysis", f"{name}.svg")) for name in MAIN_FIGURES]
    if not all(path.is_file() for _, path in figures):
        return ""
    about = captions.read()
    said, titles = captions.captions(about), captions.titles(about)
    parts = ["**What we find**", *(f"{i}. {text}" for i, text in enumerate(answer(results), start=1))]
    for name, path in figures:
        picture = base64.b64encode(path.read_bytes()).decode()
        lines = textwrap.wrap(f"data:image/svg+xml;base64,{picture}", LINE)
        parts += [
            ".. image:: " + "\n   ".join(lines) + f"\n   :width: 100%\n   :alt: {titles[name]}",
            said[name],
        ]
    return "\n\n".join(parts)
