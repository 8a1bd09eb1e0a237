import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.optimizers import adam
from adam_minibatch_noise.optimizers.adam import Adam
from train.language import loop
from train.language.corpora import Corpus
from train.language.settings import Settings
from train.language.trainer import ALIGNMENT, Trainer, flatten
from train.language.transformer_xl import TransformerXL
from train.runtime.distributed import Ranks

CPU = torch.device("cpu")
TINY = Settings(n_layer=1, d_model=8, d_head=4, d_inner=8, tgt_len=8, batch_size=16, n_epochs=2, lr=1e-2)


@pytest.fixture(scope="module")
def corpus():
    text = np.random.default_rng(3).integers(0, 11, 801)
    return Corpus("toy", tuple("abcdefghijk"), text[:481], text[481:641], text[641:], "of the toy corpus")


def test_flat_vector_is_the_parameters_and_their_gradients():
    torch.manual_seed(0)
    model = TransformerXL(11, n_layer=1, n_head=2, d_model=8, d_head=4, d_inner=8)
    before = {name: param.detach().clone() for name, param in model.named_parameters()}
    flat = flatten(model)
    inputs = torch.randint(0, 11, (2, 5))
    for _ in range(2):  # the second pass adds to the first
        model(inputs, inputs)[0].backward()
    grads = {name: param.grad.clone() for name, param in model.named_parameters()}
    start = 0
    for name, param in model.named_parameters():
        assert torch.equal(param, before[name])
        part = slice(start, start + param.numel())
        assert torch.equal(flat.detach()[part], param.detach().flatten())
        assert torch.equal(flat.grad[part], grads[name].flatten())
        assert grads[name].abs().max() > 0
        start += -(-param.numel() // ALIGNMENT) * ALIGNMENT
        assert not flat.detach()[part.stop : start].any()
        assert not flat.grad[part.stop : start].any()
    assert start == len(flat)
    with torch.no_grad():
        flat.zero_()
    assert not any(param.any() for param in model.parameters())


def test_second_run_of_a_trainer_is_that_of_a_new_one(corpus):
    trainer, other = Trainer(TINY, corpus, CPU), replace(TINY, beta2=0.5, lr=2e-2, seed=4, dropout=0.0)
    first = loop.train(trainer, TINY)[0]
    second = loop.train(trainer, other)[0]
    assert loop.train(Trainer(other, corpus, CPU), other)[0] == second
    assert loop.train(trainer, TINY)[0] == first != second


def test_trainer_refuses_settings_of_another_model(corpus):
    with pytest.raises(InputError, match="d_model is 16, allowed: 8 as in the trainer"):
        Trainer(TINY, corpus, CPU).start(replace(TINY, d_model=16))
    with pytest.raises(InputError, match="batch_size is 8, allowed: 16"):
        Trainer(TINY, corpus, CPU).start(replace(TINY, batch_size=8))


@pytest.mark.parametrize(("eps", "eps_root"), [(1e-8, 0.0), (0.0, 1e-6), (1e-3, 1e-2), (0.0, 0.0)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_formula_to_compile_matches_the_optimiser(eps, eps_root, weight_decay, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **kwargs: function)
    rng = torch.Generator().manual_seed(0)
    start = torch.randn(50, dtype=torch.float64, generator=rng)
    params = [torch.nn.Parameter(start.clone()) for _ in range(2)]
    both = [
        Adam([param], 1e-2, (0.9, 0.99), eps, eps_root, weight_decay, compiled=compiled)
        for param, compiled in zip(params, (False, True), strict=True)
    ]
    for _ in range(30):
        grad = torch.randn(50, dtype=torch.float64, generator=rng)
        grad[:3] = 0  # 0/0 without eps
        for param, optimizer in zip(params, both, strict=True):
            param.grad = grad.clone()
            optimizer.step()
    torch.testing.assert_close(params[0], params[1], rtol=1e-12, atol=1e-13)
    assert not torch.equal(params[0].detach(), start)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's tracer does
def test_betas_and_rates_compile_once(corpus, monkeypatch):
    """Tracing alone decides what is compiled anew, so a backend without code generation shows it."""
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **kwargs: compile_(f, backend="aot_eager", **kwargs))
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    settings = replace(TINY, batch_size=15, eps=1e-6)  # 4 batches of 60 windows
    trainer = Trainer(settings, corpus, CPU, compiled=True)
    rows = loop.train(trainer, settings)[0]
    n_graphs = counters["stats"]["unique_graphs"]
    others = [replace(settings, lr=lr, beta2=beta2) for lr, beta2 in ((3e-3, 0.9), (1e-3, 0.99), (2e-3, 0.5))]
    compiled = [loop.train(trainer, other)[0] for other in others]
    assert counters["stats"]["unique_graphs"] == n_graphs
    assert not counters["graph_break"]
    for each, one in zip([settings, *others], [rows, *compiled], strict=True):
        plain = loop.train(Trainer(each, corpus, CPU), each)[0]
        assert [row["valid_loss"] for row in one] == pytest.approx(
            [row["valid_loss"] for row in plain], rel=1e-5
        )
    torch._dynamo.reset()


PROGRAM = """
import sys, json, torch
from dataclasses import replace
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
from tests.test_train_trainer import (TINY, CPU)
from train.runtime import distributed
from train.language import loop
from train.language.corpora import Corpus
from train.language.trainer import Trainer

text = np.random.default_rng(3).integers(0, 11, 801)
corpus = Corpus("toy", tuple("abcdefghijk"), text[:481], text[481:641], text[641:], "of the toy corpus")
settings = replace(TINY, batch_size=15, micro_batch_size=4)
with distributed.joined("cpu") as (peers, device):
    trainer = Trainer(settings, corpus, device, ranks=peers)
    trainer.start(settings)
    nll, _ = trainer.gradient(torch.arange(20, 35))
    grad, seen, gradient = trainer.values.grad.clone(), [], trainer.gradient
    def watched(windows, memory=None, noise=None):
        seen.append(windows.tolist())
        return gradient(windows, memory, noise)
    trainer.gradient = watched
    rows, outcome = loop.train(trainer, settings, Path(sys.argv[2]) / "state", checkpoint_seconds=0)
    torch.save({"nll": nll, "grad": grad, "rows": rows, "seen": seen, "test": outcome["test_perplexity"],
                "size": peers.size}, f"{sys.argv[2]}/{peers.rank}.pt")
"""


@pytest.mark.faults
@pytest.mark.slow
def test_two_processes_give_the_gradient_and_the_order_of_one(tmp_path):
    root, results = os.getcwd(), {}
    for size in (1, 2):
        folder = tmp_path / str(size)
        folder.mkdir()
        (folder / "program.py").write_text(PROGRAM)
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": root}
        command = [*launcher, str(folder / "program.py"), root, str(folder)]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr[-2000:]
        results[size] = [torch.load(folder / f"{rank}.pt") for rank in range(size)]
    (one,), (left, right) = results[1], results[2]
    assert (one["size"], left["size"], right["size"]) == (1, 2, 2)
    assert torch.equal(left["grad"], right["grad"])
    assert one["grad"].abs().max() > 1e-3
    torch.testing.assert_close(left["grad"], one["grad"], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(left["nll"], one["nll"], rtol=1e-7, atol=0)
    assert one["seen"] == left["seen"] == right["seen"]
    for name in ("train_loss", "valid_loss"):
        assert [row[name] for row in left["rows"]] == pytest.approx(
            [row[name] for row in one["rows"]], rel=1e-5
        )
    assert left["rows"] == right["rows"]
    assert left["test"] == pytest.approx(one["test"], rel=1e-5)


def test_more_processes_than_samples_are_refused(corpus):
    with pytest.raises(InputError, match="the processes are 17, allowed: at most --batch-size 16"):
        Trainer(TINY, corpus, CPU, ranks=Ranks(0, 17))
    with pytest.raises(InputError, match="the processes are 2, allowed: 1 with --mem-len"):
        Trainer(replace(TINY, mem_len=8, shuffle=False), corpus, CPU, ranks=Ranks(0, 2))


def test_coefficients_are_those_of_the_step():
    numbers = adam.coefficients(2, 0.1, 0.9, 0.99, 1e-3, 1e-2, 0.5)
    expected = [0.1, 0.01, 0.1 / 0.19, 0.95, np.sqrt(1 - 0.99**2), 1e-2 * (1 - 0.99**2), 1e-3]
    np.testing.assert_allclose(numbers.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("micro_batch_size", [0, 5])
def test_noise_is_measured_from_a_part_of_the_batch_and_the_whole(corpus, micro_batch_size):
    settings = replace(TINY, batch_size=20, micro_batch_size=micro_batch_size, noise_interval=1)
    trainer = Trainer(settings, corpus, CPU)
    trainer.start(settings)
    noise, windows = trainer.noise_estimator(), torch.arange(7, 27)
    nll, _ = trainer.gradient(windows, None, noise)
    grad = trainer.values.grad.clone()
    plain, _ = trainer.gradient(windows)
    torch.testing.assert_close(trainer.values.grad, grad, rtol=1e-5, atol=1e-8)
    assert float(nll) == pytest.approx(float(plain), rel=1e-7)
    n_small = micro_batch_size or 10
    trainer.gradient(windows[:n_small])
    small_sq_norm = float(trainer.values.grad.square().sum())
    state = noise.state_dict()
    assert (state["small_size"], state["big_size"], state["n_samples"]) == (n_small, 20, 60)
    assert state["squares"][0].tolist() == pytest.approx(
        [small_sq_norm, float(grad.square().sum())], rel=1e-5
    )


def test_noise_scale_is_in_every_row_and_survives_a_restart(corpus, tmp_path, monkeypatch):
    settings = replace(TINY, batch_size=20, noise_interval=2, n_epochs=4, lr=1e-30, patience=0)
    rows, _ = loop.train(Trainer(settings, corpus, CPU), settings)
    assert [row["n_measurements"] for row in rows] == [2, 3, 5, 6]  # of 3, 6, 9, 12 steps
    assert rows[-1]["b_simple_low"] <= rows[-1]["b_simple_estimate"] <= rows[-1]["b_simple_high"]
    save = loop.checkpoints.save

    def save_and_stop(path, state):
        save(path, state)
        if state["run_state"]["step"] == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop.checkpoints, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            loop.train(Trainer(settings, corpus, CPU), settings, tmp_path / "state", 0)
    assert loop.train(Trainer(settings, corpus, CPU), settings, tmp_path / "state")[0] == rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 60}, "allowed with --noise-interval: 2 ... 59"),
        ({"batch_size": 1}, "allowed with --noise-interval: 2 ... 59"),
        ({"mem_len": 4, "shuffle": False}, "--noise-interval is 1, allowed: 0 with --mem-len"),
    ],
)
def test_noise_needs_two_batch_sizes(corpus, changes, message):
    with pytest.raises(InputError, match=message):
        Trainer(replace(TINY, noise_interval=1, **changes), corpus, CPU)


CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.fixture(scope="module")
def wide():
    """A corpus and sizes large enough for the kernels of a GPU."""
    text = np.random.default_rng(5).integers(0, 1000, 64 * 40 + 1)
    settings = Settings(n_layer=2, n_head=4, d_model=128, d_head=32, d_inner=256, tgt_len=64, batch_size=32)
    return settings, Corpus("toy", tuple(map(str, range(1000))), text, text[:900], text[:900], "")


def cuda_gradient(settings, corpus, compiled, device="cuda"):
    trainer = Trainer(settings, corpus, torch.device(device), compiled=compiled)
    trainer.start(settings)
    nll, _ = trainer.gradient(torch.arange(32, device=device))
    return float(nll), trainer.values.grad.double().cpu()


@pytest.mark.parametrize("case", [pytest.param("float32", marks=CUDA), pytest.param("bfloat16", marks=CUDA)])
def test_compiled_cuda_gradient_is_that_of_the_cpu(wide, case):
    settings, corpus = wide
    nll, grad = cuda_gradient(settings, corpus, compiled=False, device="cpu")
    other_nll, other = cuda_gradient(replace(settings, dtype=case), corpus, compiled=True)
    tolerance = {"float32": 1e-4, "bfloat16": 2e-2}[case]
    assert other_nll == pytest.approx(nll, rel=tolerance)
    assert float((other - grad).norm() / grad.norm()) < tolerance


