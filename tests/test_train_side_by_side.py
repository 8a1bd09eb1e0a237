import csv
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from train import sweep
from train.language import loop, side_by_side, stacked
from train.language.corpora import Corpus
from train.language.settings import Settings
from train.language.trainer import ALIGNMENT, Trainer
from train.runtime import checkpoints

CPU = torch.device("cpu")
SMALL = Settings(
    n_layer=1, n_head=2, d_model=8, d_head=4, d_inner=12, tgt_len=8, batch_size=8, n_epochs=8, lr=4e-2, eps=1e-6,
    evaluations_per_epoch=2, patience=2,
)  # fmt: skip
RUNS = [replace(SMALL, seed=seed, beta2=beta2) for seed in (0, 1) for beta2 in (0.3, 0.999)]
TIMES = ("seconds", "evaluation_seconds", "tokens_per_second")


@pytest.fixture(scope="module")
def corpus():
    # a text with structure that can be learnt, and then overfitted
    rng = np.random.default_rng(3)
    text = np.cumsum(rng.choice([0, 1, 2, 5], 901, p=[0.1, 0.6, 0.2, 0.1])) % 23
    return Corpus("toy", tuple("abcdefghijklmnopqrstuvw"), text[:481], text[481:701], text[701:], "toy")


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def one_by_one(corpus, runs, device=CPU):
    trainer = Trainer(runs[0], corpus, device)
    return [loop.train(trainer, run) for run in runs]


def together(corpus, runs, folder, n_stacked=3, device=CPU, **others):
    trainer = Trainer(runs[0], corpus, device)
    made = side_by_side.train(trainer, runs, n_stacked, folder / "state.pt", **others)
    found = {run: (rows, outcome) for run, rows, outcome in made}
    assert not list(folder.iterdir())
    return [found[run] for run in runs]


def assert_alike(some, others, rtol):
    for (rows, outcome), (other_rows, other_outcome) in zip(some, others, strict=True):
        assert [row["step"] for row in rows] == [row["step"] for row in other_rows]
        for column in ("train_loss", "valid_loss"):
            wanted = [row[column] for row in other_rows]
            np.testing.assert_allclose([row[column] for row in rows], wanted, rtol=rtol, err_msg=column)
        for name in set(outcome) - set(TIMES):
            same = (
                pytest.approx(other_outcome[name], rel=20 * rtol)
                if "perplexity" in name
                else other_outcome[name]
            )
            assert outcome[name] == same, name


@pytest.mark.parametrize("all_at_once", [False, True], ids=["as on a CPU", "as on a GPU"])
def test_gradients_are_those_of_single_models(all_at_once, corpus, double):
    settings = replace(SMALL, n_layer=2, d_model=16)
    trainer = Trainer(settings, corpus, CPU)
    rows, single, batches = [], [], torch.arange(3 * 16).view(3, 16)[:, ::2]
    for seed in range(3):
        trainer.start(replace(settings, seed=seed))
        rows.append(trainer.values.detach().clone())
        nll, _ = trainer.gradient(batches[seed])
        single.append((nll, trainer.values.grad.clone()))
    models = stacked.StackedModels(trainer.model, ALIGNMENT, replace(settings, micro_batch_size=3))
    models.all_at_once = all_at_once
    models.arrange(rows)
    nll = models.gradient(trainer.inputs[batches], trainer.targets[batches])
    for i, (wanted_nll, grad) in enumerate(single):
        torch.testing.assert_close(nll[i], wanted_nll, rtol=1e-12, atol=0)
        torch.testing.assert_close(models.grads[i], grad, rtol=1e-9, atol=1e-14)
        assert float(grad.norm()) > 0.1


@pytest.mark.parametrize(
    "others",
    [{}, {"weight_decay": 0.1}, {"eps": 0.0, "eps_root": 1e-6}, {"shuffle": False, "micro_batch_size": 3}],
)
def test_runs_are_those_of_the_loop_in_double_precision(others, corpus, tmp_path, double):
    runs = [replace(run, **others) for run in RUNS]
    wanted, found = one_by_one(corpus, runs), together(corpus, runs, tmp_path)
    assert (
        len({outcome["n_steps"] for _, outcome in wanted}) > 2
    )  # runs end by themselves, at different times
    assert {outcome["ended_by"] for _, outcome in wanted} >= {"patience"}
    assert_alike(found, wanted, 1e-9)


def test_runs_are_those_of_the_loop_in_single_precision(corpus, tmp_path):
    """As long as rounding has not been amplified: three epochs."""
    runs = [replace(run, n_epochs=3, patience=0, lr=3e-3) for run in RUNS]
    assert_alike(together(corpus, runs, tmp_path), one_by_one(corpus, runs), 2e-5)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("n_saved", [0, 1, 30, 50])
