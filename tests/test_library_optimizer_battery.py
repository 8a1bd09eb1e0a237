"""What any optimiser of PyTorch is asked to do, of both of ours and of the library's own: settings, groups, steps."""

import gc
import math
import weakref

import pytest
import torch

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


# ------------------------------------------------------------------------------------------ groups and settings
@kinds()
def test_all_three_have_one_formula(kind):
    got, want = make(kind, 50), make(LIBRARY, 50)
    close(got.params, want.params)


@kinds()
def test_each_group_has_its_own_settings(kind):
    own = {"lr": 1e-3, "betas": (0.5, 0.6), "weight_decay": 0.3, "eps": 1e-3}
    params = parameters()
    optimizer = kind([{"params": params[:1], **own}, {"params": params[1:]}], **SETTINGS)
    advance(optimizer, params, gradients(5))
    for part, settings in ((slice(0, 1), own), (slice(1, None), {})):
        alone = parameters()[part]
        advance(kind(alone, **SETTINGS | settings), alone, [step[part] for step in gradients(5)])
        close(params[part], alone)


@kinds()
def test_a_group_added_later_begins_its_own_averages(kind):
    params = parameters()
    optimizer = kind(params[:2], **SETTINGS)
    advance(optimizer, params[:2], [step[:2] for step in gradients(4)])
    optimizer.add_param_group({"params": params[2:], "lr": 1e-3})
    assert optimizer.param_groups[1]["weight_decay"] == SETTINGS["weight_decay"]
    advance(optimizer, params, gradients(4, seed=1))
    alone = parameters()[2:]
    advance(kind(alone, **SETTINGS | {"lr": 1e-3}), alone, [step[2:] for step in gradients(4, seed=1)])
    close(params[2:], alone)


BAD = [
    ("lr", -1.0),
    ("lr", math.nan),
    ("betas", (1.0, 0.9)),
    ("betas", (0.9, -0.1)),
    ("betas", (0.9, math.nan)),
    ("eps", -1e-8),
    ("weight_decay", -0.1),
    ("weight_decay", math.nan),
]


@kinds()
@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_setting_is_refused(kind, name, value):
    with pytest.raises(ValueError, match="is .*, allowed: " if kind in OURS else "Invalid"):
        kind(parameters(), **SETTINGS | {name: value})


@kinds()
@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_default_is_refused_also_where_every_group_has_its_own(kind, name, value):
    with pytest.raises(ValueError, match="is .*, allowed: " if kind in OURS else "Invalid"):
        kind([{"params": parameters(), name: SETTINGS[name]}], **SETTINGS | {name: value})


@kinds("checks the defaults only")
@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_setting_of_a_later_group_is_refused(kind, name, value):
    params = parameters()
    with pytest.raises(ValueError, match=r" is .*, allowed: "):
        kind([{"params": params[:1]}, {"params": params[1:], name: value}], **SETTINGS)


@kinds("checks the defaults only")
@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_setting_of_an_added_group_is_refused_and_nothing_added(kind, name, value):
    params = parameters()
    optimizer = kind(params[:1], **SETTINGS)
    with pytest.raises(ValueError, match=r" is .*, allowed: "):
        optimizer.add_param_group({"params": params[1:], name: value})
    assert len(optimizer.param_groups) == 1


@kinds("takes an infinite one")
@pytest.mark.parametrize("name", ["lr", "eps", "weight_decay"])
def test_infinite_setting_is_refused(kind, name):
    with pytest.raises(ValueError, match=f"{name} is inf"):
        kind(parameters(), **SETTINGS | {name: math.inf})


