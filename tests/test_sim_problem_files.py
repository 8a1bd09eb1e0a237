"""A problem of one's own: per-sample gradients and Hessians of any loss, in every program that takes a file."""

import json

import numpy as np
import pytest
import torch

from sim import exact, expectation, terms
from sim.losses.problem_files import load_problem
from sim.losses.problems import LeastSquares, Quadratics, make_least_squares, make_quadratics

FILE = {
    "gradients": make_quadratics(8, 3, 0.05, 1).gradients,
    "hessians": make_quadratics(8, 3, 0.05, 1).hessians,
}
ADAM = ["--batch-size", "2", "--beta1", "0.8", "--beta2", "0.95"]


@pytest.fixture
def file(tmp_path):
    def write(name="p.npz", **arrays):
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name

    return write


def result(capsys, main, *argv):
    assert main([*map(str, argv), "--format", "json"]) in (None, 0)
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("main", "more", "columns"),
    [
        (exact.main, ["--n-epochs", "2"], ["zeroth", "second_order", "MBN4", "c_total_exact", "noise_scale"]),
        (exact.main, ["--optimizer", "sgd-momentum"], ["zeroth", "second_order"]),
        (expectation.main, ["--method", "enumerate"], ["measured", "exact", "bound", "rho", "lam"]),
        (expectation.main, ["--n-permutations", "500"], ["measured", "stderr", "excess"]),
        (terms.main, ["--method", "enumerate", "--rho", "0.01"], ["rows"]),
        (terms.main, ["--study", "moments"], ["rows"]),
    ],
)
def test_gradients_and_hessians_give_the_generator_s_result(capsys, file, main, more, columns):
    path = file(**FILE)
    adam = ADAM if "moments" not in more else ADAM[:2]
    adam = adam[:4] if "sgd-momentum" in more else adam
    flags = [
        "--problem",
        "quadratics",
        "--n-samples",
        8,
        "--n-params",
        3,
        "--noise",
        0.05,
        "--problem-seed",
        1,
    ]
    generated = result(capsys, main, *adam, *more, *flags)
    own = result(capsys, main, *adam, *more, "--problem-file", path)
    for name in columns:
        assert own[name] == generated[name], name
    assert own["problem"] == str(path)
    for name in ("noise", "problem_seed"):
        assert own.get(name) is None


def test_least_squares_as_arrays_and_as_derivatives_are_the_same_problem(capsys, file):
    problem = make_least_squares(8, 3, 0.05, 0)
    arrays = {name: vars(problem.quadratics())[name] for name in ("gradients", "hessians")}
    results = [
        result(capsys, exact.main, *ADAM, "--problem-file", path)
        for path in (file("a.npz", **vars(problem)), file("b.npz", **arrays))
    ]
    for name in ("zeroth", "second_order"):
        np.testing.assert_allclose(results[0][name], results[1][name], rtol=1e-12)


def test_derivatives_of_a_loss_of_torch_in_single_precision_are_taken(capsys, file):
    """Hessians of float32 are symmetric to rounding only; logistic loss of 6 samples at one point."""
    generator = torch.Generator().manual_seed(0)
    x = 1 + 0.1 * torch.randn(6, 3, generator=generator)
    theta = torch.tensor([0.3, -0.2, 0.5])

    def loss(point, row):
        return torch.nn.functional.softplus(row @ point) ** 2

    gradients = torch.func.vmap(torch.func.grad(loss), (None, 0))(theta, x)
    hessians = torch.func.vmap(torch.func.jacrev(torch.func.grad(loss)), (None, 0))(theta, x)
    assert not torch.equal(hessians, hessians.transpose(1, 2))
    path = file(gradients=gradients.numpy(), hessians=hessians.numpy())
    problem = load_problem(path)
    assert isinstance(problem, Quadratics)
    assert problem.hessians.dtype == np.float64
    np.testing.assert_array_equal(problem.hessians, problem.hessians.transpose(0, 2, 1))
    np.testing.assert_allclose(problem.hessians, hessians.numpy(), rtol=1e-5)
    report = result(capsys, expectation.main, *ADAM, "--method", "enumerate", "--problem-file", path)
    assert report["verdict"] == "agreed"


def test_symmetric_hessians_keep_their_bits(file):
    hessians = np.full((2, 1, 1), 5e-324)
    assert (
        load_problem(file(gradients=np.ones((2, 1)), hessians=hessians)).hessians.tolist()
        == hessians.tolist()
    )
    assert isinstance(load_problem(file(**vars(make_least_squares(4, 2, 0.1, 0)))), LeastSquares)


def spoilt():
    twisted = FILE["hessians"].copy()
    twisted[5, 0, 1] += 0.01
    return {
        "is off its transpose by 0.01 at sample 5, allowed: symmetric matrices": {"hessians": twisted},
        "array 'hessians' has shape (8, 3), allowed: (8, 3, 3)": {"hessians": FILE["gradients"]},
        "array 'hessians' has shape (7, 3, 3), allowed: (8, 3, 3)": {"hessians": FILE["hessians"][:7]},
        "array 'gradients' has shape (8,), allowed: (N, d)": {"gradients": np.ones(8)},
        "array 'gradients' has shape (0, 3), allowed: (N, d)": {"gradients": np.ones((0, 3))},
        "array 'gradients' holds nan or infinity": {"gradients": np.full((8, 3), np.nan)},
        "array 'hessians' holds nan or infinity": {"hessians": np.full((8, 3, 3), np.inf)},
        "array 'hessians' has type complex128": {"hessians": FILE["hessians"] + 0j},
        "holds arrays of both kinds, allowed: gradients and hessians, or features": {"theta": np.ones(3)},
    }


@pytest.mark.parametrize("words", spoilt())
@pytest.mark.parametrize("main", [exact.main, expectation.main, terms.main])
def test_unusable_derivatives_are_refused_in_one_line(fails, file, main, words):
    assert words in fails(main, "--batch-size", 2, "--problem-file", file(**FILE | spoilt()[words]))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"gradients": np.ones((4, 2))}, "array 'hessians' is missing, needed: gradients, hessians"),
        ({"features": np.ones((4, 2))}, "array 'targets' is missing, needed: features, targets, theta"),
        ({"weights": np.ones(2)}, "needed: features, targets, theta, or gradients and hessians"),
        ({}, "needed: features, targets, theta, or gradients and hessians"),
    ],
)
def test_what_a_file_lacks_is_named(fails, file, arrays, words):
    assert words in fails(exact.main, "--problem-file", file(**arrays))


def test_terms_refuses_a_file_that_is_too_large(fails, file):
    path = file(features=np.ones((100, 900)), targets=np.zeros(100), theta=np.ones(900))
    assert "is too large, allowed: n_samples n_params^2 <= 64000000" in fails(
        terms.main, "--problem-file", path
    )
