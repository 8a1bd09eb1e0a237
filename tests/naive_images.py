"""The networks of `train.images.networks` again: NumPy, float64, sums written out, weights by their names.

Nothing here is shared with the package: a convolution is a sum over its nine places, normalisation a mean and variance.
"""

import numpy as np


def convolution(x, weight, bias=None, stride=1):
    """x (n, c_in, h, w), weight (c_out, c_in, k, k) with k = 3 (padded by one) or 1."""
    k = weight.shape[-1]
    n, _, height, width = x.shape
    padded = np.zeros((n, x.shape[1], height + k - 1, width + k - 1))
    padded[:, :, k // 2 : k // 2 + height, k // 2 : k // 2 + width] = x
    out = np.zeros((n, len(weight), -(-height // stride), -(-width // stride)))
    for row in range(k):
        for column in range(k):
            seen = padded[:, :, row : row + height : stride, column : column + width : stride]
            out += np.einsum("ncij,oc->noij", seen, weight[:, :, row, column])
    return out if bias is None else out + bias[None, :, None, None]


def normalisation(x, state, name, norm, training=True):
    if norm == "none":
        return x
    scale, shift = (state[f"{name}.{part}"][None, :, None, None] for part in ("weight", "bias"))
    if norm == "batch" and not training:
        mean, variance = (state[f"{name}.running_{part}"][None, :, None, None] for part in ("mean", "var"))
    else:
        axes = (0, 2, 3) if norm == "batch" else (1, 2, 3)
        mean = x.mean(axes, keepdims=True)
        variance = ((x - mean) ** 2).mean(axes, keepdims=True)
    return scale * (x - mean) / np.sqrt(variance + 1e-5) + shift


def resnet18(x, state, norm, training=True):
    def layer(x, name, conv, norm_name, stride=1):
        out = convolution(x, state[f"{name}{conv}.weight"], stride=stride)
        return normalisation(out, state, f"{name}{norm_name}", norm, training)

    x = np.maximum(layer(x, "", "conv", "norm"), 0)
    for i_stage in range(4):
        for i_block in range(2):
            name = f"stages.{i_stage}.{i_block}."
            stride = 2 if i_stage and not i_block else 1
            y = np.maximum(layer(x, name, "conv1", "norm1", stride), 0)
            y = layer(y, name, "conv2", "norm2")
            shortcut = layer(x, name, "shortcut.0", "shortcut.1", stride) if stride == 2 else x
            x = np.maximum(y + shortcut, 0)
    return x.mean((2, 3)) @ state["output.weight"].T + state["output.bias"]


def vgg16(x, state, norm, training=True):
    i_layer = 0
    for n_convolutions in (2, 2, 3, 3, 3):
        for _ in range(n_convolutions):
            x = convolution(x, state[f"layers.{i_layer}.weight"], state[f"layers.{i_layer}.bias"])
            x = np.maximum(normalisation(x, state, f"layers.{i_layer + 1}", norm, training), 0)
            i_layer += 3
        n, c, height, width = x.shape
        x = x.reshape(n, c, height // 2, 2, width // 2, 2).max((3, 5))
        i_layer += 1
    return x.reshape(len(x), -1) @ state["output.weight"].T + state["output.bias"]


def small_cnn(x, state, norm, training=True):
    for i, stride in ((1, 1), (2, 2)):
        x = convolution(x, state[f"conv{i}.weight"], stride=stride)
        x = np.maximum(normalisation(x, state, f"norm{i}", norm, training), 0)
    return x.reshape(len(x), -1) @ state["output.weight"].T + state["output.bias"]
