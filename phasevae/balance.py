"""Less chance in a batch: rows in such an order, and noise of such a scale, that second moments are nearly the whole's.

A VAE sees its data through their covariance first, and its noise through its variance. What a batch's differ by from
those of all rows moves the model, and averages out only as slowly as chance does; both are known, so it need not be.

Rows are divided in two again and again, each time by a walk that puts of two rows one on either side, so that the sums
of their features stay as equal as they can (Alweiss, Liu & Sawhney, "Discrepancy minimization via a self-balancing
walk", STOC 2021; for the order of training rows: Lu, Guo & De Sa, "GraB", NeurIPS 2022). Features are the
leading principal coordinates of the rows and the products of any two of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from phasevae import noise

LEAST_ROWS = 32
"""Groups of fewer than twice as many rows are not divided further."""
NOISE_ROWS, ROWS_OF_A_LATENT = 64, 16
"""Rows of a batch, at least and for each latent, whose noise is changed: a smaller one's would not look Gaussian."""
MOST_COORDINATES = 16
_ITERATIONS = 6
_WALK = 128  # steps of a walk that is not cut: longer ones balance better, more of them side by side are faster
_AXES_ROWS = 8192  # that the coordinates' axes are found from
# Features are multiples of _GRAIN and not above _LARGEST, so that sums of them, and in float64 those of products of
# two, are exact: then every device, and any number of threads, walks the same way.
_GRAIN, _LARGEST = 1 / 16, 32.0


def unit_noise(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Draws whose noise, over the rows of the batch, has the variance 1 in each latent and no covariance of two.

    z: [M, A, B, n], draws of `phasevae.elbo.reparam_kl`; mu, logvar: [M, B, n]. Returns z with its noise eps replaced
    by eps C^(-1/2), C = eps^T eps / B: the same for both signs, and normal up to order n / B. That ties the rows of a
    batch together: second moments are exact, fourth ones off by order n / B. Batches of fewer than NOISE_ROWS rows, or
    ROWS_OF_A_LATENT for each latent, are left as they are.
    """
    rows, n_latent = mu.shape[1:]
    if rows < max(NOISE_ROWS, ROWS_OF_A_LATENT * n_latent):
        return z
    deviation = (0.5 * logvar).exp()
    with torch.no_grad():
        eps = (z - mu[:, None]) / deviation[:, None]
        root = _inverse_root(eps[:, 0].mT @ eps[:, 0] / rows)
        eps = eps @ root[:, None]
    return mu[:, None] + deviation[:, None] * eps


def _inverse_root(near_one: Tensor) -> Tensor:
    """C^(-1/2) of matrices [M, n, n] whose eigenvalues lie between 0 and 3, by Newton's and Schulz's iteration: of
    products alone, which wait for no device. Six steps reach float32 between 0.3 and 2.2."""
    one = torch.eye(near_one.shape[-1], dtype=near_one.dtype, device=near_one.device)
    root, inverse = near_one, one.expand_as(near_one)
    for _ in range(_ITERATIONS):
        step = 1.5 * one - 0.5 * inverse @ root
        root, inverse = root @ step, step @ inverse
    return inverse


def groups(x: Tensor, n_coordinates: int) -> Tensor:
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


def shuffled(grouped: Tensor, streams: Tensor, epoch: Tensor) -> Tensor:
    """A permutation [streams, N] of the rows in `groups` that keeps each stretch as balanced as it is.

    At random are the order within a group and, of any two halves that were divided, which one comes first. streams:
    int64 [S], keys of `phasevae.noise`; epoch: int64 scalar on the same device.
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
