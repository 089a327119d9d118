"""Error against time: train a contender, stop its clock, and measure its weights in the same way for all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from shared import seconds_for

from contenders.common import Contender, Problem, Run
from contenders.turns import clock
from phasevae.analysis.kl_fit.critical_point import fit_critical_point
from phasevae.spectrum.measure import compute_spectrum
from phasevae.spectrum.spectrum import Spectrum
from phasevae.theory.ppca import ACTIVE_KL, gaussian_kl, ppca_kl

ABSOLUTE, RELATIVE = 0.005, 0.002
"""The largest error of KL that is allowed, in nats and relative to KL."""
GROWTH = 0.3
"""Time between two checkpoints of a run, relative to the time so far."""
_BLOCK = 8192

Measure = Callable[[Contender], dict[str, Any]]


def course(
    module: ModuleType, run: Run, budgets: Sequence[float], budget_seconds: float, measure: Measure, imported: float
) -> Iterator[dict[str, Any]]:
    """Train and measure a contender under one protocol.

    A constant protocol has checkpoints along a single run of `budget_seconds`. A protocol with schedules has one run
    for each budget, until the next run is expected to take longer than `budget_seconds`.

    Parameters
    ----------
    module : module of the contender
    run : what to train
    budgets : training samples per model of the runs with schedules, ascending
    budget_seconds : largest training time of a run
    measure : measures the weights
    imported : seconds that loading the contender's framework took. They count as start-up.

    Yields
    ------
    dict : samples, seconds, startup_seconds, the keys of `measure`, and detail
    """
    options = module.prepare(run)
    constant = run.settings.schedule == "scratch"
    seconds, samples = 0.0, math.inf
    for of_budget in [run] if constant else [run.with_settings(samples=float(budget)) for budget in budgets]:
        settings = of_budget.settings
        expected = seconds * settings.samples / samples
        if expected > budget_seconds:
            print(f"{run.title}  {settings.samples:g} samples: left out, {expected:.0f} s are expected", flush=True)
            break
        begin = clock()
        contender = module.start(of_budget, **options)
        startup = {"startup_seconds": imported + clock() - begin}
        for steps, seconds in _checkpoints(contender, of_budget, budget_seconds):
            samples = steps * settings.batch
            row = {"samples": samples, "seconds": seconds, **startup, **measure(contender), "detail": contender.detail}
            print(f"{run.title}  {samples:,} samples per model, {seconds:.1f} s: RMS {row['kl_rms']:.5f}", flush=True)
            yield row


def _checkpoints(contender: Contender, run: Run, budget_seconds: float) -> Iterator[tuple[int, float]]:
    """Yield (steps, seconds of training) so far: at the end, or along a run whose settings are constant.

    The clock is stopped between two checkpoints.
    """
    settings = run.settings
    constant = settings.schedule == "scratch"
    shortest = max(1, len(run.x) // settings.batch // 8) if constant else settings.n_steps
    steps, seconds = 0, 0.0
    while seconds < 0.98 * budget_seconds and steps < settings.n_steps:
        more = max(shortest, int(GROWTH * steps))
        if steps:
            more = min(more, max(1, int((budget_seconds - seconds) * steps / seconds)))
        seconds += seconds_for(contender.train, more, clock=clock)
        steps += more
        yield steps, seconds


def make_measure(run: Run, problem: Problem) -> Measure:
    """Return the function that measures a contender's weights on the data of a run of this problem."""
    spectrum = compute_spectrum(run.x)

    def measure(contender: Contender) -> dict[str, Any]:
        return errors(kl_per_dim(contender.parameters(), run), run.sigma2, spectrum, problem.n_latent)

    return measure


def kl_per_dim(parameters: NDArray, run: Run) -> NDArray:
    """Return the KL of every latent, averaged over all data: [M, n], in nats.

    Parameters
    ----------
    parameters : weights [M, P] of all models
    run : the run that they belong to
    """
    import torch

    from phasevae.architecture import Architecture
    from phasevae.model import VAEEnsemble, padded

    architecture = Architecture(run.x.shape[1], run.settings.n_latent, run.settings.hidden)
    ensemble = VAEEnsemble(architecture, padded(torch.from_numpy(parameters), architecture))
    total = torch.zeros(len(parameters), run.settings.n_latent, dtype=torch.float64)
    before = torch.get_num_threads()
    torch.set_num_threads(run.threads)
    with torch.no_grad():
        for block in torch.from_numpy(run.x).split(_BLOCK):
            mu, logvar = (part.double() for part in ensemble.encode(block[None]))
            total += gaussian_kl(mu, logvar, torch.expm1).sum(1)
    torch.set_num_threads(before)
    return (total / len(run.x)).numpy()


def errors(kl: NDArray, sigma2: Sequence[float], spectrum: Spectrum, n_latent: int) -> dict[str, float]:
    """Compare a sweep with probabilistic PCA.

    Parameters
    ----------
    kl : KL of each model and latent [M, n], in nats
    sigma2 : decoder variances [M]
    spectrum : spectrum of the data
    n_latent : number of latents

    Returns
    -------
    dict : kl_rms and kl_largest in nats; of_allowed, the largest |error| / (ABSOLUTE + RELATIVE KL); critical_variance
        and its relative error critical_error, NaN if the points do not locate a transition.
    """
    exact = ppca_kl(spectrum.eigenvalues, sigma2, n_latent)
    error = np.abs(kl.sum(1) - exact)
    sweep = pd.DataFrame({"sigma2": sigma2, "beta": 1.0, "seed": 0, "kl": kl.sum(1)})
    sweep["active_dims"] = (kl > ACTIVE_KL).sum(1)
    critical = None
    if np.isfinite(kl).all():
        critical = fit_critical_point(sweep, spectrum, n_latent).critical_variance
    critical = math.nan if critical is None else critical
    return {
        "kl_rms": float(np.sqrt(np.mean(error**2))),
        "kl_largest": float(error.max()),
        "of_allowed": float((error / (ABSOLUTE + RELATIVE * exact)).max()),
        "critical_variance": critical,
        "critical_error": critical / spectrum.critical_variance - 1,
    }