@kinds(only=OURS)
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("eps_root", -1.0, "eps_root is -1.0, allowed: a finite number >= 0"),
        ("eps_root", math.nan, "eps_root is nan"),
        ("lr", torch.tensor([1e-3, 1e-3]), "lr is .*, allowed: a finite number > 0"),
        ("lr", torch.tensor(-1.0), "lr is -1.0"),
        ("lr", "0.1", "lr is 0.1, allowed: a finite number"),
        ("betas", (torch.tensor(0.9), torch.tensor(1.0)), "beta2 is 1.0"),
        ("betas", (0.9,), "betas is .*, allowed: two numbers"),
        ("betas", 0.9, "betas is 0.9, allowed: two numbers"),
        ("betas", (0.9, None), "beta2 is None"),
    ],
)
def test_message_of_a_refusal_names_the_setting_and_what_is_allowed(kind, name, value, message):
    with pytest.raises(InputError, match=message):
        kind(parameters(), **SETTINGS | {name: value})
    with pytest.raises(InputError, match=message):
        kind([{"params": parameters(), name: value}], **SETTINGS)


@kinds(only=OURS)
@pytest.mark.parametrize("name", ["amsgrad", "maximize", "differentiable", "capturable", "fused"])
def test_switch_that_is_not_offered_is_refused_and_not_ignored(kind, name):
    with pytest.raises(TypeError, match=name):
        kind(parameters(), **{name: True})
    with pytest.raises(InputError, match=f"{name} is True, allowed: False"):
        kind([{"params": parameters(), name: True}])
    assert not kind([{"params": parameters(), name: False}]).param_groups[0][name]
    assert name in kind.__doc__


@kinds()
def test_extra_entries_of_a_group_are_kept(kind):
    optimizer = kind([{"params": parameters(), "layer": 3}], **SETTINGS)
    assert optimizer.param_groups[0]["layer"] == optimizer.state_dict()["param_groups"][0]["layer"] == 3


@kinds()
def test_parameters_may_come_from_an_iterator(kind):
    params = parameters()
    optimizer = kind(iter(params), **SETTINGS)
    advance(optimizer, params, gradients(3))
    close(params, make(kind, 3).params)


@kinds()
def test_named_parameters_keep_their_names(kind):
    model = torch.nn.Linear(2, 3)
    optimizer = kind(model.named_parameters(), **SETTINGS)
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    model(torch.ones(2)).sum().backward()
    optimizer.step()
    fresh = kind(torch.nn.Linear(2, 3).named_parameters(), **SETTINGS)
    fresh.load_state_dict(optimizer.state_dict())
    assert fresh.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]


@kinds()
@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        (list, ValueError, "empty parameter list"),
        (lambda: torch.nn.Parameter(torch.ones(2)), TypeError, "iterable of Tensors or dicts"),
        (lambda: [{"params": {torch.ones(2)}}], TypeError, "ordered collections"),
        (lambda: [1.0], TypeError, "can only optimize Tensors"),
        (lambda: [2 * torch.ones(2, requires_grad=True)], ValueError, "non-leaf"),
        (lambda: [("a", torch.ones(2)), torch.ones(2)], ValueError, "with/without names"),
        (lambda: 2 * [{"params": [PARAM]}], ValueError, "more than one parameter group"),
        (lambda: 2 * [PARAM], UserWarning, "duplicate parameters"),
    ],
)
def test_what_is_no_list_of_parameters_is_refused(kind, params, error, message):
    with pytest.raises(error, match=message):
        kind(params(), **SETTINGS)


PARAM = torch.nn.Parameter(torch.ones(2))


@kinds()
def test_a_group_may_be_empty(kind):
    params = parameters()
    optimizer = kind([{"params": []}, {"params": params}], **SETTINGS)
    advance(optimizer, params, gradients(3))
    close(params, make(kind, 3).params)


@kinds()
def test_repr_shows_the_class_and_the_settings_of_each_group(kind):
    optimizer = kind([{"params": [param]} for param in parameters()], **SETTINGS)
    text = repr(optimizer)
    assert text.startswith(kind.__name__)
    assert text.count("lr: 0.01") == text.count("Parameter Group") == 3