def test_killed_at_any_moment_goes_on_to_the_same_bytes(n_saved, corpus, tmp_path, monkeypatch):
    """After so many states; 0: when a run has just ended, and the state is the one before."""
    undisturbed = together(corpus, RUNS, tmp_path)
    save, count = checkpoints.save, 0

    def save_and_die(path, state):
        nonlocal count
        save(path, state)
        count += 1
        if count == n_saved:
            raise Killed

    trainer, found = Trainer(RUNS[0], corpus, CPU), {}

    def go_on():
        left = [run for run in RUNS if run not in found]
        for run, rows, outcome in side_by_side.train(trainer, left, 3, tmp_path / "state.pt", 0.0):
            assert run not in found
            found[run] = rows, {name: value for name, value in outcome.items() if name not in TIMES}
            if count and not n_saved:
                raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", save_and_die)
        with pytest.raises(Killed):
            go_on()
    count = 0
    go_on()
    assert not list(tmp_path.iterdir())
    for run, (rows, outcome) in zip(RUNS, undisturbed, strict=True):
        assert found[run] == (rows, {name: value for name, value in outcome.items() if name not in TIMES})


def test_run_that_diverges_leaves_the_others_alone(corpus, tmp_path, double):
    gradient = stacked.StackedModels.gradient

    def poisoned(self, inputs, targets):
        nll = gradient(self, inputs, targets)
        if len(self.grads) == 4:
            self.grads[1] = torch.nan
        return nll

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stacked.StackedModels, "gradient", poisoned)
        found = together(corpus, RUNS, tmp_path, 4)
    assert found[1][1]["status"] == "diverged"
    assert np.isnan(found[1][1]["test_perplexity"])
    undisturbed = together(corpus, RUNS, tmp_path, 4)
    assert_alike(found[2:], undisturbed[2:], 1e-9)


def test_state_of_another_panel_is_refused(corpus, tmp_path):
    state = {"settings": {**asdict(replace(SMALL, lr=0.5)), "corpus_sha256": "toy"}, "runs": []}
    checkpoints.save(tmp_path / "state.pt", state)
    with pytest.raises(Exception, match=r"of another run \(lr is 0.5 there"):
        together(corpus, RUNS, tmp_path)


MODEL = "--n-layer 1 --d-model 8 --d-head 4 --d-inner 8 --tgt-len 8 --max-train-windows 100 --batch-size 8 --lr 0.01"
RUN = "--patience 0 --n-epochs 2 --no-progress --beta2 0.9 0.99 --seed 0 1"
FLAGS = f"{MODEL} {RUN}".split()


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_sweep_writes_the_same_table_in_the_same_order(tmp_path):
    for name, flags in (("one", []), ("many", ["--side-by-side", "3"])):
        assert sweep.main([*FLAGS, *flags, "--out", str(tmp_path / f"{name}.csv")]) == 0
    one, many = (read(tmp_path / f"{name}.csv") for name in ("one", "many"))
    assert len(one) == len(many) == 4
    for row, other in zip(one, many, strict=True):
        for name, value in row.items():
            if name.endswith("perplexity"):
                assert float(other[name]) == pytest.approx(float(value), rel=1e-4)
            else:
                assert other[name] == value, name
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{name}{end}" for name in ("many", "one") for end in (".csv", ".json", "_evaluations.csv")
    ]


def test_out_of_time_writes_what_there_is_and_goes_on_later(tmp_path, capsys):
    out = tmp_path / "panel.csv"
    command = [*FLAGS, "--side-by-side", "2", "--out", str(out)]
    assert sweep.main([*command, "--max-minutes", "1e-9"]) == 0
    assert "0 of 4 runs made" in capsys.readouterr().err
    assert sweep.main([*command[:-2], "--out", str(tmp_path / "other.csv")]) == 0
    assert sweep.main(command) == 0
    assert out.read_bytes() == (tmp_path / "other.csv").read_bytes()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--dropout 0.1", "--dropout is 0.1, allowed with --side-by-side: 0.0"),
        ("--dtype bfloat16", "--dtype is bfloat16, allowed with --side-by-side: float32"),
        ("--mem-len 4 --no-shuffle", "--mem-len is 4, allowed with --side-by-side: 0"),
        ("--noise-interval 2", "--noise-interval is 2, allowed with --side-by-side: 0"),
        ("--compile", "--compile is True, allowed with --side-by-side: False"),
    ],
)
def test_rejects_what_is_trained_one_after_another_only(flags, message, tmp_path, fails):
    command = [*FLAGS, *flags.split(), "--side-by-side", "2", "--out", tmp_path / "panel.csv"]
    assert message in fails(sweep.main, *command)
    assert not list(tmp_path.glob("*.csv"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_side_by_side_on_a_gpu(corpus, tmp_path):
    """Sums over rows are made in no fixed order there: alike to rounding, over three epochs."""
    device = torch.device("cuda")
    runs = [replace(run, n_epochs=3, patience=0, lr=3e-3) for run in RUNS]
    assert_alike(together(corpus, runs, tmp_path, 4, device), one_by_one(corpus, runs, device), 1e-4)
    assert_alike(together(corpus, runs, tmp_path, 4, device), one_by_one(corpus, runs, CPU), 1e-3)
