"""Convolutional networks for small images: ResNet18 and VGG16 as used on CIFAR-10, and a small one for 8 x 8 images.

Weights start as torch starts them, which is what the usual code for CIFAR-10 keeps: uniform in +-1/sqrt(fan_in), so of
variance 1/(3 fan_in); scales of the normalisation 1, its shifts 0.

References
----------
.. [1] K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016.
.. [2] K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015.
.. [3] X. Wang, L. Aitchison, "Batch size invariant Adam", 2024, arXiv 2402.18824.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from adam_minibatch_noise.errors import InputError

WIDTHS = {"resnet18": 64, "vgg16": 64, "small-cnn": 8}
"""Channels of the first layer as published (of our own choice for small-cnn)."""
VGG16 = (1, 1, "pool", 2, 2, "pool", 4, 4, 4, "pool", 8, 8, 8, "pool", 8, 8, 8, "pool")
"""Configuration D of [2]_, channels as multiples of the first layer's."""


def build(
    name: str, norm: str = "batch", width: int = 0, in_channels: int = 3, size: int = 32, n_classes: int = 10
) -> nn.Module:
    """Make a network by its name.

    Parameters
    ----------
    name : {"resnet18", "vgg16", "small-cnn"}
    norm : {"batch", "layer", "none"}
        See `normalisation`.
    width : int >= 0
        Channels of the first layer; 0: `WIDTHS`.
    in_channels, size, n_classes : int >= 1
        Of the images: channels, height and width in pixels, classes.

    Returns
    -------
    torch.nn.Module
        From float images (n_images, in_channels, size, size) to logits (n_images, n_classes).

    Raises
    ------
    InputError
        Unknown name, or images that the network cannot take.
    """
    if name not in WIDTHS:
        raise InputError(f"model is {name!r}, allowed: {', '.join(WIDTHS)}")
    multiple = {"resnet18": 8, "vgg16": 32, "small-cnn": 2}[name]
    if size % multiple:
        raise InputError(
            f"--model is {name!r}, allowed: for images whose side is a multiple of {multiple}, not {size}"
        )
    if norm == "none" and name == "resnet18":
        raise InputError("--norm is 'none', allowed for resnet18: batch, layer")
    kind = {"resnet18": ResNet18, "vgg16": VGG, "small-cnn": SmallCNN}[name]
    return kind(norm, width or WIDTHS[name], in_channels, size, n_classes)


def normalisation(norm: str, n_channels: int) -> nn.Module:
    """Make the layer that follows a convolution.

    Parameters
    ----------
    norm : {"batch", "layer", "none"}
        "batch" couples the images of a (micro-)batch; "layer" normalises each image over its channels and pixels, the
        layer normalisation of a convolutional network ([3]_ trains ResNet18 with either); "none" does nothing.
    n_channels : int
    """
    if norm == "batch":
        return nn.BatchNorm2d(n_channels)
    return nn.GroupNorm(1, n_channels) if norm == "layer" else nn.Identity()


def conv3x3(n_in: int, n_out: int, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    """Make a 3 x 3 convolution that keeps the size of the image but for its stride."""
    return nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=bias)


class Block(nn.Module):
    """Basic residual block of [1]_: x -> relu(norm(conv(relu(norm(conv x)))) + shortcut x)."""

    def __init__(self, norm: str, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = conv3x3(n_in, n_out, stride), normalisation(norm, n_out)
        self.conv2, self.norm2 = conv3x3(n_out, n_out), normalisation(norm, n_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or n_in != n_out:
            projection = nn.Conv2d(n_in, n_out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, normalisation(norm, n_out))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, n_in, h, w) to (n, n_out, h / stride, w / stride)."""
        y = relu(self.norm1(self.conv1(x)))
        return relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet18(nn.Module):
    """ResNet18 [1]_ for 32 x 32 images: a 3 x 3 first layer without pooling; 11,173,962 parameters at width 64.

    Parameters
    ----------
    norm : {"batch", "layer"}
    width : int
        Channels of the first of four stages; each further stage has twice as many and half the side.
    in_channels, size, n_classes : int
        See `build`.
    """

    def __init__(self, norm: str, width: int, in_channels: int, size: int, n_classes: int) -> None:
        super().__init__()
        self.conv, self.norm = conv3x3(in_channels, width), normalisation(norm, width)
        channels = (width, width, 2 * width, 4 * width, 8 * width)
        stages = [
            nn.Sequential(Block(norm, n_in, n_out, stride), Block(norm, n_out, n_out, 1))
            for (n_in, n_out), stride in zip(pairwise(channels), (1, 2, 2, 2), strict=True)
        ]
        self.stages = nn.Sequential(*stages)
        self.output = nn.Linear(8 * width, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n_images, in_channels, size, size) to logits (n_images, n_classes)."""
        x = self.stages(relu(self.norm(self.conv(images))))
        return self.output(x.mean((2, 3)))


class VGG(nn.Module):
    """VGG16 [2]_ for 32 x 32 images, with normalisation and one linear layer; 14,728,266 parameters at width 64.

    The three linear layers of the original belong to 224 x 224 images. Convolutions keep their biases, as there.

    Parameters
    ----------
    norm : {"batch", "layer", "none"}
    width, in_channels, size, n_classes : int
        See `build`.
    """

    def __init__(self, norm: str, width: int, in_channels: int, size: int, n_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        n_in = in_channels
        for entry in VGG16:
            if isinstance(entry, str):  # "pool"
                layers.append(nn.MaxPool2d(2))
            else:
                n_out = entry * width
                layers += [conv3x3(n_in, n_out, bias=True), normalisation(norm, n_out), nn.ReLU()]
                n_in = n_out
        self.layers = nn.Sequential(*layers)
        self.output = nn.Linear(n_in * (size // 32) ** 2, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n_images, in_channels, size, size) to logits (n_images, n_classes)."""
        return self.output(self.layers(images).flatten(1))


class SmallCNN(nn.Module):
    """Two convolutions and a linear layer; 3,842 parameters for 8 x 8 digits at width 8.

    Parameters
    ----------
    norm : {"batch", "layer", "none"}
    width, in_channels, size, n_classes : int
        See `build`.
    """

    def __init__(self, norm: str, width: int, in_channels: int, size: int, n_classes: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = conv3x3(in_channels, width), normalisation(norm, width)
        self.conv2, self.norm2 = conv3x3(width, 2 * width, stride=2), normalisation(norm, 2 * width)
        self.output = nn.Linear(2 * width * (size // 2) ** 2, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n_images, in_channels, size, size) to logits (n_images, n_classes)."""
        x = relu(self.norm1(self.conv1(images)))
        x = relu(self.norm2(self.conv2(x)))
        return self.output(torch.flatten(x, 1))