@pytest.mark.parametrize(
    ("kind", "differs"),
    [(Adam, {"eps": 0.0, "weight_decay": 0.0}), (BatchSizeInvariantAdamW, {})],
    ids=["Adam", "BatchSizeInvariantAdamW"],
)
def test_defaults_are_those_of_the_library_or_stated(kind, differs):
    ours, theirs = (of(parameters()).defaults for of in (kind, LIBRARY))
    for name in SETTINGS:
        assert ours[name] == differs.get(name, theirs[name]), name


@kinds()
def test_optimizer_is_freed_when_nothing_refers_to_it(kind):
    made = make(kind, 1)
    made.optimizer.load_state_dict(made.optimizer.state_dict())
    gone = weakref.ref(made.optimizer)
    gc.disable()
    try:
        del made
        assert gone() is None
    finally:
        gc.enable()


# ------------------------------------------------------------------------------------------------- gradients
@kinds()
def test_parameter_without_a_gradient_is_left_alone(kind):
    """Neither decay nor its step number: the first gradient it gets has the bias correction of a first step."""
    params, grads = parameters(), gradients(6)
    late = [[*step[:2], None] for step in grads[:3]]
    optimizer = kind(params, **SETTINGS)
    advance(optimizer, params, late)
    assert torch.equal(params[2], parameters()[2])
    assert not optimizer.state.get(params[2])
    advance(optimizer, params, grads[3:])
    alone = parameters()[2:]
    advance(kind(alone, **SETTINGS), alone, [step[2:] for step in grads[3:]])
    close(params, [*make(kind, 6).params[:2], *alone])


@kinds()
def test_step_without_any_gradient_does_nothing(kind):
    made = make(kind, 2)
    made.optimizer.zero_grad()
    before = numbers(made.optimizer)
    made.optimizer.step()
    assert_unchanged(before, made.optimizer)


@kinds()
def test_frozen_parameter_is_left_alone(kind):
    frozen, free = torch.nn.Parameter(torch.ones(3), requires_grad=False), torch.nn.Parameter(torch.ones(3))
    optimizer = kind([frozen, free], **SETTINGS)
    (frozen * free).sum().backward()
    optimizer.step()
    assert torch.equal(frozen, torch.ones(3))
    assert (free != 1).all()


@kinds()
def test_zero_gradient_leaves_decay_alone(kind):
    params = parameters()
    advance(kind(params, **SETTINGS), params, [[torch.zeros(shape, dtype=torch.float64) for shape in SHAPES]])
    shrink = 1 - SETTINGS["lr"] * SETTINGS["weight_decay"]
    close(params, [shrink * param for param in parameters()])


@kinds()
@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad_clears_the_gradients(kind, set_to_none):
    """To none: no step; to zeros: a step with gradient zero."""
    made = make(kind, 2)
    for param, grad in zip(made.params, gradients(1)[0], strict=True):
        param.grad = grad
    made.optimizer.zero_grad(set_to_none)
    if set_to_none:
        assert all(param.grad is None for param in made.params)
    before = copies(made.params)
    made.optimizer.step()
    assert equal(before, made.params) == set_to_none
    twin = make(kind, 2)
    if not set_to_none:
        advance(twin.optimizer, twin.params, [[torch.zeros_like(param) for param in twin.params]])
    assert equal(made.params, twin.params)


@kinds()
def test_step_does_not_change_the_gradients_given(kind):
    params, (grads,) = parameters(), gradients(1)
    given = [grad.clone() for grad in grads]
    for param, grad in zip(params, given, strict=True):
        param.grad = grad
    kind(params, **SETTINGS).step()
    assert equal(given, grads)


