"""What any optimiser is asked to do, of both of ours and of the library's own: copies, checkpoints, loss scaling."""

import copy
import io
import math
import pickle

import pytest
import torch
from torch.optim import lr_scheduler

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.optimizers.adam import Adam
from adam_minibatch_noise.optimizers.invariant_adam import BatchSizeInvariantAdamW
from tests.optimizer_battery import (
    LIBRARY,
    OURS,
    SETTINGS,
    SHAPES,
    advance,
    assert_unchanged,
    close,
    copies,
    equal,
    gradients,
    kinds,
    make,
    numbers,
    parameters,
)


# ---------------------------------------------------------------------------------------------------- copies
def params_of(optimizer):
    return [param for group in optimizer.param_groups for param in group["params"]]


def by_pickle(optimizer):
    return pickle.loads(pickle.dumps(optimizer))


def by_torch_save(optimizer):
    buffer = io.BytesIO()
    torch.save(optimizer, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


WAYS = {"deepcopy": copy.deepcopy, "pickle": by_pickle, "torch.save": by_torch_save}


@kinds()
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("n_steps", [0, 5])
def test_copy_goes_on_as_the_original_does(kind, way, n_steps):
    made = make(kind, n_steps)
    twin = WAYS[way](made.optimizer)
    before = copies(made.params)
    advance(twin, params_of(twin), gradients(5, seed=1))
    assert equal(before, made.params)
    advance(made.optimizer, made.params, gradients(5, seed=1))
    assert equal(made.params, params_of(twin))
    assert not equal(before, made.params)


SPECIAL = [
    pytest.param(Adam, {"compiled": True}, id="Adam"),
    pytest.param(
        BatchSizeInvariantAdamW, {"skip_nonfinite": True, "foreach": True}, id="BatchSizeInvariantAdamW"
    ),
]


@pytest.mark.parametrize("way", [*WAYS, "copy"])
@pytest.mark.parametrize(("kind", "settings"), SPECIAL)
def test_copy_keeps_what_is_stored_on_the_instance(kind, settings, way, monkeypatch):
    """Every public attribute, and every setting of the constructor, which are no defaults here."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    original = kind(parameters(), **SETTINGS, **settings)
    advance(original, params_of(original), gradients(1))
    twin = copy.copy(original) if way == "copy" else WAYS[way](original)
    for optimizer in (original, twin):
        advance(optimizer, params_of(optimizer), gradients(1))
    public = [{name for name in vars(x) if not name.startswith("_")} for x in (original, twin)]
    assert public[0] == public[1]
    for name, value in settings.items():
        for optimizer in (original, twin):
            assert getattr(optimizer, name, optimizer.param_groups[0].get(name)) == value, name


# ------------------------------------------------------------------------------------------------ checkpoints
@kinds()
@pytest.mark.parametrize("by_file", [False, True])
def test_state_dict_goes_on_in_a_fresh_optimizer(kind, by_file):
    """Saved, and loaded with `weights_only`; the groups and settings are those of the checkpoint."""
    made = make(kind, 6)
    state = copy.deepcopy(made.optimizer.state_dict())
    if by_file:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        buffer.seek(0)
        state = torch.load(buffer, weights_only=True)
    twins = [torch.nn.Parameter(param.detach().clone()) for param in made.params]
    fresh = kind(twins, lr=1.0)
    fresh.load_state_dict(state)
    assert fresh.param_groups[0]["lr"] == SETTINGS["lr"]
    for optimizer, params in ((made.optimizer, made.params), (fresh, twins)):
        advance(optimizer, params, gradients(5, seed=1))
    assert equal(made.params, twins)
    torch.testing.assert_close(fresh.state_dict(), made.optimizer.state_dict(), rtol=0, atol=0)


@kinds("shares its arrays with what it was loaded from")
def test_loading_changes_and_shares_nothing_of_what_is_loaded(kind):
    made = make(kind, 3)
    state = made.optimizer.state_dict()
    before = copy.deepcopy(state)
    fresh = make(kind)
    fresh.optimizer.load_state_dict(state)
    advance(fresh.optimizer, fresh.params, gradients(3, seed=1))
    torch.testing.assert_close(state, before, rtol=0, atol=0)


@kinds()
def test_state_dict_before_the_first_step_loads(kind):
    made, fresh = make(kind), kind(parameters(), lr=1.0)
    fresh.load_state_dict(made.optimizer.state_dict())
    advance(fresh, params_of(fresh), gradients(3))
    advance(made.optimizer, made.params, gradients(3))
    assert equal(made.params, params_of(fresh))


@kinds()
@pytest.mark.parametrize("split", [[(0, 3), (3, 3)], [(0, 2), (2, 3)], [(0, 2)]])
def test_state_dict_of_other_groups_is_refused_and_changes_nothing(kind, split):
    """Of one group of three: two groups, of which one is empty or not, or one of two."""
    other = kind([{"params": parameters()[first:last]} for first, last in split], **SETTINGS)
    made = make(kind, 3)
    before = numbers(made.optimizer)
    with pytest.raises(ValueError, match=r"different number of parameter groups|doesn't match the size"):
        made.optimizer.load_state_dict(other.state_dict())
    assert_unchanged(before, made.optimizer)


@kinds("loads arrays of any shape, and fails at the next step")
def test_state_dict_of_other_shapes_is_refused_and_changes_nothing(kind):
    shapes = [(4, 3), *SHAPES[1:]]
    others = parameters(shapes=shapes)
    other = kind(others, **SETTINGS)
    advance(other, others, gradients(2, shapes=shapes))
    made = make(kind, 3)
    before = numbers(made.optimizer)
    with pytest.raises(
        InputError, match=r"exp_avg of parameter 0 is torch.float64 of shape \(4, 3\), allowed: .*\(3, 4\)"
    ):
        made.optimizer.load_state_dict(other.state_dict())
    assert_unchanged(before, made.optimizer)


@kinds(only=OURS)
def test_state_dict_without_step_numbers_is_refused_and_changes_nothing(kind):
    state = copy.deepcopy(make(kind, 2).optimizer.state_dict())
    del state["state"][1]["step"]
    made = make(kind, 3)
    before = numbers(made.optimizer)
    with pytest.raises(InputError, match="parameter 1 has no 'step'"):
        made.optimizer.load_state_dict(state)
    assert_unchanged(before, made.optimizer)


@kinds("loads any setting")
@pytest.mark.parametrize(
    ("name", "value"),
    [("lr", -1.0), ("lr", math.nan), ("betas", (0.9, 1.0)), ("eps", -1.0), ("weight_decay", math.inf)],
)
def test_state_dict_with_a_bad_setting_is_refused_and_changes_nothing(kind, name, value):
    made = make(kind, 3)
    before, state = numbers(made.optimizer), copy.deepcopy(made.optimizer.state_dict())
    state["param_groups"][0][name] = value
    with pytest.raises(ValueError, match=r"is .*, allowed: "):
        made.optimizer.load_state_dict(state)
    assert_unchanged(before, made.optimizer)


WIDE = {torch.float16: torch.float32, torch.bfloat16: torch.float32}


@kinds("rounds its averages to the type of the parameters")
@pytest.mark.parametrize("into", WIDE)
def test_state_dict_in_float32_loads_for_parameters_of_fewer_digits(kind, into):
    check_type_change(kind, torch.float32, into)


@kinds()
@pytest.mark.parametrize(
    ("of", "into"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float64), (torch.bfloat16, torch.float64)],
)
def test_state_dict_loads_for_parameters_of_more_digits(kind, of, into):
    check_type_change(kind, of, into)


def check_type_change(kind, of, into):
    params, twins = parameters(dtype=of), parameters(dtype=into)
    optimizer, fresh = kind(params, **SETTINGS), kind(twins, **SETTINGS)
    advance(optimizer, params, gradients(5, dtype=of))
    fresh.load_state_dict(optimizer.state_dict())
    for param, twin in zip(params, twins, strict=True):
        here, there = optimizer.state[param], fresh.state[twin]
        assert there["exp_avg"].dtype == WIDE.get(into, into)
        for name in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(there[name].double(), here[name].double())
        assert int(there["step"]) == int(here["step"]) == 5
    advance(fresh, twins, gradients(1, dtype=into))
    assert all(twin.isfinite().all() for twin in twins)


@kinds(only=OURS)
def test_state_of_the_librarys_adamw_goes_on_in_ours(kind):
    made, theirs = make(kind), make(LIBRARY, 6)
    made.optimizer.load_state_dict(theirs.optimizer.state_dict())
    with torch.no_grad():
        for param, other in zip(made.params, theirs.params, strict=True):
            param.copy_(other)
    for one in (made, theirs):
        advance(one.optimizer, one.params, gradients(6, seed=1))
    close(made.params, theirs.params)


@kinds(only=OURS)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"maximize": True}, "maximize is True"),
        ({"amsgrad": True}, "amsgrad is True"),
        ({"decoupled_weight_decay": False}, "decoupled_weight_decay is False"),
    ],
)
def test_state_of_an_algorithm_that_is_not_ours_is_refused(kind, settings, message):
    name = "Adam" if "decoupled_weight_decay" in settings else "AdamW"
    rest = {key: value for key, value in settings.items() if key != "decoupled_weight_decay"}
    params = parameters()
    theirs = getattr(torch.optim, name)(params, **SETTINGS, **rest)
    advance(theirs, params, gradients(2))
    made = make(kind, 1)
    before = numbers(made.optimizer)
    with pytest.raises(InputError, match=message):
        made.optimizer.load_state_dict(theirs.state_dict())
    assert_unchanged(before, made.optimizer)


@kinds()
def test_state_dict_hooks_run_and_may_replace_it(kind):
    made, seen = make(kind, 1), []
    made.optimizer.register_state_dict_pre_hook(lambda optimizer: seen.append("pre"))
    made.optimizer.register_state_dict_post_hook(lambda optimizer, state: state | {"note": 7})
    assert made.optimizer.state_dict()["note"] == 7
    assert seen == ["pre"]


@kinds()
def test_load_hooks_run_in_order_and_what_they_return_is_loaded(kind):
    made, fresh, seen = make(kind, 4), make(kind), []
    state = copy.deepcopy(made.optimizer.state_dict())
    other = copy.deepcopy(state)
    other["param_groups"][0]["lr"] = 0.5
    other["state"][0]["exp_avg"].fill_(3.0)

    def replace(_, given):
        seen.append(given["param_groups"][0]["lr"])
        return other

    def look(optimizer):
        seen.append(
            (optimizer.param_groups[0]["lr"], float(optimizer.state[fresh.params[0]]["exp_avg"][0, 0]))
        )

    fresh.optimizer.register_load_state_dict_pre_hook(replace)
    fresh.optimizer.register_load_state_dict_post_hook(look)
    fresh.optimizer.load_state_dict(state)
    assert seen == [SETTINGS["lr"], (0.5, 3.0)]
    fresh.optimizer.load_state_dict(state)
    assert len(seen) == 4  # nothing but the two hooks above has stayed


@kinds("rounds its averages before and after")
def test_hook_after_loading_sees_the_state_as_it_stays(kind):
    wide, narrow, seen = make(kind, 3), parameters(dtype=torch.bfloat16), []
    fresh = kind(narrow, **SETTINGS)
    fresh.register_load_state_dict_post_hook(lambda it: seen.append(it.state[narrow[0]]["exp_avg"].clone()))
    fresh.load_state_dict(wide.optimizer.state_dict())
    torch.testing.assert_close(
        seen[0], wide.optimizer.state[wide.params[0]]["exp_avg"].float(), rtol=0, atol=0
    )


# --------------------------------------------------------------------------------------------------- schedules
SCHEDULES = {
    "steps": lambda optimizer: lr_scheduler.StepLR(optimizer, 2, 0.5),
    "warm-up from 0": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 4)),
    "down to 0": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 10),
    "one cycle of lr and beta1": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, 12),
    "in sequence": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer, [lr_scheduler.ConstantLR(optimizer, 0.1), lr_scheduler.ExponentialLR(optimizer, 0.9)], [3]
    ),
    "on a plateau": lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, patience=1),
}


def scheduled(kind, schedule, n_steps, lr):
    """Parameters, optimiser and schedule after so many steps, and the learning rates on the way."""
    params = parameters()
    optimizer = kind(params, **SETTINGS | {"lr": lr})
    scheduler, rates = SCHEDULES[schedule](optimizer), []
    losses = [[max(3.0 - step, 0.0)] if schedule == "on a plateau" else [] for step in range(n_steps)]
    for grads, loss in zip(gradients(n_steps), losses, strict=True):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        advance(optimizer, params, [grads])
        scheduler.step(*loss)
    return params, optimizer, scheduler, rates


@kinds()
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    "make_lr", [float, lambda lr: torch.tensor(lr, dtype=torch.float64)], ids=["number", "tensor"]
)
def test_schedule_is_followed(kind, schedule, make_lr):
    params, _, _, rates = scheduled(kind, schedule, 12, make_lr(0.02))
    reference, _, _, others = scheduled(LIBRARY, schedule, 12, 0.02)
    assert rates == pytest.approx(others, rel=1e-12)
    assert len(set(rates)) > 1
    close(params, reference)


@kinds()
@pytest.mark.parametrize("schedule", ["warm-up from 0", "one cycle of lr and beta1"])
@pytest.mark.parametrize("n_steps", [0, 4])
def test_schedule_and_optimizer_go_on_from_their_states(kind, schedule, n_steps):
    """Before the first step the learning rate of the warm-up is 0, and so it is in the checkpoint."""
    straight, *_ = scheduled(kind, schedule, 10, 0.02)
    params, optimizer, scheduler, _ = scheduled(kind, schedule, n_steps, 0.02)
    twins = [torch.nn.Parameter(param.detach().clone()) for param in params]
    fresh = kind(twins, **SETTINGS)
    again = SCHEDULES[schedule](fresh)
    again.load_state_dict(scheduler.state_dict())
    fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    if schedule == "warm-up from 0" and not n_steps:
        assert fresh.param_groups[0]["lr"] == 0
    for grads in gradients(10)[n_steps:]:
        advance(fresh, twins, [grads])
        again.step()
    assert equal(twins, straight)


@kinds()
def test_learning_rate_zero_by_a_schedule_moves_nothing_and_updates_the_averages(kind):
    made = make(kind, 2)
    before = copies(made.params)
    made.optimizer.param_groups[0]["lr"] = 0.0
    advance(made.optimizer, made.params, gradients(1, seed=1))
    assert equal(before, made.params)
    assert all(int(state["step"]) == 3 for state in made.optimizer.state.values())


# ------------------------------------------------------------------------------------------------ loss scaling
class Overflow:
    """A linear loss, (x * param).sum(), of which micro-batches named in `at` overflow at scales above 2^10."""

    def __init__(self, inputs, at=()):
        self.inputs, self.at, self.n = inputs, set(at), 0

    def __call__(self, param, scaler):
        x = self.inputs[self.n]
        if self.n in self.at and scaler.get_scale() > 2**10:
            x = x * math.inf
        self.n += 1
        return (x * param).sum()


def scaler_of(scale=2.0**12):
    return torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)


@kinds()
@pytest.mark.parametrize("kappa", [1, 3])
def test_loss_scaling_with_gradients_added_up(kind, kappa):
    """The framework's own recipe: one `unscale_` a step; an overflow in any micro-batch leaves the step out."""
    inputs, scaler = torch.randn(8 * kappa, 4, generator=torch.Generator().manual_seed(0)), scaler_of()
    param, twin = (torch.nn.Parameter(torch.ones(4)) for _ in range(2))
    optimizer, reference = kind([param], **SETTINGS), LIBRARY([twin], **SETTINGS)
    loss, skipped = Overflow(inputs, at=[2 * kappa]), []
    for step in range(8):
        before = numbers(optimizer)
        for _ in range(kappa):
            scaler.scale(loss(param, scaler) / kappa).backward()
        scaler.unscale_(optimizer)
        if not param.grad.isfinite().all():
            skipped.append(step)
        else:
            twin.grad = param.grad.clone()
            reference.step()
        scaler.step(optimizer)
        scaler.update()
        if step in skipped:
            assert_unchanged(before, optimizer)
        optimizer.zero_grad()
    assert skipped == [2]
    close([param], [twin], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("overflows", [[], [0], [4], [3, 5], [5, 6], [17]])
def test_loss_scaling_of_micro_batches(overflows):
    """The recipe of the docstring. An overflow reaches neither weights nor averages, and the scale falls."""
    kappa, n_steps = 3, 6
    inputs = torch.randn(n_steps * kappa, 4, generator=torch.Generator().manual_seed(0))
    param, twin = (torch.nn.Parameter(torch.ones(4)) for _ in range(2))
    optimizer = BatchSizeInvariantAdamW([param], **SETTINGS, skip_nonfinite=True)
    reference = BatchSizeInvariantAdamW([twin], **SETTINGS)
    scaler, loss, skipped = scaler_of(), Overflow(inputs, overflows), {i // kappa for i in overflows}
    for step in range(n_steps):
        before = numbers(optimizer)
        for _ in range(kappa):
            scaler.scale(loss(param, scaler)).backward()
            scaler.unscale_(optimizer)
            optimizer.accumulate()
            scaler.update()
        optimizer.step()
        if step in skipped:
            assert_averages_and_values_unchanged(before, optimizer)
            continue
        for x in inputs[step * kappa : (step + 1) * kappa]:
            twin.grad = x.clone()
            reference.accumulate()
        reference.step()
    assert scaler.get_scale() == 2.0**12 / 2 ** len(overflows)
    close([param], [twin], rtol=1e-6, atol=1e-6)
    assert optimizer.state[param]["step"] == n_steps - len(skipped)


def assert_averages_and_values_unchanged(before, optimizer):
    """And the sums are gone; before the first batch there is no state, which is one of zeros."""
    (state,), _, values = numbers(optimizer)
    assert equal(values[0], before[2][0])
    old = (
        before[0][0] if before[0] else {"step": 0, **dict.fromkeys(("exp_avg", "exp_avg_sq"), torch.zeros(4))}
    )
    assert state["step"] == old["step"]
    for name in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(state[name], old[name])
    assert not any((state[name] != 0).any() for name in ("grad_sum", "square_sum"))


def test_without_skipping_an_infinite_gradient_shows():
    param = torch.nn.Parameter(torch.ones(2))
    optimizer = BatchSizeInvariantAdamW([param])
    for value in (1.0, math.inf):
        param.grad = torch.full((2,), value)
        optimizer.accumulate()
    optimizer.step()
    assert not param.isfinite().any()


def test_one_infinite_gradient_leaves_the_batch_out_for_every_group():
    params = parameters()
    optimizer = BatchSizeInvariantAdamW([{"params": [param]} for param in params], skip_nonfinite=True)
    advance(optimizer, params, gradients(2))
    before = numbers(optimizer)
    for value in (1.0, math.nan):
        for param in params:
            param.grad = torch.ones_like(param)
        params[1].grad[0] = value
        optimizer.accumulate()
    optimizer.step()
    assert_unchanged(before, optimizer)
