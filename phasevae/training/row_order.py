"""Discrepancy-balanced order: every window of the training rows has nearly the second moments of the full data.

A VAE sees its data through their covariance first. The covariance of a small batch differs from that of the full data,
and this sampling noise dominates the error of the KL curve. Both covariances are known, so we choose the order of the
rows such that every window matches the full data.

The rows are divided into two halves again and again. Each division is a self-balancing walk: it assigns the two rows of
a pair to different halves such that the sums of their features stay as equal as possible (Alweiss, Liu & Sawhney,
"Discrepancy minimization via a self-balancing walk", STOC 2021; for the order of training rows: Lu, Guo & De Sa,
"GraB", NeurIPS 2022). The features are the leading principal coordinates of the rows and their pairwise products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from phasevae.errors import InputError
from phasevae.kernels import noise

LEAST_ROWS = 32
"""Groups of fewer than twice this number of rows are not divided further."""

MOST_COORDINATES = 16
MOST_FEATURES = MOST_COORDINATES * (MOST_COORDINATES + 3) // 2
_WALK = 128  # steps of a walk that is not cut: longer walks balance better, more walks side by side are faster
_AXES_ROWS = 8192  # rows from which the axes of the coordinates are computed
# Features are multiples of _GRAIN and at most _LARGEST, so that sums of them, and sums of products in float64, are
# exact. Then the walks are the same on every device and with any number of threads.
_GRAIN, _LARGEST = 1 / 16, 32.0


def balanced_groups(x: Tensor, n_coordinates: int, classes: Tensor | None = None) -> Tensor:
    """Divide the rows into balanced groups. They depend on the data alone.

    Every group is balanced, and so is every 2, 4, 8, ... groups that were one before a division. Seeds and epochs
    differ in how `shuffled_groups` arranges the groups.

    Parameters
    ----------
    x : Tensor [N, D]
        The rows.
    n_coordinates : int
        The number of leading principal coordinates to balance; MOST_COORDINATES at most.
    classes : Tensor [N], optional
        int64. Every class is balanced then, along its own coordinates. They are fewer with many classes: all classes
        together have at most MOST_FEATURES features.

    Returns
    -------
    Tensor [K, size]
        int64 row numbers, -1 where there is no row. K is a power of two, the size of a group LEAST_ROWS to twice that.
    """
    n = x.shape[0]
    n_groups = 1
    while n // (2 * n_groups) >= LEAST_ROWS:
        n_groups *= 2
    size = -(-n // n_groups)
    nodes = torch.full((1, n_groups * size), -1, dtype=torch.int64, device=x.device)
    # Missing rows are spread evenly; otherwise the last groups would be short.
    order = noise.permutation(noise.key("order", "groups"), 0, n).to(x.device)
    nodes[0, torch.arange(n, device=x.device) * nodes.shape[1] // n] = order
    k = min(n_coordinates, MOST_COORDINATES)
    features = _features(x, k) if classes is None else _features_of_classes(x, k, classes)
    features = torch.cat((features, features.new_zeros(1, features.shape[1])))
    while nodes.shape[0] < n_groups:
        first, second = nodes[:, 0::2], nodes[:, 1::2]
        sides, _ = _walk(features[first] - features[second])
        swapped = sides < 0
        halves = torch.where(swapped, second, first), torch.where(swapped, first, second)
        nodes = torch.stack(halves, 1).flatten(0, 1)
    return nodes


def shuffled_groups(grouped: Tensor, streams: Tensor, epoch: Tensor) -> Tensor:
    """Permute rows at random such that every window stays balanced.

    Random are the order within a group, and which half of each division comes first.

    Parameters
    ----------
    grouped : Tensor [K, size]
        The groups of `balanced_groups`.
    streams : Tensor [S]
        int64, keys of `phasevae.kernels.noise`.
    epoch : Tensor []
        int64 on the same device: which permutation of the streams.

    Returns
    -------
    Tensor [S, N]
        int64, a permutation of the row numbers for each stream.
    """
    n_groups, size = grouped.shape
    row = torch.zeros(1, dtype=torch.int64, device=grouped.device)
    drawn = noise.words(streams, row, n_groups * (size + 1), epoch)[:, 0]
    inside = drawn[:, n_groups:].unflatten(1, (n_groups, size)).argsort(dim=2, stable=True)
    place = torch.arange(n_groups, device=grouped.device).expand(len(streams), -1)
    # The halves of node k of a level with 2^l nodes are 2 k and 2 k + 1 of the next; node k has coin 2^l + k.
    coins = drawn[:, :n_groups] & 1
    source = torch.zeros_like(place)
    depth = n_groups.bit_length() - 1
    for level in range(depth):
        bit = (place >> (depth - 1 - level)) & 1
        source = 2 * source + (bit ^ coins.gather(1, (1 << level) + source))
    chosen = grouped[source].gather(2, inside.gather(1, source[..., None].expand(-1, -1, size)))
    return chosen[chosen >= 0].view(len(streams), -1)


def _features(x: Tensor, n_coordinates: int) -> Tensor:
    """Return the leading principal coordinates and their products, standardised, [N, k (k + 3) / 2]."""
    some = x[:: -(-x.shape[0] // _AXES_ROWS)].double().cpu()
    k = min(n_coordinates, *some.shape)
    # svd_lowrank draws from the global generator, whose state belongs to the caller.
    state = torch.default_generator.get_state()
    try:
        torch.default_generator.manual_seed(0)
        axes = torch.svd_lowrank(some - some.mean(0), q=min(2 * k, *some.shape), niter=4)[2][:, :k].to(x.device)
    finally:
        torch.default_generator.set_state(state)
    coordinates = torch.cat([rows.double() @ axes for rows in x.split(_AXES_ROWS)]).T
    columns = [_standardised(column) for column in coordinates]
    # Rounded one by one to float32: all features in float64 would take twice the memory.
    features = [_rounded(column) for column in columns]
    features += [_rounded(_standardised(columns[i] * columns[j])) for i in range(k) for j in range(i, k)]
    return torch.stack(features, 1)


def _features_of_classes(x: Tensor, n_coordinates: int, classes: Tensor) -> Tensor:
    """Return the features of each class, which are zero in the rows of the others, and a feature for its share."""
    n_classes = int(classes.max()) + 1
    k = n_coordinates
    while k > 1 and n_classes * (k * (k + 3) // 2 + 1) > MOST_FEATURES:
        k -= 1
    columns = []
    for number in range(n_classes):
        inside = classes == number
        columns.append(_rounded(_standardised(inside.double()))[:, None])
        if int(inside.sum()) < 2:
            continue
        of_class = _features(x[inside], k)
        columns.append(of_class.new_zeros(x.shape[0], of_class.shape[1]))
        columns[-1][inside] = of_class
    return torch.cat(columns, 1)


def _standardised(column: Tensor) -> Tensor:
    spread, mean = torch.std_mean(column, 0, correction=0)
    return (column - mean) / torch.where(spread > 1e-12 * column.abs().amax(), spread, torch.inf)


def _rounded(column: Tensor) -> Tensor:
    return (column.clamp(-_LARGEST, _LARGEST) / _GRAIN).round().mul_(_GRAIN).float()


def _walk(steps: Tensor) -> tuple[Tensor, Tensor]:
    """Choose signs [W, n] for the steps [W, n, d] of W walks that keep their sums small; return signs and sums [W, d].

    A long walk is cut into short walks, which run side by side; their sums are the steps of another walk.
    """
    walks, n, width = steps.shape
    if n > _WALK and n % 2 == 0:
        parts = 2
        while n // parts > _WALK and n // parts % 2 == 0:
            parts *= 2
        signs, sums = _walk(steps.reshape(walks * parts, n // parts, width))
        outer, total = _walk(sums.view(walks, parts, width))
        return (signs.view(walks, parts, -1) * outer[..., None]).flatten(1), total
    total = steps.new_zeros(walks, width, dtype=torch.float64)
    signs = steps.new_empty(n, walks)
    for step, sign in zip(steps.unbind(1), signs, strict=True):
        sign.copy_(torch.where((total * step).sum(1) > 0, -1.0, 1.0))
        total.addcmul_(step, sign[:, None])
    return signs.T, total


class RowOrder:
    """The rows that each step shows: a stream of permutations for each seed.

    Models of one seed see the same rows. A batch may contain rows of two epochs, so no row is left out.

    Parameters
    ----------
    seeds : sequence of int
        One stream each.
    pool : Tensor [n]
        int64, the row numbers to choose from. Permutations are drawn on its device.
    batch : int
        Rows of a step.
    balanced : callable, optional
        Returns the `balanced_groups` of the rows of the pool; called once, when they are first needed. None for
        independent permutations.
    """

    def __init__(self, seeds: Sequence[int], pool: Tensor, batch: int, balanced: Callable[[], Tensor] | None = None):
        streams = [noise.key("order", int(seed)) for seed in seeds]
        self._streams = torch.tensor(streams, dtype=torch.int64, device=pool.device)
        self._pool = pool
        self._batch = batch
        self._balanced = balanced
        self._grouped: Tensor | None = None
        self._epochs: dict[int, Tensor] = {}

    def rows(self, step: int, count: int = 1) -> Tensor:
        """Return the row numbers [seeds, count * batch] of `count` steps from `step` on."""
        n = self._pool.numel()
        begin, end = step * self._batch, (step + count) * self._batch
        epochs = range(begin // n, (end - 1) // n + 1)
        self._epochs = {epoch: self._epochs[epoch] if epoch in self._epochs else self._draw(epoch) for epoch in epochs}
        parts = [self._epochs[epoch][:, max(begin - epoch * n, 0) : end - epoch * n] for epoch in epochs]
        return torch.cat(parts, dim=1)

    def _draw(self, epoch: int) -> Tensor:
        """Draw a permutation of the pool for each stream, [seeds, n]: those of `noise.permutation`, or balanced."""
        counter = torch.full((), epoch, dtype=torch.int64, device=self._pool.device)
        if self._balanced:
            # Called once and dropped, with the rows that it refers to.
            self._grouped, self._balanced = self._balanced(), None
        if self._grouped is not None:
            return self._pool[shuffled_groups(self._grouped, self._streams, counter)]
        row = torch.zeros(1, dtype=torch.int64, device=self._pool.device)
        drawn = noise.words(self._streams, row, self._pool.numel(), counter)[:, 0]
        return self._pool[drawn.argsort(dim=1, stable=True)]


def split_rows(n_samples: int, holdout: float) -> tuple[Tensor, Tensor]:
    """Divide the row numbers into training and held-out rows. The split depends on the size of the data alone.

    Parameters
    ----------
    n_samples : int
        Rows of the data.
    holdout : float
        The fraction to hold out.

    Returns
    -------
    training, held_out : Tensor
        int64, each ascending.

    Raises
    ------
    InputError
        If a side that must have rows would have none.
    """
    n_held = round(holdout * n_samples)
    if holdout > 0 and not 0 < n_held < n_samples:
        raise InputError(f"holdout: {holdout} of {n_samples} samples is {n_held} rows, must leave rows on both sides")
    shuffled = noise.permutation(noise.key("order", "holdout"), 0, n_samples)
    return shuffled[n_held:].sort().values, shuffled[:n_held].sort().values