@kinds("moves the groups before the one with the sparse gradient")
def test_step_with_a_sparse_gradient_is_refused_before_anything_moves(kind):
    params = parameters()
    optimizer = kind([{"params": [param]} for param in params], **SETTINGS)
    advance(optimizer, params, gradients(2))
    before = numbers(optimizer)
    for param, grad in zip(params, gradients(1)[0], strict=True):
        param.grad = grad
    params[1].grad = params[1].grad.to_sparse()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()
    assert_unchanged(before, optimizer)
    params[1].grad = params[1].grad.to_dense()
    optimizer.step()
    twin = make(kind, 2)
    advance(twin.optimizer, twin.params, gradients(1))
    close(params, twin.params)


@kinds("moves the groups before the one with the bad setting")
def test_step_with_an_unusable_setting_is_refused_before_anything_moves(kind):
    params = parameters()
    optimizer = kind([{"params": [param]} for param in params], **SETTINGS)
    advance(optimizer, params, gradients(2))
    before = numbers(optimizer)
    optimizer.param_groups[1]["betas"] = (0.9, None)
    for param, grad in zip(params, gradients(1)[0], strict=True):
        param.grad = grad
    with pytest.raises(TypeError):
        optimizer.step()
    optimizer.param_groups[1]["betas"] = SETTINGS["betas"]
    assert_unchanged(before, optimizer)


@kinds()
def test_gradient_that_is_part_of_a_graph_is_used_as_it_is(kind):
    param = torch.nn.Parameter(torch.ones(3))
    optimizer = kind([param], **SETTINGS)
    param.grad = torch.ones(3, requires_grad=True) * 2
    optimizer.step()
    assert param.is_leaf
    assert param.requires_grad
    states = [value for value in optimizer.state[param].values() if torch.is_tensor(value)]
    assert not any(value.requires_grad for value in states)


def test_micro_batch_gradient_that_is_part_of_a_graph_is_added_without_it():
    param = torch.nn.Parameter(torch.ones(3))
    optimizer = BatchSizeInvariantAdamW([param], **SETTINGS)
    param.grad = torch.ones(3, requires_grad=True) * 2
    optimizer.accumulate()
    states = [value for value in optimizer.state[param].values() if torch.is_tensor(value)]
    assert len(states) == 4
    assert not any(value.requires_grad for value in states)


@kinds()
def test_closure_is_called_once_with_gradients_on_and_its_value_returned(kind):
    param = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = kind([param], **SETTINGS)
    losses = []

    def closure():
        optimizer.zero_grad()
        loss = (param**2).sum()
        loss.backward()
        losses.append(loss)
        return loss

    with torch.no_grad():
        for _ in range(20):
            assert optimizer.step(closure) is losses[-1]
    assert len(losses) == 20
    assert losses[-1] < losses[0]
    assert optimizer.step() is None


@kinds()
def test_step_hooks_run_before_and_after_and_can_be_taken_away(kind):
    made, seen = make(kind), []
    pre = made.optimizer.register_step_pre_hook(lambda _, *__: seen.append(("pre", copies(made.params))))
    made.optimizer.register_step_post_hook(lambda _, *__: seen.append(("post", copies(made.params))))
    advance(made.optimizer, made.params, gradients(1))
    assert [name for name, _ in seen] == ["pre", "post"]
    assert equal(seen[0][1], parameters())
    assert equal(seen[1][1], made.params)
    pre.remove()
    advance(made.optimizer, made.params, gradients(1))
    assert [name for name, _ in seen] == ["pre", "post", "post"]


@kinds()
def test_pre_hook_may_replace_the_arguments(kind):
    made = make(kind)
    made.optimizer.register_step_pre_hook(lambda *_: ((made.optimizer, lambda: 7.0), {}))
    assert made.optimizer.step() == 7.0


# ------------------------------------------------------------------------------------------- kinds of parameters
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128]


