"""Tables as the studies write them, and the command lines of the programs that read them, for tests that spoil them."""

import shutil
from pathlib import Path

import pandas as pd

from tests import (
    sweep_runs,
    test_analysis_plot_best_beta2,
    test_analysis_plot_closeness,
    test_analysis_plot_feature_noise,
    test_analysis_plot_image_sweep,
    test_analysis_plot_noise_scale,
)
from tests.malformed import attempt, main_of
from tests.test_architecture import ROOT

MODEL = (
    "--n-layer 1 --n-head 1 --d-model 8 --d-head 4 --d-inner 8 --tgt-len 8 --batch-size 8 --max-train-windows 32"
    " --n-epochs 1 --no-progress"
)


def study(program, *flags):
    assert attempt(main_of(program), ["--format", "csv", *" ".join(flags).split()])[0] == 0


def expectation():
    flags = "--n-samples 6 --n-params 2 --method enumerate --noise 0.05 --beta1 0.5"
    study("sim.expectation", flags, "--batch-size 1 2 --beta2 0.5 0.9 --out e.csv")
    return ["--tables", "e.csv", "--summary", "summary.csv", "--out", "f.svg"]


def sweep_rows():
    runs = {0.9: [6, 6.5], 0.99: [5.5, 5.2], 0.999: [5, None]}
    sweep_runs.write(
        "t.csv", sweep_runs.curve(runs) + sweep_runs.curve({0.9: [4, 4], 0.99: [5, 6]}, batch_size=64)
    )
    return [
        "--tables",
        "t.csv",
        "--lr",
        "0.001",
        "--batch-size",
        "8",
        "64",
        "256",
        "--beta2",
        "0.9",
        "0.99",
        "0.999",
    ]


def best():
    assert attempt(main_of("analysis.best_betas"), [*sweep_rows(), "--out", "best.csv"])[0] == 0
    test_analysis_plot_best_beta2.snapshots(Path("n.csv"))
    return ["--best", "best.csv", "--noise-scale", "n.csv", "--summary", "s.json", "--out", "f.svg"]


def noise_scale():
    pd.DataFrame(test_analysis_plot_noise_scale.ROWS).to_csv("n.csv", index=False)
    return ["--tables", "n.csv", "--out", "f.svg"]


def closeness():
    test_analysis_plot_closeness.write_table("c.csv")
    return ["--tables", "c.csv", "--out", "f.svg"]


def terms():
    flags = "--n-samples 6 --batch-size 2 --n-params 2 --beta1 0.8 --beta2 0.95"
    study("sim.terms", flags, "--method enumerate --rho 0.1 0.01 --out a.csv")
    study("sim.terms", flags, "--study lines --rho 0.01 --out l.csv")  # for the numbers of the article alone
    return ["--tables", "a.csv", "--summary", "s.csv", "--out", "f.svg"]


def turning():
    flags = (
        "--n-samples 1000 --batch-sizes 64 300 512 --noise-scales 40 80 --n-epochs 1 3 --grid 0.8 0.9 0.99"
    )
    study("sim.turning", flags, "--out m.csv --turning-out t.csv")
    return [
        "--map",
        "m.csv",
        "--turning",
        "t.csv",
        "--noise-scale",
        "40",
        "--n-epochs",
        "1",
        "3",
        "--out",
        "f.svg",
    ]


def invariance(*more):
    flags = "--cases least-squares-quiet --n-decades 1 --n-lr 3 --kappas 2 --lrs 1e-5 1e-3 --n-seeds 1 --n-epochs 1"
    study("sim.invariance", flags, "--problems least-squares --out s.csv --spread-out p.csv")
    return ["--slopes", "s.csv", "--spread", "p.csv", "--summary", "s.json", "--out", "f.svg"]


def generalization(figure):
    tables = test_analysis_plot_feature_noise.write_tables(Path())
    return ["--figure", figure, "--tables", *tables, "--out", "f.svg"]


def verdicts():
    return ["--tables", *test_analysis_plot_feature_noise.write_tables(Path()), "--out", "v.json"]


def image_sweep():
    written = test_analysis_plot_image_sweep.written.__wrapped__(Path())
    return [*written, "--numbers", "v.json", "--out", "f.svg"]


def article_numbers():
    """Tables of every study; those of the records are those of this run again."""
    assert attempt(main_of("analysis.plot_expectation"), expectation())[0] == 0
    drawn, snapshots = best(), pd.read_csv("n.csv")
    rows = pd.DataFrame(test_analysis_plot_noise_scale.ROWS[:1] * len(snapshots))
    rows.assign(**snapshots).to_csv("n.csv", index=False)
    assert attempt(main_of("analysis.plot_best_beta2"), drawn)[0] == 0
    closeness(), terms(), turning()
    assert attempt(main_of("analysis.certify"), ["--format", "csv", "--out", "certify.csv"])[0] == 0
    assert attempt(main_of("train.sweep"), [*MODEL.split(), "--out", "r.csv"])[0] == 0
    for name in ("best.csv", "n.csv", "s.json"):
        shutil.copy(name, f"recorded_{name}")
    flags = "--expectation summary.csv --best best.csv --noise-scale n.csv --critical s.json"
    flags += " --recorded recorded_best.csv --recorded-noise-scale recorded_n.csv --recorded-critical recorded_s.json"
    flags += " --certify certify.csv --closeness c.csv --map m.csv --turning t.csv --terms a.csv l.csv --runs r.json"
    return [*flags.split(), "--out", "numbers.json"]


def records_index():
    shutil.copytree(ROOT / "config", "config", dirs_exist_ok=True)
    from analysis.records_index import BEGIN, END

    Path("folder").mkdir()
    rows = sweep_runs.curve({0.9: [6, None], 0.99: [5, 5.2]}, batch_size=128, max_train_windows=0)
    sweep_runs.write("folder/a.csv", rows[:2])
    sweep_runs.write("folder/b.csv", rows[2:])
    Path("README.md").write_text(f"a\n{BEGIN}{END}b\n")
    return ["--write", "--folder", "folder", "--readme", "README.md"]


READERS = {
    "analysis.plot_expectation": expectation,
    "analysis.plot_sweep": lambda: [*sweep_rows(), "--summary", "s.csv", "--out", "f.svg"],
    "analysis.best_betas": lambda: [*sweep_rows(), "--out", "best.csv"],
    "analysis.plot_best_beta2": best,
    "analysis.plot_noise_scale": noise_scale,
    "analysis.plot_closeness": closeness,
    "analysis.plot_terms": terms,
    "analysis.plot_turning": turning,
    "analysis.plot_invariance": invariance,
    "analysis.feature_noise_verdicts": verdicts,
    "analysis.plot_image_sweep": image_sweep,
    "analysis.article_numbers": article_numbers,
    "analysis.records_index": records_index,
    **{
        f"analysis.plot_feature_noise {f}": lambda f=f: generalization(f)
        for f in ("batch", "decay", "alignments", "remedies", "steps", "rescue")
    },
}
"""What writes the tables that a program reads into this folder and returns its command line."""


def inputs(argv):
    """The tables that a command line names or finds in its folder, none of them behind a flag of a result."""
    names, flag = [], ""
    for word in argv:
        flag, word = ([*word.split("="), ""])[:2] if word.startswith("--") else (flag, word)
        if word.endswith((".csv", ".json", ".md")) and flag not in ("--out", "--summary", "--numbers"):
            names.append(word)
        if flag == "--folder" and word:
            names += map(str, Path(word).glob("*.csv"))
    return names
