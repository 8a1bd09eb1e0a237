"""Images on the device that trains: normalised, cropped and reflected at random, and the error over a whole split."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from train.images.datasets import SPLITS, Images

EVALUATION_BATCH = 1000  # images at a time
MARGIN = 4  # pixels, of zeros around the image before it is cropped


@dataclass(frozen=True)
class OnDevice:
    """The three splits of `Images` on a device.

    Attributes
    ----------
    train, valid, test : tuple of two Tensors
        Images, uint8, (n_images, n_channels, height, width), and labels, int64, (n_images,).
    mean, std : Tensor of float32, shape (n_channels, 1, 1)
        Of the training split, over images and pixels.
    channels_last : bool
        Memory layout of the images.
    n_classes, sha256
        As in `Images`.
    """

    train: tuple[Tensor, Tensor]
    valid: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    mean: Tensor
    std: Tensor
    channels_last: bool
    n_classes: int
    sha256: str

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Take training images and labels by their numbers, in the memory layout of the whole."""
        images, labels = self.train
        return images[indices].contiguous(memory_format=layout(self.channels_last)), labels[indices]

    def normalised(self, images: Tensor) -> Tensor:
        """Turn intensities into float32 of mean 0 and variance 1 a channel (over the training split)."""
        return (images - self.mean) / self.std


def layout(channels_last: bool) -> torch.memory_format:
    """Name torch's memory layout of a four-dimensional tensor."""
    return torch.channels_last if channels_last else torch.contiguous_format


def to_device(images: Images, n_train: int, channels_last: bool, device: torch.device) -> OnDevice:
    """Put the images on a device, one byte an intensity.

    Parameters
    ----------
    images : Images
    n_train : int
        Keep the first so many training images; 0: all.
    channels_last : bool
    device : torch.device
    """
    splits = {}
    for name in SPLITS:
        n_kept = n_train or None if name == "train" else None
        pixels, labels = (torch.tensor(array[:n_kept], device=device) for array in getattr(images, name))
        splits[name] = (pixels.contiguous(memory_format=layout(channels_last)), labels)
    values = splits["train"][0].double()
    mean, std = (values.mean((0, 2, 3)), values.std((0, 2, 3), correction=0))
    moments = (value.float()[:, None, None] for value in (mean, std))
    return OnDevice(
        *(splits["train"], splits["valid"], splits["test"]),
        mean=next(moments),
        std=next(moments),
        channels_last=channels_last,
        n_classes=images.n_classes,
        sha256=images.sha256,
    )


def augmented(images: Tensor) -> Tensor:
    """Crop each image at a random place of its zero-padded self, and reflect every second one, at random.

    Parameters
    ----------
    images : Tensor, shape (n_images, n_channels, size, size)

    Returns
    -------
    Tensor
        Of the same shape, type and memory layout; draws from torch's generator of the CPU, whatever the device.
    """
    n_images, _, size, _ = images.shape
    rows, columns = torch.randint(2 * MARGIN + 1, (2, n_images, 1))
    steps = torch.arange(size)
    reflected = torch.where(torch.rand(n_images, 1) < 0.5, steps.flip(0), steps)
    place = ((rows + steps)[:, :, None], (columns + reflected)[:, None, :])  # (n_images, size, size) together
    i_row, i_column = (index.to(images.device) for index in place)
    padded = torch.nn.functional.pad(images, (MARGIN,) * 4).permute(0, 2, 3, 1)
    number = torch.arange(n_images, device=images.device)[:, None, None]
    form = torch.channels_last if images.is_contiguous(memory_format=torch.channels_last) else None
    cropped = padded[number, i_row, i_column].permute(0, 3, 1, 2)
    return cropped.contiguous(memory_format=form or torch.contiguous_format)


@torch.no_grad()
def evaluate(
    model: torch.nn.Module, forward: Callable[[Tensor], Tensor], split: tuple[Tensor, Tensor]
) -> tuple[float, float]:
    """Mean cross-entropy in nats and share of wrong answers over a split.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode meanwhile.
    forward : callable
        From uint8 images to logits, by that model.
    split : tuple of two Tensors
        Images and labels.

    Returns
    -------
    loss, error : float
    """
    model.eval()
    total = torch.zeros(2, dtype=torch.float64, device=split[1].device)
    for images, labels in zip(*(part.split(EVALUATION_BATCH) for part in split), strict=True):
        logits = forward(images).float()
        total[0] += cross_entropy(logits, labels, reduction="sum")
        total[1] += (logits.argmax(1) != labels).sum()
    model.train()
    loss, error = (total / len(split[1])).tolist()
    return loss, error