@kinds()
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_every_type_follows_double_precision(kind, dtype):
    """To a rounding of the parameters a step; complex ones as pairs."""
    n_steps, grads = 8, gradients(8, dtype=dtype)
    params, reference = parameters(dtype=dtype), parameters(dtype=dtype)
    advance(kind(params, **SETTINGS), params, grads)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    pairs = torch.view_as_real if dtype.is_complex else torch.clone
    reference = [torch.nn.Parameter(pairs(param.detach().to(wide))) for param in reference]
    advance(
        LIBRARY(reference, **SETTINGS), reference, [[pairs(grad.to(wide)) for grad in step] for step in grads]
    )
    for param, want in zip(params, reference, strict=True):
        assert param.dtype == dtype
        assert (param.detach() != 0).any()
        eps = torch.finfo(dtype).eps
        torch.testing.assert_close(
            pairs(param.detach().to(wide)), want.detach(), rtol=n_steps * eps, atol=n_steps * eps
        )


@kinds()
def test_complex_parameter_is_two_real_ones(kind):
    """Gradient 1 + 0.1i at 1 + i, learning rate 0.1, first step: both parts move by the learning rate."""
    z = torch.nn.Parameter(torch.tensor([1 + 1j]))
    z.grad = torch.tensor([1 + 0.1j])
    kind([z], lr=0.1, eps=0.0, weight_decay=0.0).step()
    torch.testing.assert_close(z.detach(), torch.tensor([0.9 + 0.9j]))


@kinds()
def test_complex_trajectory_has_the_bits_of_the_real_one(kind):
    shapes = [(4, 3), (2,), ()]
    params = parameters(shapes=shapes, dtype=torch.complex64)
    twins = [torch.nn.Parameter(torch.view_as_real(param.detach()).clone()) for param in params]
    grads = gradients(10, shapes=shapes, dtype=torch.complex64)
    advance(kind(params, **SETTINGS), params, grads)
    advance(kind(twins, **SETTINGS), twins, [[torch.view_as_real(grad) for grad in step] for step in grads])
    assert equal([torch.view_as_real(param.detach()) for param in params], twins)


@kinds("takes no view of a conjugate as a gradient")
def test_conjugate_view_as_gradient(kind):
    params, twins = (parameters(dtype=torch.complex128) for _ in range(2))
    grads = gradients(3, dtype=torch.complex128)
    for step in grads:
        for param, grad in zip(params, step, strict=True):
            param.grad = grad.conj()
        kind(params, **SETTINGS).step()
    for step in grads:
        for twin, grad in zip(twins, step, strict=True):
            twin.grad = grad.conj().resolve_conj()
        kind(twins, **SETTINGS).step()
    assert equal(params, twins)


@kinds("keeps its averages in bfloat16")
def test_averages_of_bfloat16_parameters_fall(kind):
    """After gradients of 1 come gradients of 0: v falls by 0.999 a step, which bfloat16 cannot tell from 1."""
    param = torch.nn.Parameter(torch.zeros(4, dtype=torch.bfloat16))
    optimizer = kind([param], lr=1e-3, betas=(0.9, 0.999))
    for value in [1.0] * 50 + [0.0] * 500:
        param.grad = torch.full_like(param, value)
        optimizer.step()
    want = (1 - 0.999**50) * 0.999**500
    got = optimizer.state[param]["exp_avg_sq"].double()
    torch.testing.assert_close(got, torch.full_like(got, want), rtol=1e-4, atol=0)


@kinds()
def test_parameters_of_no_dimension_and_of_no_element(kind):
    shapes = [(), (0,), (3, 0), (1,), (2,)]
    params, twins = parameters(shapes=shapes), parameters(shapes=shapes)
    optimizer = kind(params, **SETTINGS)
    advance(optimizer, params, gradients(4, shapes=shapes))
    advance(LIBRARY(twins, **SETTINGS), twins, gradients(4, shapes=shapes))
    close(params, twins)
    assert [tuple(optimizer.state[param]["exp_avg"].shape) for param in params] == shapes


