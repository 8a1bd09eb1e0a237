"""The small networks against torch: gradients, steps of every optimiser, what is measured at a point; in float64."""

from dataclasses import replace

import numpy as np
import pytest

from sim.small_networks import kernels, optimizers, training
from sim.small_networks.layers import DENSE, FROZEN, ONE_HOT
from sim.small_networks.settings import Settings
from sim.small_networks.simd import LANES, zero_vector

torch = pytest.importorskip("torch")
CASES = {
    "digits": Settings(task="digits", label_noise=0.1, n_samples=256),
    "characters": Settings(task="characters", n_samples=256),
    "words": Settings(task="words", n_samples=256),
    "words-frozen": Settings(task="words", embedding="frozen", n_samples=256),
    "words-one-hot": Settings(task="words", embedding="one-hot", n_samples=128),
    "regression": Settings(task="regression"),
    "cnn": Settings(task="cnn", label_noise=0.1),
}
N_STEPS = 12


class TorchNetwork:
    """The same network in torch, from the same flat array: parameters with gradients, and the loss of some samples."""

    def __init__(self, task):
        net, w = task.network, torch.from_numpy(task.weights.copy())
        self.net, self.task = net, task
        if net.inputs in (kernels.LINEAR, kernels.CNN):
            self.parameters = {"all": w.requires_grad_()}
            return
        hidden = w[net.at_hidden : net.at_output].reshape(net.n_rows, net.n_hidden)
        output = w[net.at_output : net.at_bias].reshape(net.n_rows_out, net.n_columns_out)
        if net.n_columns_out == net.n_logits:
            weight, bias = output[: net.n_hidden, : net.n_classes], output[net.n_hidden, : net.n_classes]
        else:
            weight, bias = output[: net.n_classes].T, w[net.at_bias :][: net.n_classes]
        parts = {
            "hidden": hidden[: net.n_inputs],
            "hidden_bias": hidden[net.n_inputs],
            "output": weight,
            "output_bias": bias,
        }
        if net.at_hidden:
            parts["embedding"] = w[: net.at_hidden].reshape(net.n_words, LANES)[:, : net.n_embedding]
        self.parameters = {name: part.clone().contiguous().requires_grad_() for name, part in parts.items()}
        if net.inputs == FROZEN:
            self.parameters["embedding"].requires_grad_(False)

    def losses(self, rows, data=None):
        data, net, p = data or self.task.train, self.net, self.parameters
        if net.inputs == kernels.LINEAR:
            x = torch.from_numpy(data.features.reshape(-1, net.n_inputs)[rows])
            return (x @ p["all"] - torch.from_numpy(data.values[rows])) ** 2 / 2
        if net.inputs == kernels.CNN:
            x = torch.from_numpy(data.features.reshape(-1, 2, net.n_inputs)[rows])
            powers = torch.relu(x @ p["all"].reshape(net.n_inputs, net.n_hidden)) ** 3
            half = net.n_hidden // 2
            f = powers[..., :half].sum((1, 2)) - powers[..., half:].sum((1, 2))
            return torch.nn.functional.softplus(-torch.from_numpy(data.values[rows]) * f)
        if net.inputs == DENSE:
            x = torch.from_numpy(data.features.reshape(-1, net.n_inputs)[rows])
        else:
            words = torch.from_numpy(data.words.reshape(-1, net.n_context)[rows].astype(np.int64))
            if net.inputs == ONE_HOT:
                x = torch.nn.functional.one_hot(words, net.n_words).to(torch.float64).flatten(1)
            else:
                x = p["embedding"][words].flatten(1)
        h = torch.relu(x @ p["hidden"] + p["hidden_bias"])
        targets = torch.from_numpy(data.targets[rows].astype(np.int64))
        return torch.nn.functional.cross_entropy(
            h @ p["output"] + p["output_bias"], targets, reduction="none"
        )

    def trained(self):
        return [p for p in self.parameters.values() if p.requires_grad]

    def gradient(self, rows):
        """Gradient of the mean loss, as a dict of arrays."""
        parts = torch.autograd.grad(self.losses(rows).mean(), self.trained())
        return dict(zip([k for k, p in self.parameters.items() if p.requires_grad], parts, strict=True))

    def flat(self, values):
        """Lay values of the parameters out as the kernels do, zeros in the padding."""
        net = self.net
        if "all" in values:
            return values["all"].detach().numpy().ravel()
        flat = np.zeros(net.n_entries)
        hidden = flat[net.at_hidden : net.at_output].reshape(net.n_rows, net.n_hidden)
        hidden[: net.n_inputs], hidden[net.n_inputs] = (
            values["hidden"].detach(),
            values["hidden_bias"].detach(),
        )
        output = flat[net.at_output : net.at_bias].reshape(net.n_rows_out, net.n_columns_out)
        weight, bias = values["output"].detach().numpy(), values["output_bias"].detach().numpy()
        if net.n_columns_out == net.n_logits:
            output[: net.n_hidden, : net.n_classes], output[net.n_hidden, : net.n_classes] = weight, bias
        else:
            output[: net.n_classes] = weight.T
            flat[net.at_bias : net.at_bias + net.n_classes] = bias
        if "embedding" in values:
            rows = flat[: net.at_hidden].reshape(net.n_words, LANES)
            rows[:, : net.n_embedding] = values["embedding"].detach()
        return flat