@pytest.mark.parametrize("micro_batch_size", [pytest.param(8, marks=CUDA)])
def test_micro_batches_on_cuda_give_the_gradient_of_the_batch(wide, micro_batch_size):
    settings, corpus = wide
    _, whole = cuda_gradient(settings, corpus, compiled=True)
    _, parts = cuda_gradient(replace(settings, micro_batch_size=micro_batch_size), corpus, compiled=True)
    assert float((parts - whole).norm() / whole.norm()) < 1e-4


@pytest.mark.parametrize("dropout", [pytest.param(0.1, marks=CUDA)])
def test_resumed_run_on_cuda_goes_on_where_it_stopped(wide, dropout, tmp_path, monkeypatch):
    settings = replace(wide[0], dropout=dropout, n_epochs=3, batch_size=8, patience=0, dtype="bfloat16")
    trainer, save = Trainer(settings, wide[1], torch.device("cuda"), compiled=True), loop.checkpoints.save
    rows, _ = loop.train(trainer, settings)

    def save_and_stop(path, state):
        save(path, state)
        if state["run_state"]["step"] == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop.checkpoints, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            loop.train(trainer, settings, tmp_path / "state", 0)
    resumed, _ = loop.train(trainer, settings, tmp_path / "state")
    losses, others = ([row["valid_loss"] for row in each] for each in (rows, resumed))
    assert others == pytest.approx(losses, rel=1e-2)  # a GPU does not add in a fixed order
