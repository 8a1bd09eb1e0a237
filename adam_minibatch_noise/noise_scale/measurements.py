"""Squared norms of the last steps, and what they say of the noise scale; nothing leaves the device before one asks."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.noise_scale.estimate import NoiseEstimate, block_means, estimate_noise
from adam_minibatch_noise.ranges import Array
from adam_minibatch_noise.theory import two_batch_estimates

CHANGED = 1e-6
"""Largest relative change of the gradient, squared, between the last micro-batch and the step."""
IMPOSSIBLE = 1e-9
"""A mean that should not be negative, and is by a t test at this level, contradicts what the meter was told."""


@dataclass(frozen=True)
class Measurement:
    """One measured step.

    Attributes
    ----------
    n_seen : int
        Samples seen up to it.
    small_size, big_size : float
        Samples of a part and of the whole.
    groups : tuple of str
        Names of the rows of `squares`.
    squares : Tensor of float64, shape (n_groups, n_metrics, 2)
        |G|² of a part (its mean over all) and of the whole.
    changed : Tensor of float64, shape ()
        Relative squared change of the gradient between the last micro-batch and the step.
    """

    n_seen: int
    small_size: float
    big_size: float
    groups: tuple[str, ...]
    squares: Tensor
    changed: Tensor


class Measurements:
    """Those of the last `window` samples; who adds them counts in `n_seen` and `n_skipped` what was seen and left out.

    Parameters
    ----------
    n_samples : float
        Samples that are drawn from without replacement; may be infinite.
    window : int
    skip_infinite : bool
        Leave out what is not finite: with loss scaling such steps are not taken.
    """

    def __init__(self, n_samples: float, window: int, skip_infinite: bool) -> None:
        self.n_samples, self.window, self.skip_infinite = n_samples, window, skip_infinite
        self.n_seen = self.n_skipped = 0
        self._rows: deque[Measurement] = deque()

    def add(self, row: Measurement) -> None:
        """Take in a measurement and forget those that left the window."""
        self._rows.append(row)
        while self._rows[0].n_seen <= self.n_seen - self.window:
            self._rows.popleft()

    def _tables(self) -> tuple[list[Measurement], list[Array], Array]:
        """Return rows, their squares (n_groups, n_metrics, 2), and changes, in one transfer a kind of row."""
        rows = list(self._rows)
        if not rows and self.n_skipped:
            raise InputError(
                f"the meter has measured nothing yet: {self.n_skipped} steps had sizes that do not fit, needed: a "
                "batch of equal micro-batches, and micro_batch() after every backward pass"
            )
        if not rows:
            raise InputError(
                "the meter has measured nothing yet, needed: a step that is measured before it is read"
            )
        by_shape: dict[torch.Size, list[int]] = {}
        for i, row in enumerate(rows):
            by_shape.setdefault(row.squares.shape, []).append(i)
        squares: list[Array] = [np.empty(0)] * len(rows)
        for found in by_shape.values():
            table = torch.stack([rows[i].squares for i in found]).cpu().numpy()
            for i, entry in zip(found, table, strict=True):
                squares[i] = entry
        changes = torch.stack([row.changed for row in rows]).cpu().numpy()
        if self.skip_infinite:
            kept = [i for i, entry in enumerate(squares) if np.isfinite(entry).all()]
            rows, squares, changes = [rows[i] for i in kept], [squares[i] for i in kept], changes[kept]
        if (changes > CHANGED).any():
            raise InputError(
                "the gradient changed between the last micro_batch() and step(), needed: step() before gradients are "
                "clipped, unscaled or divided, and micro_batch() after every backward pass"
            )
        return rows, squares, changes

    def _pairs(self, rows: list[Measurement], small: Array, big: Array) -> tuple[Array, Array]:
        """Unbiased |g|² and tr(Sigma) of each row; as they are where one is not finite."""
        if not len(rows) or not (np.isfinite(small).all() and np.isfinite(big).all()):
            return small, big
        small_size, big_size = np.array([(row.small_size, row.big_size) for row in rows]).T
        return two_batch_estimates(small, big, small_size, big_size, self.n_samples)

    def estimate(self, level: float, metric: int) -> NoiseEstimate:
        """Estimate over all groups together."""
        rows, squares, _ = self._tables()
        total = np.array([entry[:, metric].sum(0) for entry in squares]).reshape(-1, 2)
        g_sq, trace = self._pairs(rows, *total.T)
        found = estimate_noise(g_sq, trace, level)
        if np.isfinite(g_sq).all() and np.isfinite(trace).all() and len(g_sq):
            _refuse_the_impossible(*block_means(g_sq, trace)[0].T)
        return found

    def estimate_groups(self, level: float, metric: int) -> dict[str, NoiseEstimate]:
        """Estimate each group by itself, over the rows that have it."""
        rows, squares, _ = self._tables()
        found: dict[str, tuple[list[Measurement], list[Array]]] = {}
        for row, entry in zip(rows, squares, strict=True):
            for group, pair in zip(row.groups, entry[:, metric], strict=True):
                with_it = found.setdefault(group, ([], []))
                with_it[0].append(row)
                with_it[1].append(pair)
        return {
            group: estimate_noise(*self._pairs(those, *np.array(pairs).T), level)
            for group, (those, pairs) in found.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything a checkpoint must hold: numbers, names and tensors on the CPU."""
        rows = [
            (row.n_seen, row.small_size, row.big_size, list(row.groups), row.squares.cpu(), row.changed.cpu())
            for row in self._rows
        ]
        counts = {name: getattr(self, name) for name in ("n_samples", "n_seen", "n_skipped")}
        return {**counts, "rows": rows}

    def load_state_dict(self, state: dict[str, Any], n_metrics: int) -> None:
        """Go on from what `state_dict` returned; refuse, by `InputError`, that of another set of samples."""
        if state["n_samples"] != self.n_samples:
            raise InputError(f"n_samples of the state is {state['n_samples']}, allowed: {self.n_samples}")
        rows = [
            Measurement(n_seen, small_size, big_size, tuple(groups), squares.clone(), changed.clone())
            for n_seen, small_size, big_size, groups, squares, changed in state["rows"]
        ]
        if any(row.squares.shape[1] != n_metrics for row in rows):
            raise InputError(
                "the state is of a meter with other metrics, needed: optimizer given to both or none"
            )
        self.n_seen, self.n_skipped, self._rows = state["n_seen"], state["n_skipped"], deque(rows)


def _refuse_the_impossible(g_sq: Array, trace: Array) -> None:
    """Refuse, by `InputError`, means of |g|² or tr(Sigma) that noise cannot have taken below zero."""
    from scipy import special

    n = len(g_sq)
    if n < 3:
        return
    bound = float(special.stdtrit(n - 1, 1 - IMPOSSIBLE))
    for values, what in (
        (g_sq, "smaller than the noise of its parts allows"),
        (trace, "larger than the gradients of its parts allow"),
    ):
        stderr = values.std(ddof=1) / n**0.5
        if values.mean() < -bound * stderr:
            raise InputError(
                f"the gradient of the whole batch is {what}, needed: a mean loss, gradients of parts and whole with "
                "the same loss scale, parts that are random samples, and the right batch_size and n_samples"
            )