def setup(case, batch_size=16):
    settings = replace(CASES[case], batch_size=batch_size).resolved()
    task = training.make_task(settings, np.float64)
    space = training.make_workspace(task.network, task.n_train, max(task.n_train, task.n_valid), np.float64)
    zero, tile = (zero_vector(lanes, np.float64) for lanes in (LANES, training.tile_lanes()))
    return settings, task, space, zero, tile


@pytest.mark.parametrize("n_batch", [1, 6, 64, 128])
@pytest.mark.parametrize("case", CASES)
def test_gradient_of_a_batch_matches_torch(case, n_batch):
    _, task, space, zero, tile = setup(case)
    twin, gradient = TorchNetwork(task), np.zeros(task.network.n_entries)
    rng = np.random.default_rng(0)
    order = rng.permutation(task.n_train).astype(np.int32)
    unused = np.zeros_like(gradient)
    kernels.step_batch(
        task.network, optimizers.GRADIENT, task.weights, gradient, unused, task.train, order, 0, n_batch, 0,
        space, zero, tile,
    )  # fmt: skip
    expected = twin.flat(twin.gradient(order[:n_batch]))
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-12 * max(1, np.abs(expected).max()))


def torch_step(name, twin, state, t, rows, s):
    """One step by the definition, on tensors; `rows` a list of micro-batches."""
    grads = [twin.gradient(part) for part in rows]
    for key, p in twin.parameters.items():
        if not p.requires_grad:
            continue
        g = sum(each[key] for each in grads) / len(grads)
        square = sum(each[key] ** 2 for each in grads) / len(grads)
        m, v = state.setdefault(key, (torch.zeros_like(p), torch.zeros_like(p)))
        with torch.no_grad():
            if name == "adam":
                g = g + s.weight_decay * p
            if name != "invariant-adamw":
                square = g**2
            if name != "adam":
                p *= 1 - s.lr * s.weight_decay
            if name == "sgd-momentum":
                m.mul_(s.beta1).add_(g)
                p -= s.lr * m
                continue
            beta1 = 0.0 if name == "rmsprop" else s.beta1
            m.mul_(beta1).add_((1 - beta1) * g)
            v.mul_(s.beta2).add_((1 - s.beta2) * square)
            p -= s.lr * (m / (1 - beta1**t)) / (torch.sqrt(v / (1 - s.beta2**t)) + s.eps)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "invariant-adamw", "rmsprop", "sgd-momentum"])
