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

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial

import torch
from torch import Tensor

from phasevae.kernels import noise
from phasevae.training.chapters import Chapters
from phasevae.training.device import sent

LEAST_ROWS = 32
"""Groups of fewer than twice this number of rows are not divided further."""

MOST_COORDINATES = 16
MOST_FEATURES = MOST_COORDINATES * (MOST_COORDINATES + 3) // 2
_WALK = 128  # steps of a walk that is not cut: longer walks balance better, more walks side by side are faster
_AXES_ROWS = 8192  # rows from which the axes of the coordinates are computed
_BLOCK_NUMBERS = 2**23  # most numbers of the rows that are asked for at a time
_KEPT_GROUPS = 16  # chapters whose groups are kept, 2 MiB each
# Features are multiples of _GRAIN and at most _LARGEST, so that sums of them, and sums of products in float64, are
# exact. Then the walks are the same on every device and with any number of threads.
_GRAIN, _LARGEST = 1 / 16, 32.0


def balanced_groups(
    take: Callable[[Tensor], Tensor],
    rows: Tensor,
    axes: Tensor | Sequence[Tensor],
    classes: Tensor | None = None,
) -> Tensor:
    """Divide rows into balanced groups. They depend on the data alone.

    Every group is balanced, and so is every 2, 4, 8, ... groups that were one before a division. Seeds and epochs
    differ in how `shuffled_groups` arranges the groups.

    Parameters
    ----------
    take : callable
        `take(numbers)` returns the rows of the data with these numbers, [n, D]. At most one block of them is asked for.
    rows : Tensor [N]
        int64, the numbers of the rows to divide.
    axes : Tensor [D, k], or a sequence of them
        Those of the coordinates to balance, `principal_axes`; of each class if there are any.
    classes : Tensor [N], optional
        int64, the class of each row. Every class is balanced then, and so is its share.

    Returns
    -------
    Tensor [K, size]
        int64 places in `rows`, -1 where there is no row. K is a power of two, the size of a group LEAST_ROWS to twice
        that.
    """
    n = rows.numel()
    n_groups = 1
    while n // (2 * n_groups) >= LEAST_ROWS:
        n_groups *= 2
    size = -(-n // n_groups)
    nodes = torch.full((1, n_groups * size), -1, dtype=torch.int64, device=rows.device)
    # Missing rows are spread evenly; otherwise the last groups would be short.
    order = noise.permutation(noise.key("order", "groups"), 0, n).to(rows.device)
    nodes[0, torch.arange(n, device=rows.device) * nodes.shape[1] // n] = order
    features = _features(take, rows, axes) if classes is None else _features_of_classes(take, rows, axes, classes)
    features = torch.cat((features, features.new_zeros(1, features.shape[1])))
    while nodes.shape[0] < n_groups:
        first, second = nodes[:, 0::2], nodes[:, 1::2]
        sides, _ = _walk(features[first].sub_(features[second]))
        swapped = sides < 0
        halves = torch.where(swapped, second, first), torch.where(swapped, first, second)
        nodes = torch.stack(halves, 1).flatten(0, 1)
    return nodes


def principal_axes(take: Callable[[Tensor], Tensor], rows: Tensor, n_axes: int) -> Tensor:
    """Compute leading principal axes of the data, from at most 8,192 rows that are spread evenly.

    Parameters
    ----------
    take : callable
        As for `balanced_groups`.
    rows : Tensor [N]
        int64, the numbers of the rows.
    n_axes : int
        How many; MOST_COORDINATES at most.

    Returns
    -------
    Tensor [D, k]
        float64, on the device of the rows. k is smaller than `n_axes` if there are fewer rows or features.
    """
    chosen, start = rows[:: -(-rows.numel() // _AXES_ROWS)], 0
    some = torch.empty(len(chosen), take(chosen[:1]).shape[1], dtype=torch.float64)
    for block in _blocks(take, chosen):
        some[start : start + len(block)] = block
        start += len(block)
    some -= some.mean(0)
    k = min(n_axes, MOST_COORDINATES, *some.shape)
    # svd_lowrank draws from the global generator, whose state belongs to the caller.
    state = torch.default_generator.get_state()
    try:
        torch.default_generator.manual_seed(0)
        return torch.svd_lowrank(some, q=min(2 * k, *some.shape), niter=4)[2][:, :k].to(rows.device)
    finally:
        torch.default_generator.set_state(state)


def shuffled_groups(grouped: Tensor, n_rows: int, streams: Tensor, epoch: Tensor) -> Tensor:
    """Permute rows at random such that every window stays balanced.

    Random are the order within a group, and which half of each division comes first. The host does not wait for the
    device.

    Parameters
    ----------
    grouped : Tensor [K, size]
        The groups of `balanced_groups`.
    n_rows : int
        N, the number of rows in them.
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
    chosen = grouped[source].gather(2, inside.gather(1, source[..., None].expand(-1, -1, size))).flatten(1)
    # The rows in front of the missing ones, both in their order. A mask as an index would make the host wait.
    present_first = (chosen < 0).to(torch.uint8).argsort(dim=1, stable=True)
    return chosen.gather(1, present_first[:, :n_rows])


def _blocks(take: Callable[[Tensor], Tensor], rows: Tensor) -> Iterator[Tensor]:
    """Yield the rows with these numbers, in float64, in blocks of at most _BLOCK_NUMBERS numbers."""
    width = take(rows[:1]).shape[1]
    for some in rows.split(min(_AXES_ROWS, max(1, _BLOCK_NUMBERS // width))):
        yield take(some).double()


def _features(take: Callable[[Tensor], Tensor], rows: Tensor, axes: Tensor) -> Tensor:
    """Return the coordinates of rows and their products, standardised, [N, k (k + 3) / 2]."""
    k = axes.shape[1]
    # One tensor from the start: small ones kept between the large blocks would leave the heap in pieces.
    coordinates, start = axes.new_empty(rows.numel(), k), 0
    for block in _blocks(take, rows):
        coordinates[start : start + len(block)] = block @ axes
        start += len(block)
    columns = [_standardised(column) for column in coordinates.T]
    # Rounded one by one to float32: all features in float64 would take twice the memory.
    features = [_rounded(column) for column in columns]
    features += [_rounded(_standardised(columns[i] * columns[j])) for i in range(k) for j in range(i, k)]
    return torch.stack(features, 1)


def _features_of_classes(
    take: Callable[[Tensor], Tensor], rows: Tensor, axes: Sequence[Tensor], classes: Tensor
) -> Tensor:
    """Return the features of each class, which are zero in the rows of the others, and a feature for its share."""
    columns = []
    for number, of_class in enumerate(axes):
        inside = classes == number
        columns.append(_rounded(_standardised(inside.double()))[:, None])
        if int(inside.sum()) >= 2:
            features = _features(take, rows[inside], of_class)
            columns.append(features.new_zeros(len(rows), features.shape[1]))
            columns[-1][inside] = features
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

    Models of one seed see the same rows. A batch may contain rows of two epochs, so no row is left out. Every epoch
    goes through the chapters of the data in an order of its own, and through each of them in a permutation of its own.

    Parameters
    ----------
    seeds : sequence of int
        One stream each.
    chapters : Chapters
        The rows to choose from.
    batch : int
        Rows of a step.
    device : torch.device or str
        Where permutations are drawn.
    take : callable, optional
        Returns rows of the data, as for `balanced_groups`. None for independent permutations.
    n_axes : int
        Principal axes along which the order is balanced.
    classes : Tensor [N], optional
        int64, the class of each row of the data. Every class is balanced along axes of its own, which are fewer with
        many classes: all together have at most MOST_FEATURES features.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        chapters: Chapters,
        batch: int,
        device: torch.device | str = "cpu",
        take: Callable[[Tensor], Tensor] | None = None,
        n_axes: int = 0,
        classes: Tensor | None = None,
    ):
        self._chapters = chapters
        self._batch = batch
        self._streams = [_Stream(int(seed), chapters, device) for seed in seeds]
        self._groups = None if take is None else lru_cache(_KEPT_GROUPS)(partial(self._divided, take))
        self._axes = lru_cache(partial(self._principal_axes, take, n_axes))
        self._classes = classes
        self._device = device

    def rows(self, step: int, count: int = 1) -> Tensor:
        """Return the row numbers [seeds, count * batch] of `count` steps from `step` on."""
        begin, end = step * self._batch, (step + count) * self._batch
        return torch.stack([stream.rows(begin, end, self._groups) for stream in self._streams])

    def _divided(self, take: Callable[[Tensor], Tensor], chapter: int) -> Tensor:
        rows = self._chapters.rows(chapter).to(self._device)
        classes = None if self._classes is None else self._classes[rows.to(self._classes.device)].to(rows.device)
        return balanced_groups(take, rows, self._axes(), classes)

    def _principal_axes(self, take: Callable[[Tensor], Tensor], n_axes: int) -> Tensor | list[Tensor]:
        """The axes of the data, or of each class, from the rows of the first chapter."""
        rows = self._chapters.rows(0).to(self._device)
        if self._classes is None:
            return principal_axes(take, rows, n_axes)
        classes = self._classes[rows.to(self._classes.device)].to(rows.device)
        n_classes = int(self._classes.max()) + 1
        k = min(n_axes, MOST_COORDINATES)
        while k > 1 and n_classes * (k * (k + 3) // 2 + 1) > MOST_FEATURES:
            k -= 1
        of_classes = (rows[classes == number] for number in range(n_classes))
        # A class that the chapter lacks has the axes of all.
        return [principal_axes(take, chosen if len(chosen) else rows, k) for chosen in of_classes]


class _Stream:
    """The order of one seed. A visit is one chapter in one epoch; visits are numbered in the order they are shown."""

    def __init__(self, seed: int, chapters: Chapters, device: torch.device | str):
        self._keys = torch.tensor([noise.key("order", seed)], dtype=torch.int64, device=device)
        self._of_chapters = noise.key("order", f"chapters,{seed}")
        self._chapters = chapters
        self._n_rows = chapters.n_rows
        self._drawn: dict[int, Tensor] = {}

    def rows(self, begin: int, end: int, groups: Callable[[int], Tensor] | None) -> Tensor:
        """Return the row numbers at the places from `begin` to `end` of the stream."""
        parts, drawn = [], {}
        for visit, chapter, start, size in self._visits(begin, end):
            drawn[visit] = self._drawn[visit] if visit in self._drawn else self._draw(visit, chapter, groups)
            parts.append(drawn[visit][max(begin - start, 0) : min(end - start, size)])
        self._drawn = drawn
        return torch.cat(parts)

    def _visits(self, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield number, chapter, first place and size of the visits that have places from `begin` to `end`."""
        for epoch in range(begin // self._n_rows, (end - 1) // self._n_rows + 1):
            order = noise.permutation(self._of_chapters, epoch, len(self._chapters))
            sizes = self._chapters.sizes[order]
            starts = epoch * self._n_rows + sizes.cumsum(0) - sizes
            for place in ((starts < end) & (starts + sizes > begin)).nonzero()[:, 0].tolist():
                yield epoch * len(order) + place, int(order[place]), int(starts[place]), int(sizes[place])

    def _draw(self, visit: int, chapter: int, groups: Callable[[int], Tensor] | None) -> Tensor:
        """Draw the permutation of a visit: that of `noise.permutation`, or balanced."""
        device = self._keys.device
        rows = sent(self._chapters.rows(chapter), device)
        counter = torch.full((), visit, dtype=torch.int64, device=device)
        if groups is not None:
            return rows[shuffled_groups(groups(chapter), len(rows), self._keys, counter)[0]]
        first = torch.zeros(1, dtype=torch.int64, device=device)
        return rows[noise.words(self._keys, first, len(rows), counter)[0, 0].argsort(stable=True)]