LAYOUTS = {
    "transposed": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "every second": lambda x: torch.stack([x, x], -1)[..., 0],
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
}


@kinds()
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_in_memory_changes_nothing(kind, layout):
    shapes, lay = [(2, 3, 4, 5)], LAYOUTS[layout]
    params = [torch.nn.Parameter(lay(param.detach())) for param in parameters(shapes=shapes)]
    assert not params[0].is_contiguous()
    twins, grads = parameters(shapes=shapes), gradients(4, shapes=shapes)
    optimizer = kind(params, **SETTINGS)
    advance(optimizer, params, [[lay(grad) for grad in step] for step in grads])
    advance(kind(twins, **SETTINGS), twins, grads)
    assert equal(params, twins)
    if layout != "every second":  # an array with gaps has a state without
        assert optimizer.state[params[0]]["exp_avg"].stride() == params[0].stride()


@kinds()
def test_types_may_be_mixed_in_a_group(kind):
    """Each as if it were alone; without eps a component without gradient is 0/0 by the bounds of its own type."""
    settings = SETTINGS | {"eps": 0.0 if kind in OURS else 1e-3}

    def mixed():
        return [torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=dtype)) for dtype in DTYPES]

    def grads():
        return [[torch.tensor([0.5 + step, 0.0], dtype=dtype) for dtype in DTYPES] for step in range(4)]

    params = mixed()
    advance(kind(params, **settings), params, grads())
    for i, (param, alone) in enumerate(zip(params, mixed(), strict=True)):
        advance(kind([alone], **settings), [alone], [[step[i]] for step in grads()])
        assert equal([param], [alone])


@kinds()
def test_devices_may_be_mixed_in_a_group(kind):
    """Meta is a device without numbers: the shapes are there, and the CPU's numbers are as ever."""
    params = parameters()
    far = torch.nn.Parameter(torch.ones(3, device="meta", dtype=torch.float64))
    optimizer = kind([far, *params], **SETTINGS)
    advance(optimizer, [far, *params], [[torch.ones_like(far), *step] for step in gradients(3)])
    close(params, make(kind, 3).params)
    assert optimizer.state[far]["exp_avg"].device.type == "meta"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@kinds()
def test_a_cuda_device_and_the_cpu_in_a_group(kind):
    params = [*parameters(), *(torch.nn.Parameter(param.detach().cuda()) for param in parameters())]
    optimizer = kind(params, **SETTINGS)
    advance(optimizer, params, [[*step, *(grad.cuda() for grad in step)] for step in gradients(5)])
    close([param.cpu() for param in params], 2 * make(kind, 5).params, rtol=1e-9, atol=1e-9)


@kinds()
def test_same_start_same_bits(kind):
    one, other = make(kind, 20), make(kind, 20)
    assert equal(one.params, other.params)
    assert one.optimizer.state_dict()["param_groups"] == other.optimizer.state_dict()["param_groups"]


def batches_of_three(dtype):
    grads = gradients(9, dtype=dtype)
    return [grads[i : i + 3] for i in (0, 3, 6)]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("kind", ["invariant", "invariant, kappa 3", "Adam"])
def test_all_at_once_or_one_at_a_time_gives_the_same_bits(kind, dtype):
    ends = []
    for together in (True, False):
        params = parameters(dtype=dtype)
        groups = [params] if together else [[param] for param in params]
        if kind == "Adam":
            optimizer = Adam([{"params": group} for group in groups], **SETTINGS)
        else:
            optimizer = BatchSizeInvariantAdamW(params, **SETTINGS, foreach=together)
        for grads in batches_of_three(dtype):
            for step in grads:
                for param, grad in zip(params, step, strict=True):
                    param.grad = grad.clone()
                if kind == "invariant, kappa 3":
                    optimizer.accumulate()
                else:
                    optimizer.step()
            if kind == "invariant, kappa 3":
                optimizer.step()
        ends.append(params)
    assert equal(*ends)