@pytest.mark.parametrize("case", ["digits", "words", "regression", "cnn"])
def test_trajectory_matches_torch(case, optimizer):
    settings, task, space, zero, tile = setup(case, 128)
    s = replace(settings, optimizer=optimizer, lr=1e-2, weight_decay=0.05, micro_batch_size=32, eps=1e-4)
    micro = 32 if optimizer == "invariant-adamw" else 0
    twin, state, net = TorchNetwork(task), {}, task.network
    weights, moment1, moment2 = task.weights.copy(), np.zeros(net.n_entries), np.zeros(net.n_entries)
    rng, rule = np.random.default_rng(1), training.RULES.get(optimizer, optimizers.ADAM)
    beta1 = 0.0 if optimizer == "rmsprop" else s.beta1
    l2, decoupled = (s.weight_decay, 0.0) if optimizer == "adam" else (0.0, s.weight_decay)
    padding = twin.flat(twin.parameters) == 0
    for t in range(1, N_STEPS + 1):
        order = rng.permutation(task.n_train).astype(np.int32)[:128]
        optimizers.fill_coefficients(
            space.coefficients, rule, s.lr, beta1, s.beta2, s.eps, l2, decoupled, beta1**t, s.beta2**t,
            4 if micro else 1,
        )  # fmt: skip
        kernels.step_batch(
            net, rule, weights, moment1, moment2, task.train, order, 0, order.size, micro, space, zero, tile
        )  # fmt: skip
        torch_step(optimizer, twin, state, t, np.split(order, 4), s)
    expected = twin.flat(twin.parameters)
    own = ~padding | (expected != 0)
    np.testing.assert_allclose(weights[own], expected[own], rtol=0, atol=1e-10)
    assert np.abs(weights - task.weights)[own].max() > 5e-3


@pytest.mark.parametrize("case", CASES)
def test_measurements_match_torch(case):
    """Losses, |g|_1, |g|^2, the sum of squared gradients of single samples, and the rise along the sign."""
    _, task, space, zero, tile = setup(case)
    twin, net, rho = TorchNetwork(task), task.network, 1e-3
    gradient, moved = np.zeros(net.n_entries), np.zeros(net.n_entries)
    loss, rise, norm1, norm2, squares = kernels.measure(
        net, task.weights, moved, gradient, task.train, task.n_train, rho, space, zero, tile
    )
    everything = np.arange(task.n_train)
    g = twin.gradient(everything)
    before = twin.losses(everything).mean().item()
    assert loss == pytest.approx(before, rel=1e-12)
    assert norm1 == pytest.approx(sum(part.abs().sum().item() for part in g.values()), rel=1e-10)
    assert norm2 == pytest.approx(sum((part**2).sum().item() for part in g.values()), rel=1e-10)
    singles = [twin.gradient(np.array([i])) for i in range(task.n_train)]
    expected = sum((part**2).sum().item() for each in singles for part in each.values())
    assert squares == pytest.approx(expected, rel=1e-10)
    with torch.no_grad():
        for key, part in g.items():
            twin.parameters[key] += rho * part.sign()
        after = twin.losses(everything).mean().item()
    assert rise == pytest.approx(after - before, rel=1e-8)
    assert rise > 0


def test_regression_falls_to_its_closed_form():
    """Full batch, small learning rate of SGD: the iteration is linear, so its risk is known at every step."""
    s = Settings(
        task="regression",
        optimizer="sgd-momentum",
        beta1=0.0,
        batch_size=0,
        lr=0.01,
        max_epochs=400,
        patience=1e9,
    )
    history = np.zeros(51)
    training.train(s, np.float64, history)
    task = training.task_of(s.resolved(), np.float64)
    x, y = task.train.features.reshape(-1, 96), task.train.values
    truth, noise = task.valid.features, task.valid.values[0]
    hessian, w = x.T @ x / len(y), np.linalg.solve(x.T @ x, x.T @ y)
    values, vectors = np.linalg.eigh(hessian)
    for i, risk in enumerate(history):
        shrink = (1 - 0.01 * values) ** (8 * i)
        at = w - vectors @ (shrink * (vectors.T @ w))
        assert risk == pytest.approx(((at - truth) ** 2).sum() / 2 + noise**2 / 2, rel=1e-10)
