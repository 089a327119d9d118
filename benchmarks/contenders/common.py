"""The data sets, the two protocols, and what a contender must be able to do. Imports no framework."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from shared import Problem, paper_problem, steps_lasting

from contenders.turns import clock
from phasevae.datasets.synthetic import synthetic
from phasevae.sweeps.network_sizes import layer_widths
from phasevae.sweeps.settings import Settings

CALIBRATION_SECONDS, CALIBRATION_ROUNDS = 1.0, 2

PROBLEMS = {
    "paper": paper_problem(),
    # Every latent collapses at its own decoder variance; there are points 2 and 4 % below and above each of them.
    "cascade": Problem(
        (4.0, 2.0, 1.0, 0.5, 0.25, 0.1, 0.1, 0.1),
        4,
        (0.30, 0.40, 0.48, 0.52, 0.70, 0.96, 1.04, 1.40, 1.92, 2.08, 2.80, 3.60, 3.84, 3.92, 4.08, 4.50),
    ),
}
HIDDEN = (256, 128)
PROTOCOLS = ("usual", "ours")
"""usual: from scratch, Adam with learning rate 1e-3, batch 128, one noise draw per row, each row its own target.
ours: the defaults of phasevae, with variance-reduced targets and noise and a balanced order of the rows."""

USUAL = {
    "schedule": "scratch",
    "batch": 128,
    "learning_rate": 1e-3,
    "antithetic": False,
    "rao_blackwell_group": 1,
    "balanced_order": False,
    "moment_matched_noise": False,
}


class ConstantRate(Settings):
    """Settings whose learning rate never changes."""

    def learning_rate_at(self, step: int) -> float:
        return self.learning_rate


@dataclass(frozen=True)
class Run:
    """What a contender trains: one model for each decoder variance.

    x: float32 [N, D]; threads: CPU threads that the contender may use; title: how printed lines begin.
    """

    x: NDArray[np.float32]
    sigma2: tuple[float, ...]
    seed: int
    settings: Settings
    threads: int
    title: str = ""

    @property
    def networks(self) -> tuple[list[int], list[int]]:
        """Widths of the layers of encoder and decoder, from the input on."""
        return layer_widths(vars(self.settings), self.x.shape[1])

    def with_settings(self, **changes: Any) -> Run:
        """The same run with some settings changed."""
        return replace(self, settings=self.settings.with_changes(**changes))


class Contender(Protocol):
    """Models in training. `detail` says how it was set up: threads, backend, ..."""

    detail: str

    def train(self, steps: int) -> None:
        """Train every model for this many further steps, and return when they are done."""

    def parameters(self) -> NDArray[np.float32]:
        """All weights [M, P], in the order of `phasevae.architecture.Architecture`."""


def settings_of(protocol: str, n_latent: int, hidden: Sequence[int], samples: float) -> Settings:
    """Return the settings of a protocol; `ours` has the package's defaults for all that is not given.

    Parameters
    ----------
    protocol : one of `PROTOCOLS`
    n_latent, hidden : number of latents and widths of the encoder's hidden layers
    samples : training samples per model
    """
    given = {"n_latent": n_latent, "hidden": hidden, "samples": samples}
    return Settings(**given) if protocol == "ours" else ConstantRate(**given, **USUAL)


def make_data(problem: Problem, rows: int) -> NDArray[np.float32]:
    """Draw the data [rows, D] of a problem."""
    return np.ascontiguousarray(synthetic(eigenvalues=problem.eigenvalues, n_samples=rows).x)


def epochs(run: Run, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield the order of all rows, epoch after epoch: balanced as in phasevae if the settings say so, else random."""
    if not run.settings.balanced_order:
        while True:
            yield rng.permutation(len(run.x))
    # Only phasevae's own order needs torch.
    import torch

    from phasevae.kernels import noise
    from phasevae.training.row_order import balanced_groups, principal_axes, shuffled_groups

    take, rows = torch.from_numpy(run.x).__getitem__, torch.arange(len(run.x))
    grouped = balanced_groups(take, rows, principal_axes(take, rows, run.settings.n_latent))
    streams = torch.tensor([noise.key("order", run.seed)])
    for epoch in itertools.count():
        yield shuffled_groups(grouped, len(rows), streams, torch.tensor(epoch))[0].numpy()


def flat(layers: Sequence[tuple[NDArray, NDArray]]) -> NDArray[np.float32]:
    """The weights [P] of one model, from its layers (weight [in, out], bias [out]), the encoder's first."""
    return np.concatenate([part.ravel() for layer in layers for part in layer]).astype(np.float32)


def fastest(
    start: Callable[..., Contender], run: Run, options: Sequence[dict[str, Any]], seconds: float = CALIBRATION_SECONDS
) -> dict[str, Any]:
    """Return the options with which a contender trains fastest, and print the rate of each.

    Parameters
    ----------
    start : makes a contender from a run and options
    run : what to train
    options : the options to try
    seconds : least duration of one measurement
    """
    rates: list[float] = []
    for option in options:
        contender = start(run, **option)
        timings = [steps_lasting(contender.train, seconds, clock=clock) for _ in range(CALIBRATION_ROUNDS)]
        rates.append(max(steps * run.settings.batch * len(run.sigma2) / elapsed for steps, elapsed in timings))
        words = ", ".join(f"{key} {value}" for key, value in option.items())
        print(f"{run.title}  calibration: {words}: {rates[-1]:,.0f} model-samples/s", flush=True)
    return options[int(np.argmax(rates))]


def single(run: Run) -> Run:
    """The run with its first model only: enough to calibrate contenders that train one model after another."""
    return replace(run, sigma2=run.sigma2[:1])
