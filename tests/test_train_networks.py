import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from adam_minibatch_noise.errors import InputError
from tests import naive_images
from train.images.networks import WIDTHS, build

CASES = [
    ("resnet18", "batch", 2, 3, 16),
    ("resnet18", "layer", 2, 3, 8),
    ("vgg16", "batch", 2, 3, 32),
    ("vgg16", "layer", 1, 1, 64),
    ("vgg16", "none", 2, 3, 32),
    ("small-cnn", "batch", 3, 1, 8),
    ("small-cnn", "layer", 2, 1, 8),
    ("small-cnn", "none", 2, 2, 12),
]


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small are slower on two threads, and far slower where other processes want the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def n_params(model):
    return sum(param.numel() for param in model.parameters())


@pytest.mark.parametrize(
    ("name", "norm", "published"),
    [
        ("resnet18", "batch", 11_173_962),
        ("resnet18", "layer", 11_173_962),
        ("vgg16", "batch", 14_728_266),
    ],
)
def test_published_networks_have_the_published_number_of_parameters(name, norm, published):
    assert n_params(build(name, norm)) == published


def test_number_of_parameters_matches_the_sum_over_layers():
    """Layer by layer from the tables of the papers: 9 c_in c_out a convolution, 2 c a normalisation."""
    stages = [(64, 64), (64, 128), (128, 256), (256, 512)]
    resnet = 9 * 3 * 64 + 2 * 64 + 512 * 10 + 10
    for n_in, n_out in stages:
        resnet += 9 * n_in * n_out + 3 * 9 * n_out * n_out + 4 * 2 * n_out
        resnet += (n_in * n_out + 2 * n_out) * (n_in != n_out)
    channels = [3, 64, 64, 128, 128, 256, 256, 256, *[512] * 6]
    vgg = sum(9 * n_in * n_out + 3 * n_out for n_in, n_out in pairwise(channels))
    assert n_params(build("resnet18")) == resnet
    assert n_params(build("vgg16")) == vgg + 512 * 10 + 10
    assert n_params(build("vgg16", "none")) == vgg + 512 * 10 + 10 - 2 * sum(channels[1:])
    assert (
        n_params(build("small-cnn", in_channels=1, size=8)) == 9 * 8 + 9 * 8 * 16 + 2 * 24 + 16 * 16 * 10 + 10
    )


@pytest.mark.parametrize(("name", "norm", "width", "n_channels", "size"), CASES)
@pytest.mark.parametrize("training", [True, False])
def test_network_matches_naive(name, norm, width, n_channels, size, training, rng):
    torch.manual_seed(3)
    model = build(name, norm, width, n_channels, size, n_classes=7).double()
    for key, value in model.state_dict().items():  # scales, shifts and running moments that do something
        if "norm" in key or "shortcut.1" in key or (name == "vgg16" and value.ndim == 1):
            low = 0.5 if key.endswith(("weight", "running_var")) else -0.5
            if value.is_floating_point():
                value.copy_(torch.tensor(rng.uniform(low, 1.5, value.shape)))
    images = rng.standard_normal((4, n_channels, size, size))
    state = {key: value.numpy().copy() for key, value in model.state_dict().items()}  # before it runs
    model.train(training)
    naive = getattr(naive_images, name.replace("-", "_"))(images, state, norm, training)
    with torch.no_grad():
        np.testing.assert_allclose(model(torch.tensor(images)).numpy(), naive, rtol=1e-9, atol=1e-9)


class Convolutions(TorchDispatchMode):
    """Writes down the kernel size and the stride of every convolution that is computed."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution.default:
            _, weight, _, stride, *_ = args
            self.seen.append((tuple(weight.shape[2:]), tuple(stride)))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", WIDTHS)
def test_no_network_has_a_strided_1x1_convolution_on_a_cpu(name):
    """Its gradient is what oneDNN computes in memory that is not its own, at few channels in channels-last layout."""
    with Convolutions() as convolutions:
        build(name, width=2)(torch.zeros(2, 3, 32, 32))
    assert len(convolutions.seen) == {"resnet18": 20, "vgg16": 13, "small-cnn": 2}[name]
    assert not [1 for size, stride in convolutions.seen if size == (1, 1) and stride != (1, 1)]


GRADIENTS = """
import numpy as np
import torch
from train.images import networks
from train.images.networks import build

networks.relu = torch.nn.functional.softplus  # at a kink the last digit of an input decides about a gradient
rng = np.random.default_rng(0)  # torch's own numbers depend on the processor

def gradients(width, size, images, labels, last, dtype):
    torch.manual_seed(width)
    form = torch.channels_last if last else torch.contiguous_format
    model = build("resnet18", "layer", width, 3, size).to(dtype, memory_format=form)
    inputs = images.to(dtype).contiguous(memory_format=form)
    torch.nn.functional.cross_entropy(model(inputs), labels).backward()
    return torch.cat([param.grad.double().flatten() for param in model.parameters()])

for n_threads in (1, 2, 3):
    torch.set_num_threads(n_threads)
    for width, size, n_images in ((3, 32, 2), (8, 8, 8)):
        pixels, labels = rng.normal(size=(n_images, 3, size, size)), rng.integers(10, size=n_images)
        batch = torch.from_numpy(pixels), torch.from_numpy(labels)
        exact = gradients(width, size, *batch, False, torch.float64)
        for last in (False, True):
            error = (gradients(width, size, *batch, last, torch.float32) - exact).norm() / exact.norm()
            assert error < 1e-4, (n_threads, width, size, n_images, last, error)
"""


@pytest.mark.faults
@pytest.mark.parametrize("instructions", ["SSE41", "AVX2", "DEFAULT"])
def test_gradients_are_right_in_either_layout_whatever_the_instructions(instructions):
    """In float64 torch has convolutions of its own; those in float32 are oneDNN's, told which instructions to use."""
    command = [sys.executable, "-W", "error", "-c", GRADIENTS]
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": instructions}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_weights_start_with_the_stated_variance():
    torch.manual_seed(0)
    for name in WIDTHS:
        for key, module in build(name, size=32).named_modules():
            if isinstance(module, torch.nn.Conv2d) and module.weight.numel() > 5000:
                fan_in = module.weight[0].numel()
                assert module.weight.std().item() == pytest.approx((3 * fan_in) ** -0.5, rel=0.03), key
                assert module.weight.abs().max() <= fan_in**-0.5
                assert abs(module.weight.mean()) < 5 * (3 * fan_in * module.weight.numel()) ** -0.5
            if isinstance(module, torch.nn.BatchNorm2d):
                assert torch.all(module.weight == 1)
                assert torch.all(module.bias == 0)


def test_layer_normalisation_keeps_images_apart_and_batch_normalisation_does_not():
    torch.manual_seed(0)
    images = torch.randn(4, 3, 32, 32)
    for norm, apart in (("layer", True), ("batch", False)):
        model = build("resnet18", norm, width=2)
        alone = torch.cat([model(image[None]) for image in images]) if apart else model(images[:2])
        together = model(images)[: len(alone)]
        assert torch.allclose(alone, together, rtol=1e-4, atol=1e-5) is apart


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "resnet50"}, "model is 'resnet50', allowed: resnet18, vgg16, small-cnn"),
        ({"name": "vgg16", "size": 8}, "a multiple of 32, not 8"),
        ({"name": "resnet18", "size": 12}, "a multiple of 8, not 12"),
        ({"name": "resnet18", "norm": "none"}, "--norm is 'none', allowed for resnet18"),
    ],
)
def test_build_rejects(settings, message):
    with pytest.raises(InputError, match=message):
        build(**settings)
