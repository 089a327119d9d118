"""Less chance in a batch: rows in such an order, and noise of such a scale, that second moments are nearly the whole's.

A VAE sees its data through their covariance first, and its noise through its variance. What a batch's differ by from
those of all rows moves the model, and averages out only as slowly as chance does; both are known, so it need not be.

Rows are divided in two again and again, each time by a walk that puts of two rows one on either side, so that the sums
of their features stay as equal as they can (Alweiss, Liu & Sawhney, "Discrepancy minimization via a self-balancing
walk", STOC 2021; for the order of training rows: Lu, Guo & De Sa, "GraB", NeurIPS 2022). Features are the
leading principal coordinates of the rows and the products of any two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from phasevae.errors import InputError
from phasevae.kernels import noise

LEAST_ROWS = 32
"""Groups of fewer than twice as many rows are not divided further."""

MOST_COORDINATES = 16
_WALK = 128  # steps of a walk that is not cut: longer ones balance better, more of them side by side are faster
_AXES_ROWS = 8192  # that the coordinates' axes are found from
# Features are multiples of _GRAIN and not above _LARGEST, so that sums of them, and in float64 those of products of
# two, are exact: then every device, and any number of threads, walks the same way.
_GRAIN, _LARGEST = 1 / 16, 32.0


def balanced_groups(x: Tensor, n_coordinates: int) -> Tensor:
    """Row numbers of x [N, D] in K groups, a power of two: [K, LEAST_ROWS to twice as many], -1 where there is no row.

    What was divided is balanced: any group, and the 2, 4, 8, ... that were one. In so many leading coordinates,
    MOST_COORDINATES at most. Groups depend on the data alone: seeds and epochs differ in what `shuffled` makes of them.
    """
    n = x.shape[0]
    n_groups = 1
    while n // (2 * n_groups) >= LEAST_ROWS:
        n_groups *= 2
    size = -(-n // n_groups)
    nodes = torch.full((1, n_groups * size), -1, dtype=torch.int64, device=x.device)
    # Where rows are missing is spread evenly, or the last groups would be short.
    order = noise.permutation(noise.key("order", "groups"), 0, n).to(x.device)
    nodes[0, torch.arange(n, device=x.device) * nodes.shape[1] // n] = order
    features = _features(x, min(n_coordinates, MOST_COORDINATES))
    features = torch.cat((features, features.new_zeros(1, features.shape[1])))
    while nodes.shape[0] < n_groups:
        first, second = nodes[:, 0::2], nodes[:, 1::2]
        sides, _ = _walk(features[first] - features[second])
        swapped = sides < 0
        halves = torch.where(swapped, second, first), torch.where(swapped, first, second)
        nodes = torch.stack(halves, 1).flatten(0, 1)
    return nodes


def shuffled_groups(grouped: Tensor, streams: Tensor, epoch: Tensor) -> Tensor:
    """A permutation [streams, N] of the rows in `groups` that keeps each stretch as balanced as it is.

    At random are the order within a group and, of any two halves that were divided, which one comes first. streams:
    int64 [S], keys of `phasevae.kernels.noise`; epoch: int64 scalar on the same device.
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
    """Leading principal coordinates and their products, each of mean 0 and variance 1, [N, k (k + 3) / 2]."""
    some = x[:: -(-x.shape[0] // _AXES_ROWS)].double().cpu()
    k = min(n_coordinates, *some.shape)
    # It draws from the process's generator, which is not ours to change.
    state = torch.default_generator.get_state()
    try:
        torch.default_generator.manual_seed(0)
        axes = torch.svd_lowrank(some - some.mean(0), q=min(2 * k, *some.shape), niter=4)[2][:, :k].to(x.device)
    finally:
        torch.default_generator.set_state(state)
    coordinates = torch.cat([rows.double() @ axes for rows in x.split(_AXES_ROWS)]).T
    columns = [_standardised(column) for column in coordinates]
    # One after another: in float64 all would take twice the memory.
    found = [_rounded(column) for column in columns]
    found += [_rounded(_standardised(columns[i] * columns[j])) for i in range(k) for j in range(i, k)]
    return torch.stack(found, 1)


def _standardised(column: Tensor) -> Tensor:
    spread, mean = torch.std_mean(column, 0, correction=0)
    return (column - mean) / torch.where(spread > 1e-12 * column.abs().amax(), spread, torch.inf)


def _rounded(column: Tensor) -> Tensor:
    return (column.clamp(-_LARGEST, _LARGEST) / _GRAIN).round().mul_(_GRAIN).float()


def _walk(steps: Tensor) -> tuple[Tensor, Tensor]:
    """Signs [W, n] of steps [W, n, d] that keep the sums of W walks small, and these sums [W, d].

    A long walk is cut into short ones that are walked side by side, and whose sums are the steps of another walk.
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
    """Which rows of the data each step shows: a stream of permutations, one stream a seed.

    Models of one seed see the same rows; a batch may straddle two epochs, so no row is left out. Permutations are
    drawn on the device of `pool`, the rows to choose from; by chance alone nothing waits for it. balanced: gives
    `balanced_groups` of the pool's rows when it is first needed, None where any order will do.
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
        """Row numbers [seeds, count * batch] of `count` steps from `step` on."""
        n = self._pool.numel()
        begin, end = step * self._batch, (step + count) * self._batch
        epochs = range(begin // n, (end - 1) // n + 1)
        self._epochs = {epoch: self._epochs[epoch] if epoch in self._epochs else self._draw(epoch) for epoch in epochs}
        parts = [self._epochs[epoch][:, max(begin - epoch * n, 0) : end - epoch * n] for epoch in epochs]
        return torch.cat(parts, dim=1)

    def _draw(self, epoch: int) -> Tensor:
        """One permutation of the pool a stream, [seeds, n]: those of `noise.permutation`, or balanced."""
        counter = torch.full((), epoch, dtype=torch.int64, device=self._pool.device)
        if self._balanced:
            # What it holds of the data is needed once.
            self._grouped, self._balanced = self._balanced(), None
        if self._grouped is not None:
            return self._pool[shuffled_groups(self._grouped, self._streams, counter)]
        row = torch.zeros(1, dtype=torch.int64, device=self._pool.device)
        drawn = noise.words(self._streams, row, self._pool.numel(), counter)[:, 0]
        return self._pool[drawn.argsort(dim=1, stable=True)]


def split_rows(n_samples: int, holdout: float) -> tuple[Tensor, Tensor]:
    """Row numbers for training and held out, each ascending; the split depends on the data's size alone.

    Raises InputError when no row is left on a side that must have one.
    """
    n_held = round(holdout * n_samples)
    if holdout > 0 and not 0 < n_held < n_samples:
        raise InputError(f"holdout: {holdout} of {n_samples} samples is {n_held} rows, must leave rows on both sides")
    shuffled = noise.permutation(noise.key("order", "holdout"), 0, n_samples)
    return shuffled[n_held:].sort().values, shuffled[:n_held].sort().values
