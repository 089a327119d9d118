"""Error against time: a contender is trained, its clock stopped, and its weights measured, alike for all."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from contenders.common import Contender, Problem, Run
from phasevae.analysis.kl_fit.critical_point import fit_critical_point
from phasevae.theory.ppca import ACTIVE_KL, ppca_kl

ABSOLUTE, RELATIVE = 0.005, 0.002
"""The largest error of KL that is allowed, in nats and relative to KL."""
GROWTH = 0.3
"""Time between two checkpoints of one run, relative to the time so far."""
_BLOCK = 8192

Measure = Callable[[Contender], dict[str, Any]]


def course(
    module: ModuleType, run: Run, budgets: Sequence[float], budget_seconds: float, measure: Measure, imported: float
) -> Iterator[dict[str, Any]]:
    """Rows (samples, seconds, startup_seconds, detail and what `measure` gives) of one contender under one protocol.

    A protocol with schedules has a run for each budget, as long as the next is expected to end within
    `budget_seconds`; a constant one has checkpoints along one run of `budget_seconds`. `imported`: seconds that
    loading the contender's framework took, part of the start-up.
    """
    options = module.prepare(run)
    constant = run.settings.schedule == "scratch"
    runs = [run] if constant else [replace(run, settings=replace(run.settings, samples=float(n))) for n in budgets]
    seconds, samples = 0.0, math.inf
    for one in runs:
        expected = seconds * one.settings.samples / samples
        if expected > budget_seconds:
            print(f"  {one.settings.samples:g} samples: left out, {expected:.0f} s are expected", flush=True)
            break
        begin = time.perf_counter()
        contender = module.start(one, **options)
        startup = {"startup_seconds": imported + time.perf_counter() - begin}
        for steps, seconds in _clock(contender, one, budget_seconds):
            samples = steps * one.settings.batch
            row = {"samples": samples, "seconds": seconds, **startup, **measure(contender), "detail": contender.detail}
            print(f"  {samples:,} samples a model, {seconds:.1f} s: RMS {row['kl_rms']:.5f}", flush=True)
            yield row


def _clock(contender: Contender, run: Run, budget_seconds: float) -> Iterator[tuple[int, float]]:
    """(steps, seconds of training) so far: at the end, or at checkpoints along a run whose settings are constant.

    The clock stands still between two items.
    """
    settings = run.settings
    constant = settings.schedule == "scratch"
    shortest = max(1, len(run.x) // settings.batch // 8) if constant else settings.n_steps
    steps, seconds = 0, 0.0
    while seconds < 0.98 * budget_seconds and steps < settings.n_steps:
        more = max(shortest, int(GROWTH * steps))
        if steps:
            more = min(more, max(1, int((budget_seconds - seconds) * steps / seconds)))
        begin = time.perf_counter()
        contender.train(more)
        seconds += time.perf_counter() - begin
        steps += more
        yield steps, seconds


def make_measure(run: Run, problem: Problem) -> Measure:
    """The function that measures a contender's weights on the run's data."""
    from phasevae.spectrum.spectrum import compute_spectrum

    eigenvalues = compute_spectrum(run.x).eigenvalues

    def measure(contender: Contender) -> dict[str, Any]:
        return errors(kl_per_dim(contender.parameters(), run), run.sigma2, eigenvalues, problem.n_latent)

    return measure


def kl_per_dim(parameters: NDArray, run: Run) -> NDArray:
    """KL of every latent, averaged over all data, of all models; from weights [M, P] to nats [M, n]."""
    import torch

    from phasevae.kernels.reference import width
    from phasevae.model import Architecture, VAEEnsemble

    architecture = Architecture(run.x.shape[1], run.settings.n_latent, run.settings.hidden)
    ensemble = VAEEnsemble(architecture, torch.from_numpy(parameters))
    total = torch.zeros(len(parameters), run.settings.n_latent, dtype=torch.float64)
    before = torch.get_num_threads()
    torch.set_num_threads(run.threads)
    with torch.no_grad():
        for block in torch.from_numpy(run.x).split(_BLOCK):
            mu, logvar = ensemble.encode(block[None])
            total += 0.5 * (mu.square() + width(logvar)[1]).double().sum(1)
    torch.set_num_threads(before)
    return (total / len(run.x)).numpy()


def errors(kl: NDArray, sigma2: Sequence[float], eigenvalues: NDArray, n_latent: int) -> dict[str, float]:
    """Distance of a sweep from pPCA; kl: [M, n] in nats, eigenvalues: those of the sample covariance.

    kl_rms and kl_largest in nats; of_allowed: the largest |error| / (ABSOLUTE + RELATIVE KL); critical_variance and
    critical_error, its relative error, are undefined where the points do not locate a transition.
    """
    exact = ppca_kl(eigenvalues, sigma2, n_latent)
    error = np.abs(kl.sum(1) - exact)
    sweep = pd.DataFrame({"sigma2": sigma2, "beta": 1.0, "seed": 0, "kl": kl.sum(1)})
    sweep["active_dims"] = (kl > ACTIVE_KL).sum(1)
    found = math.nan
    if np.isfinite(kl).all():
        fitted = fit_critical_point(sweep, {"eigenvalues": eigenvalues.tolist()}, n_latent)["critical_variance"]
        found = math.nan if fitted is None else fitted
    return {
        "kl_rms": float(np.sqrt(np.mean(error**2))),
        "kl_largest": float(error.max()),
        "of_allowed": float((error / (ABSOLUTE + RELATIVE * exact)).max()),
        "critical_variance": found,
        "critical_error": found / float(eigenvalues[0]) - 1,
    }
