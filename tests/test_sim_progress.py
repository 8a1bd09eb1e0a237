"""Programs that may run for more than half a minute show how much is done and left: their bar ends at its total."""

import io
import shlex

import pytest
import tqdm

from sim.monte_carlo import expectation_check, orders
from tests.malformed import main_of
from tests.test_architecture import PROGRAMS

SIZE = "--n-samples 6 --n-params 2 --batch-size 2"
CNN = "--n-samples 8 --patch-length 17 --n-noise 2 --n-filters 2 --n-test 10 --n-epochs 3"
RUNS = {
    "sim.expectation": [
        f"{SIZE} --n-permutations 600",
        "--n-samples 8 --n-params 2 --batch-size 1 --method enumerate",
    ],
    "sim.terms": [
        f"{SIZE} --rho 0.01 0.02 --n-permutations 150",
        f"{SIZE} --method enumerate --n-epochs 2 --rho 0.01",
        f"{SIZE} --optimizer sgd-momentum --method enumerate",
        f"{SIZE} --study lines --rho 0.001 0.002",
        f"{SIZE} --study moments",
    ],
    "sim.closeness": [
        "--problem quadratics --beta1 0.5 --beta2 0.6 --eps-root 0.01 --lr-max 5e-4 --n-decades 1 --n-lr 3 "
        "--horizon 0.02"
    ],
    "sim.turning": ["--n-samples 300 --batch-sizes 32 300 --noise-scales 20 30 --n-epochs 1 3"],
    "sim.invariance": [
        "--cases least-squares-quiet --n-decades 1 --n-lr 3 --kappas 2 4 --lrs 1e-5 1e-3 --n-seeds 2 --n-epochs 1"
    ],
    "sim.feature_noise_run": [f"{CNN} --n-seeds 2"],
    "sim.feature_noise_studies": [f"{CNN} --study table --n-seeds 2"],
    "sim.overfitting": ["--n-samples 64 --max-epochs 5 --batch-size 16 0 --lr 0.01"],
    "sim.overfitting_noise": ["--variant regression --n-seeds 1 --batch-sizes 64 --out {out}"],
    "sim.overfitting_study": [
        "--variant regression --n-seeds 1 --batch-sizes 128 --curves diagonal --out {out}"
    ],
}
AT_ONCE = {"sim.constants", "sim.exact", "sim.optimizer_bias"}
"""Programs that end within half a minute at the largest size that they take."""


class Bar(tqdm.tqdm):
    """Remembers every bar, and that it was to be shown."""

    made: list["Bar"] = []  # noqa: RUF012

    def __init__(self, *args, **kwargs):
        assert kwargs.pop("disable") is None  # shown on a terminal
        super().__init__(*args, **kwargs, disable=False, file=io.StringIO())
        self.reports = 0
        Bar.made.append(self)

    def update(self, n=1):
        self.reports += 1
        return super().update(n)


def test_every_program_shows_progress_or_is_quick():
    assert set(RUNS) | AT_ONCE == {program for program in PROGRAMS if program.startswith("sim.")}


@pytest.mark.parametrize(("program", "flags"), [(p, flags) for p, every in RUNS.items() for flags in every])
def test_bar_ends_at_its_total(monkeypatch, capsys, tmp_path, program, flags):
    monkeypatch.setattr(tqdm, "tqdm", Bar)
    monkeypatch.setattr(Bar, "made", [])
    monkeypatch.setattr(orders, "CHUNK", 400)  # so that the small problems of this test take several
    monkeypatch.setattr(expectation_check, "CHUNK", 512)
    assert main_of(program)(shlex.split(flags.format(out=tmp_path / "table.csv"))) in (None, 0)
    (bar,) = Bar.made
    assert bar.n == bar.total > 0
    assert bar.reports > 1 or "moments" in flags
