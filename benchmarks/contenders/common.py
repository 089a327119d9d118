"""The data sets, the two protocols, and what a contender must be able to do. Imports no framework."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from phasevae.config import completed_settings
from phasevae.datasets.synthetic import synthetic
from phasevae.sweep.settings import Settings, training_keys

CALIBRATION_SECONDS, CALIBRATION_ROUNDS = 1.0, 2


class Problem(NamedTuple):
    """A Gaussian data set and the decoder variances of a sweep on it, all where pPCA is exact."""

    eigenvalues: tuple[float, ...]
    n_latent: int
    sigma2: tuple[float, ...]


PROBLEMS = {
    # The paper's synthetic set; sixteen points from the edge of exactness to beyond the transition.
    "paper": Problem(
        tuple(float(value) for value in np.exp(-0.1 * np.arange(8))),
        4,
        (0.68, 0.71, 0.74, 0.77, 0.80, 0.82, 0.84, 0.86, 0.88, 0.90, 0.92, 0.94, 0.96, 0.98, 1.02, 1.08),
    ),
    # Every latent collapses at a place of its own; points at 2 and 4 % on either side of each.
    "cascade": Problem(
        (4.0, 2.0, 1.0, 0.5, 0.25, 0.1, 0.1, 0.1),
        4,
        (0.30, 0.40, 0.48, 0.52, 0.70, 0.96, 1.04, 1.40, 1.92, 2.08, 2.80, 3.60, 3.84, 3.92, 4.08, 4.50),
    ),
}
HIDDEN = (256, 128)
PROTOCOLS = ("usual", "ours")
"""usual: from scratch, Adam 1e-3, batch 128, one noise draw a row, each row its own target; ours: what phasevae does by
default, with variance-reduced targets and noise (`phasevae.training.variance_reduction`) and a balanced order of rows
(`phasevae.training.row_order`)."""


class ConstantRate(Settings):
    """Settings whose learning rate never changes."""

    def learning_rate_at(self, step: int) -> float:
        return self.learning_rate


@dataclass(frozen=True)
class Run:
    """What a contender is to train: one model for each decoder variance.

    x: float32 [N, D]; threads: CPU threads it may use at most.
    """

    x: NDArray[np.float32]
    sigma2: tuple[float, ...]
    seed: int
    settings: Settings
    threads: int

    @property
    def encoder(self) -> list[int]:
        """Widths of the encoder's layers, from the input on."""
        return [self.x.shape[1], *self.settings.hidden, 2 * self.settings.n_latent]

    @property
    def decoder(self) -> list[int]:
        return [self.settings.n_latent, *reversed(self.settings.hidden), self.x.shape[1]]


class Contender(Protocol):
    """Models in training. `detail` tells what was chosen for it."""

    detail: str

    def train(self, steps: int) -> None:
        """Train every model by so many steps more, and wait until that is done."""

    def parameters(self) -> NDArray[np.float32]:
        """All weights [M, P], in the order of `phasevae.model.Architecture`."""


def settings_of(protocol: str, n_latent: int, hidden: Sequence[int], samples: float) -> Settings:
    """Settings of a protocol; `ours` has the package's defaults for everything but the network and the budget."""
    flags = {"n_latent": n_latent, "hidden": list(hidden), "samples": samples}
    ours = Settings.from_keys(
        training_keys(completed_settings({key: value for key, value in flags.items() if value is not None}))
    )
    if protocol == "ours":
        return ours
    usual = {"schedule": "scratch", "antithetic": False, "batch": 128, "learning_rate": 1e-3}
    usual |= {"rao_blackwell_group": 1, "balanced_order": False, "moment_matched_noise": False}
    return ConstantRate(**{**vars(ours), **usual})


def make_data(problem: Problem, rows: int) -> NDArray[np.float32]:
    """Data [rows, D] of a problem."""
    return np.ascontiguousarray(synthetic(eigenvalues=problem.eigenvalues, n_samples=rows).x)


def epochs(run: Run, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Orders of all rows, one an epoch: balanced as phasevae does it, where the settings say so, else by chance."""
    if not run.settings.balanced_order:
        while True:
            yield rng.permutation(len(run.x))
    # Other contenders than phasevae need no torch.
    import torch

    from phasevae.kernels import noise
    from phasevae.training.row_order import balanced_groups, shuffled_groups

    grouped = balanced_groups(torch.from_numpy(run.x), run.settings.n_latent)
    streams = torch.tensor([noise.key("order", run.seed)])
    for epoch in itertools.count():
        yield shuffled_groups(grouped, streams, torch.tensor(epoch))[0].numpy()


def flat(layers: Sequence[tuple[NDArray, NDArray]]) -> NDArray[np.float32]:
    """One model's layers, encoder first, each (weight [in, out], bias [out]), as a row [P]."""
    return np.concatenate([part.ravel() for layer in layers for part in layer]).astype(np.float32)


def widths_to_shapes(widths: Sequence[int]) -> list[tuple[int, int]]:
    """(in, out) of the layers between the widths."""
    return list(itertools.pairwise(widths))


def fastest(
    start: Callable[..., Contender], run: Run, options: Sequence[dict[str, Any]], seconds: float = CALIBRATION_SECONDS
) -> dict[str, Any]:
    """The option with which the contender shows most samples a second; prints the rate of each."""
    rates: list[float] = []
    for option in options:
        contender = start(run, **option)
        stretches = [stretch(contender.train, seconds) for _ in range(CALIBRATION_ROUNDS)]
        rates.append(max(steps * run.settings.batch * len(run.sigma2) / elapsed for steps, elapsed in stretches))
        words = ", ".join(f"{key} {value}" for key, value in option.items())
        print(f"  calibration: {words}: {rates[-1]:,.0f} model-samples/s", flush=True)
    return options[int(np.argmax(rates))]


def single(run: Run) -> Run:
    """The run's first model alone: enough to calibrate those who train one after another."""
    return replace(run, sigma2=run.sigma2[:1])


def stretch(train: Callable[[int], object], seconds: float) -> tuple[int, float]:
    """(steps, seconds they took) of the first of doubling stretches of training that takes at least `seconds`."""
    steps = 4
    while True:
        begin = time.perf_counter()
        train(steps)
        elapsed = time.perf_counter() - begin
        if elapsed >= seconds:
            return steps, elapsed
        steps *= 2
