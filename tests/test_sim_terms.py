"""Terms, lines and moments one by one: against enumeration, against each other, and with planted faults."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.bounds import higher_order_bound
from adam_minibatch_noise.expansion.registry import make_rule
from adam_minibatch_noise.expansion.second_order import TERMS, second_order_lines, second_order_terms, term_of
from adam_minibatch_noise.expansion.weight_sums import weight_sums
from sim import terms
from sim.losses import cnn
from sim.losses.cnn_problem import cnn_problem
from sim.losses.problems import make_quadratics
from sim.monte_carlo import orders, term_studies
from sim.monte_carlo.term_results import Result
from sim.monte_carlo.term_studies import labels_of, lines_of
from tests.test_library_update_rules import CASES, LINEAR

TINY = ["--n-samples", "6", "--batch-size", "2", "--n-params", "2", "--beta1", "0.8", "--beta2", "0.95"]
ENUMERATE = [*TINY, "--method", "enumerate"]
LINES = [labels_of(make_rule("adam"), line) for line in lines_of(make_rule("adam"))]


def rows_of(capsys, *argv, status=0):
    assert terms.main([*map(str, argv), "--format", "json"]) == status
    return json.loads(capsys.readouterr().out)["rows"]


def column(rows, name, **where):
    return np.array([row[name] for row in rows if all(row[key] == value for key, value in where.items())])


# --------------------------------------------------------------------------------------------- building blocks
def test_lines_of_adam_are_the_17_of_the_paper():
    """L_n/R_n knows no M_n and no grad L_k; L_n, M_n and P_n are linear in each of their factors."""
    rule = make_rule("adam")
    found = {(*labels_of(rule, line), term_of(line)) for line in lines_of(rule)}
    outer = ["root root", "root first", "root gradient", "first gradient"]
    want = {("L/R", "root root", "MBN1")} | {("-MP/R^3", places, "MBN1") for places in outer}
    for part, places in (("L/R", ["root"]), ("-MP/R^3", ["root", "first", "gradient"])):
        want |= {(part, f"{place} hessian", "MBN3") for place in places}
        want |= {(part, f"{place} updates", "MBN5") for place in places}
        want |= {(part, "hessian updates", "MBN4"), (part, "updates updates", "MBN2")}
    assert found == want
    assert len(lines_of(rule)) == 17


def test_every_order_and_every_independent_order():
    listed = orders.every_order(4, 2, 2)
    assert listed.shape == (36, 4, 2)
    assert len({order.tobytes() for order in listed}) == 36
    assert (np.sort(listed.reshape(36, 2, 4)) == np.arange(4)).all()
    apart = orders.every_independent_order(4, 2, 3)
    assert apart.shape == (216, 3, 2)
    assert len({order.tobytes() for order in apart}) == 216
    with pytest.raises(InputError, match="at most 20000"):
        orders.every_order(6, 2, 3)


def test_drawn_orders_do_not_depend_on_the_chunk():
    one, many = (np.concatenate(list(orders.drawn_orders(8, 2, 2, 11, 3, size))) for size in (1, 4))
    np.testing.assert_array_equal(one, many)
    assert one.shape == (11, 8, 2)
    assert (np.sort(one.reshape(22, 8)) == np.arange(8)).all()


def test_average_is_the_even_part_and_its_standard_error(rng):
    problem = make_quadratics(6, 2, 0.3, 0)
    listed = orders.every_order(6, 2)
    gradients, hessians = problem.gradients[listed].mean(axis=2), problem.hessians[listed].mean(axis=2)

    def evaluate(g, h):
        return np.array([g[:, 0] ** 3, h[:, 1, 0]])

    noise = gradients[:, 0] - problem.gradients.mean(axis=0)
    mean_g = problem.gradients.mean(axis=0)
    values = mean_g**3 + 3 * mean_g * noise**2
    chunks = iter(np.array_split(listed, 4))
    mean, stderr = orders.average(problem, chunks, evaluate)
    np.testing.assert_allclose(mean[0], values.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(mean[1], hessians.mean(axis=(0, 1))[0], rtol=1e-13)
    np.testing.assert_allclose(stderr[0], values.std(axis=0, ddof=1) / np.sqrt(90), rtol=1e-12)


def test_the_bound_without_odd_orders_is_smaller_and_falls_as_the_fourth_power():
    adam = make_rule("adam", {"beta1": 0.8, "beta2": 0.95})
    sums = weight_sums(adam.weights, 3, 2)
    problem = make_quadratics(6, 2, 1.0, 1)

    def bound(amplitude, **settings):
        quiet = problem.with_noise(amplitude)
        rows = quiet.gradients, quiet.hessians, quiet.moments()
        return higher_order_bound(adam, *rows, 2, sums, **settings)[0]

    bounds = [bound(z, odd_orders=False) for z in (2e-3, 1e-3)]
    np.testing.assert_allclose(bounds[0] / bounds[1], 16, rtol=1e-6)
    assert (bounds[1] < bound(1e-3)).all()


# ----------------------------------------------------------------------------------------------- Proposition 3.3
@pytest.mark.parametrize("eps_root", ["0", "0.3"])
@pytest.mark.parametrize("n_epochs", ["1", "2"])
@pytest.mark.parametrize("problem", ["least-squares", "quadratics"])
def test_each_term_residual_falls_as_the_square_of_the_noise(capsys, problem, n_epochs, eps_root):
    flags = [*ENUMERATE, "--problem", problem, "--n-epochs", n_epochs, "--eps-root", eps_root]
    rows = rows_of(capsys, *flags, "--rho", 0.02, 0.01)
    for term in TERMS:
        residual = [
            np.abs(
                column(rows, "measured", term=term, rho=rho)
                - column(rows, "predicted_exact", term=term, rho=rho)
            )
            / np.abs(column(rows, "predicted_exact", term=term, rho=rho)).max()
            for rho in (0.02, 0.01)
        ]
        assert residual[1].max() < 1e-2, term
        assert np.log2(residual[0].max() / residual[1].max()) == pytest.approx(2, abs=0.1), term
    zeroth = column(rows, "predicted_exact", term="FB")
    np.testing.assert_allclose(column(rows, "measured", term="FB"), zeroth, rtol=1e-12)


@pytest.mark.parametrize("term", TERMS)
def test_a_wrong_term_is_refuted(capsys, monkeypatch, term):
    def wrong(*args, **others):
        zeroth, exact = second_order_terms(*args, **others)
        return zeroth, exact | {term: 1.1 * exact[term]}

    flags = [*ENUMERATE, "--rho", "1e-4"]
    assert max(column(rows_of(capsys, *flags), "excess")) < 0.2
    monkeypatch.setattr(term_studies, "second_order_terms", wrong)
    rows = rows_of(capsys, *flags, status=1)
    assert {row["term"] for row in rows if row["excess"] > 1} == {term}


def test_limit_columns_are_proposition_3_3(capsys):
    from adam_minibatch_noise.theory import expected_corr_terms, limit_constants

    rows = rows_of(capsys, *ENUMERATE, "--noise", 0.01)
    moments = make_quadratics(6, 2, 0.01, 0).moments()
    for name, v in (("predicted_limit", (6 / 2 - 1) / 5), ("predicted_per_batch", 1 / 2)):
        for term, value in expected_corr_terms(moments, limit_constants(0.8, 0.95), v).items():
            np.testing.assert_allclose(column(rows, name, term=term), value, rtol=1e-12)


def test_montecarlo_matches_enumeration_within_4_stderr(capsys):
    exact = rows_of(capsys, *ENUMERATE, "--rho", 0.01)
    drawn = rows_of(capsys, *TINY, "--rho", 0.01, "--n-permutations", 4000, "--seed", 7)
    assert (column(drawn, "stderr")[2:] > 0).all()
    gap = np.abs(column(drawn, "measured") - column(exact, "measured"))
    assert (gap <= 4 * column(drawn, "stderr") + 1e-13).all()
    for term in ("MBN1", "MBN2", "MBN3", "MBN5"):
        assert max(column(drawn, "stderr", term=term)) < 0.2 * max(
            np.abs(column(exact, "measured", term=term))
        ), term
    assert rows_of(capsys, *TINY, "--rho", 0.01, "--n-permutations", 4000, "--seed", 7) == drawn


def test_terms_of_the_cnn_are_accepted(capsys):
    flags = ["--cnn", "--n-samples", 32, "--n-filters", 1, "--patch-length", 3, "--rho", 1e-3]
    rows = rows_of(capsys, *flags, "--n-permutations", 300)
    assert len(rows) == 6 * 6
    for term in ("MBN1", "MBN2", "MBN3"):
        measured, exact = (column(rows, name, term=term) for name in ("measured", "predicted_exact"))
        np.testing.assert_allclose(measured, exact, atol=0.1 * np.abs(exact).max(), err_msg=term)


@pytest.mark.parametrize(("name", "settings"), [case for case in CASES if case[0] not in LINEAR])
def test_terms_and_lines_of_every_optimizer_match_enumeration(capsys, name, settings):
    flags = [word for key, value in settings.items() for word in ("--" + key.replace("_", "-"), value)]
    flags = ["--optimizer", name, *flags, *TINY[2:6], "--problem", "least-squares"]
    of_micro = make_rule(name).of_micro_batches  # there are many more independent orders of micro-batches
    flags += ["--micro-batch-size", "1"] if of_micro else []
    of_lines = ["--study", "lines", "--n-samples", 4 if of_micro else 6]
    for study in (["--method", "enumerate", "--n-samples", 6], of_lines):
        rows = rows_of(capsys, *flags, *study, "--rho", 1e-4)
        measured, exact = column(rows, "measured"), column(rows, "predicted_exact")
        keys = [(row["term"], row["places"], row["batches"]) for row in rows]
        for key in dict.fromkeys(keys):
            these = np.array([other == key for other in keys])
            scale = np.abs(exact[these]).max() + 1e-6 * np.abs(exact).max()
            assert np.abs(measured - exact)[these].max() < 1e-2 * scale, key


def test_where_no_bound_is_known_the_program_says_so(capsys):
    assert terms.main([*ENUMERATE, "--optimizer", "adam-p", "--rho", "0.001"]) == 0
    assert "no bound: none is known for the formula" in capsys.readouterr().err


def test_a_smooth_sign_has_a_bound_where_adam_has_none(capsys):
    flags = ["--method", "enumerate", *TINY[:6], "--rho", "0.6"]
    assert terms.main([*flags, "--optimizer", "lion-smooth"]) == 0
    assert capsys.readouterr().err == ""
    assert terms.main([*flags, "--optimizer", "nadam"]) == 0
    assert "no bound where rho is 0.414 or more" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ Proposition A.6
@pytest.mark.parametrize("eps_root", ["0", "0.3"])
def test_every_line_matches_enumeration(capsys, eps_root):
    rows = rows_of(capsys, *TINY, "--study", "lines", "--rho", 1e-3, "--eps-root", eps_root)
    assert len(rows) == 17 * 2 * 2
    for (part, places), batches in itertools.product(LINES, ("same", "different")):
        where = {"part": part, "places": places, "batches": batches}
        measured, exact = (column(rows, name, **where) for name in ("measured", "predicted_exact"))
        atol = 2e-3 * np.abs(exact).max() + 1e-17  # one line is 0
        np.testing.assert_allclose(measured, exact, atol=atol, err_msg=str(where))
    assert column(rows, "predicted_limit", batches="different").max() == 0


def test_wrong_lines_are_refuted(capsys, monkeypatch):
    flags = [*TINY, "--study", "lines", "--rho", "1e-4"]
    rows_of(capsys, *flags)

    def wrong(*args, **others):
        zeroth, values = second_order_lines(*args, **others)
        return zeroth, {line: 1.5 * value for line, value in values.items()}

    monkeypatch.setattr(term_studies, "second_order_lines", wrong)
    rows = rows_of(capsys, *flags, status=1)
    found = {(row["part"], row["places"], row["batches"]) for row in rows if row["excess"] > 1}
    every = {(*line, batches) for line in LINES for batches in ("same", "different")}
    assert every - found == {("-MP/R^3", "gradient hessian", "different")}  # 0: both sit in batch k


# ------------------------------------------------------------------------------------------------------ Lemma A.7
@pytest.mark.parametrize(("n_samples", "batch_size"), [(6, 2), (6, 1), (8, 4), (4, 4)])
def test_lemma_a7_matches_naive_enumeration(capsys, n_samples, batch_size):
    flags = ["--study", "moments", "--n-samples", n_samples, "--batch-size", batch_size, "--n-params", 2]
    rows = rows_of(capsys, *flags, "--noise", 3.0)
    assert max(column(rows, "excess")) <= 1  # 1e-12 relative
    problem = make_quadratics(n_samples, 2, 3.0, 0)
    noise = problem.gradients - problem.gradients.mean(axis=0)
    bends = problem.hessians - problem.hessians.mean(axis=0)
    n_batches = n_samples // batch_size
    first = slice(0, batch_size)
    second = slice(batch_size, 2 * batch_size)
    for batches, other in [("same", first)] + ([("different", second)] if n_batches > 1 else []):
        sums = np.zeros((2, 2, 2))
        for order in itertools.permutations(range(n_samples)):
            p, q = list(order)[first], list(order)[other]
            sums[0] += np.outer(noise[p].mean(0), noise[q].mean(0))
            sums[1] += bends[p].mean(0) * noise[q].mean(0)
        for name, value in zip(("E d_i d_j", "E d_ij d_j"), sums / sums_of_orders(n_samples), strict=True):
            got = column(rows, "predicted_exact", term=name, batches=batches).reshape(2, 2)
            np.testing.assert_allclose(got, value, rtol=1e-12, atol=1e-13, err_msg=name)


def sums_of_orders(n_samples):
    return float(np.prod(np.arange(1, n_samples + 1)))


def test_a_wrong_moment_is_refuted(capsys, monkeypatch):
    flags = ["--study", "moments", *TINY[:6]]
    rows_of(capsys, *flags)
    monkeypatch.setattr(
        term_studies, "batch_variance_factor", lambda n, b: (n / b - 1) / (n - 1) * (1 + 1e-10)
    )
    rows = rows_of(capsys, *flags, status=1)
    for term, batches in itertools.product(("E d_i d_j", "E d_ij d_j"), ("same", "different")):
        assert max(column(rows, "excess", term=term, batches=batches)) > 1


def test_cross_moment_of_the_cnn_is_half_the_slope_of_its_covariance():
    """Lemma A.7's (1/2) dSigma_jj/dtheta_i, along the network's own, not quadratic, loss."""
    data = cnn.make_data(20, 3, n_noise=2, noise_std=0.7, feature_noise=0.2, seed=0)
    weights = cnn.make_weights(2, 3, init_std=0.5, seed=0)
    cross = cnn_problem(20, 2, 3, seed=0).moments().cross
    step = 1e-5
    for i in range(weights.size):
        shift = np.zeros(weights.size)
        shift[i] = step
        ends = [
            cnn.gradients(weights + sign * shift.reshape(weights.shape), data).reshape(20, -1).var(axis=0)
            for sign in (1, -1)
        ]
        slope = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(cross[i], slope / 2, rtol=1e-6, atol=1e-8 * np.abs(cross).max())


# ------------------------------------------------------------------------------------------------------------ SGD
def test_sgd_momentum_terms_match_enumeration_to_all_orders(capsys):
    flags = [
        *TINY[:8],
        "--method",
        "enumerate",
        "--optimizer",
        "sgd-momentum",
        "--noise",
        2.0,
        "--n-epochs",
        2,
    ]
    rows = rows_of(capsys, *flags)
    np.testing.assert_allclose(column(rows, "measured"), column(rows, "predicted_exact"), rtol=1e-11)
    noise = make_quadratics(6, 2, 2.0, 0)
    beta = 0.8
    slope = noise.moments().cross.sum(axis=1)  # grad tr(Sigma)/2
    for name, v in (("predicted_limit", 2 / 5), ("predicted_per_batch", 1 / 2)):
        want = beta / ((1 - beta) ** 2 * (1 + beta)) * v * slope
        np.testing.assert_allclose(column(rows, name, term="tr(Sigma)"), want, rtol=1e-12)


def test_sgd_momentum_tends_to_its_limit_with_the_number_of_batches(capsys):
    gaps = []
    for n_samples in (200, 400):
        flags = ["--optimizer", "sgd-momentum", "--n-samples", n_samples, "--batch-size", 1, "--n-params", 2]
        rows = rows_of(capsys, *flags, "--beta1", 0.5, "--noise", 1.0, "--n-permutations", 500)
        ratio = column(rows, "predicted_exact") / column(rows, "predicted_limit")
        np.testing.assert_allclose(ratio[:2], 1, rtol=1e-12)  # |g|^2
        gaps.append(ratio[2:] - 1)
    np.testing.assert_allclose(gaps[0] / gaps[1], 2, rtol=0.02)


# ------------------------------------------------------------------------------------------------------- the door
def test_csv_holds_settings_and_rows(tmp_path, capsys):
    terms.main([*ENUMERATE, "--rho", "0.01", "--format", "csv", "--out", str(tmp_path / "x.csv")])
    head, first, *_ = (tmp_path / "x.csv").read_text().splitlines()
    cells = dict(zip(head.split(","), first.split(","), strict=True))
    rows = rows_of(capsys, *ENUMERATE, "--rho", 0.01)
    assert float(cells["predicted_exact"]) == rows[0]["predicted_exact"]
    assert (cells["study"], cells["problem"], cells["rho"], cells["component"]) == (
        "terms",
        "quadratics",
        "0.01",
        "0",
    )


def test_too_much_noise_for_a_bound_is_said(capsys):
    assert terms.main([*ENUMERATE, "--noise", "1", "--eps-root", "0.1"]) == 0
    assert "no bound" in capsys.readouterr().err


@pytest.mark.parametrize("error", [1.0, float("nan")], ids=["off", "no number"])
def test_what_is_off_or_no_number_is_violated_from_100_random_orders_on(capsys, monkeypatch, error):
    rows = Result.rows

    def wrong(result):
        return rows(dataclasses.replace(result, measured=result.measured + error))

    monkeypatch.setattr(Result, "rows", wrong)
    for flags, status in (
        (["--n-permutations", "99"], 0),
        (["--n-permutations", "100"], 1),
        (["--method", "enumerate"], 1),
        (["--study", "moments"], 1),
    ):
        words = TINY if "moments" not in flags else TINY[:6]
        assert terms.main([*words, *flags]) == status
        assert ("too few orders" in capsys.readouterr().err) == (status == 0)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--batch-size", "5"], "--batch-size is 5"),
        (["--cnn", "--batch-size", "5"], "--batch-size is 5"),
        (["--method", "enumerate"], "allowed: at most 20000"),
        (["--study", "lines"], "allowed: at most 20000"),
        (["--n-params", "4000"], "--n-samples"),
        (["--noise", "0", "--rho", "0.1"], "--rho"),
        (["--cnn"], "--eps-root is 0"),
    ],
)
def test_rejects_bad_flags(fails, flags, named):
    assert named in fails(terms.main, *flags)


def test_results_have_one_shape():
    for result in term_studies.moments(make_quadratics(6, 2, 0.1, 0), 2):
        arrays = [v for v in vars(result).values() if isinstance(v, np.ndarray)]
        assert len(arrays) == sum(field.type != "str" for field in dataclasses.fields(result)) - 4
        assert {array.shape for array in arrays} == {(2, 2)}
