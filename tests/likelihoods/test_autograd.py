"""Likelihood, scores and curvature of each family against torch's distributions and automatic differentiation."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributions as dist
from torch.nn import functional

from phasevae.datasets.streams import sample_stream
from phasevae.likelihoods.registry import find_likelihood

N, D = 120, 5


@dataclass(frozen=True, eq=False)
class Case:
    name: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return "-".join([self.name, *map(str, self.options.values())])

    @functools.cache  # noqa: B019
    def fit(self):
        rows = sample_stream(samples(self), most_rows=50)
        return find_likelihood(self.name, **self.options).fit(rows)


def samples(case: Case) -> np.ndarray:
    rng = np.random.default_rng(3)
    z = rng.normal(size=(N, 2)) @ rng.normal(size=(2, D))
    if case.name == "bernoulli":
        return 1 / (1 + np.exp(-z))
    if case.name == "categorical":
        return (z[:, :3] + rng.normal(size=(N, 3)) > 0).astype(float) + (z[:, 1:4] > 1)
    if case.name in ("gaussian", "gaussian-variance", "laplace", "student-t"):
        return z + rng.standard_t(4, size=(N, D)) + np.arange(D)
    sizes = rng.lognormal(0, 0.5, size=(N, 1))
    rate = sizes * np.exp(0.4 * z) * np.array([0.4, 2.0, 8.0, 1.0, 200.0]) * rng.gamma(2, 0.5, size=(N, D))
    counts = rng.poisson(rate).astype(float)
    if case.name == "zinb":
        counts *= rng.random((N, D)) > 0.2
    counts[counts.sum(1) == 0, 2] = 1  # torch's distributions need a size factor above zero
    return np.hstack([counts, sizes]) if case.options.get("size_factors") == "last-column" else counts


def reference(case: Case, fitted, outputs: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:  # noqa: PLR0911
    """The negative log likelihood of one row, with torch's distributions."""
    options = case.options
    match case.name:
        case "gaussian":
            return -dist.Normal(outputs[0], options["sigma2"] ** 0.5).log_prob(x).sum()
        case "gaussian-variance":
            return -dist.Normal(outputs[0], torch.exp(outputs[1] / 2)).log_prob(x).sum()
        case "bernoulli":
            return functional.binary_cross_entropy_with_logits(outputs[0], x, reduction="sum")
        case "poisson":
            return -dist.Poisson(outputs[0].exp()).log_prob(x).sum()
        case "multinomial":
            return -dist.Multinomial(int(x.sum()), logits=outputs[0]).log_prob(x).sum()
        case "categorical":
            return functional.cross_entropy(outputs[0], x.long(), reduction="sum")
        case "laplace":
            return -dist.Laplace(outputs[0], options["scale"]).log_prob(x).sum()
        case "student-t":
            scale = torch.as_tensor(fitted.constants["scale"])
            return -dist.StudentT(options["df"], outputs[0], scale).log_prob(x).sum()
    log_mean, size = outputs[0], torch.tensor(1.0)
    if options.get("size_factors") == "last-column":
        x, size = x[:-1], x[-1]
    elif options.get("size_factors") == "total":
        size = x.sum() / fitted.mean_total
    if options.get("normalised"):
        log_mean = torch.log_softmax(log_mean, 0) + np.log(fitted.mean_total)
    r = torch.as_tensor(fitted.constants["dispersion"])
    log = dist.NegativeBinomial(r, logits=log_mean + size.log() - r.log(), validate_args=False).log_prob(x)
    if case.name == "zinb":
        dropped = functional.logsigmoid(outputs[1])
        log = log + functional.logsigmoid(-outputs[1])
        # Second derivatives of logaddexp are no numbers where one term is far below the other, as for large counts.
        at_zero = torch.logaddexp(dropped.expand_as(log), torch.where(x == 0, log, 0.0))
        log = torch.where(x == 0, at_zero, log)
    return -log.sum()


CASES = [
    Case("gaussian", {"sigma2": 0.3}),
    Case("gaussian-variance"),
    Case("bernoulli"),
    Case("poisson"),
    Case("multinomial"),
    Case("categorical"),
    Case("student-t", {"df": 3.0, "scale": 0.7}),
    Case("student-t", {"df": 5.0, "scale": "fit"}),
    *(
        Case(name, {"dispersion": dispersion, "size_factors": sizes, "normalised": normalised})
        for name in ("negative-binomial", "zinb")
        for dispersion, sizes, normalised in (
            (1.5, "none", False),
            (1.5, "total", True),
            ("fit", "none", False),
            ("fit", "last-column", False),
            ("fit", "total", True),
            ("fit", "last-column", True),
        )
    ),
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
LAPLACE = Case("laplace", {"scale": 0.6})
each_of_all = pytest.mark.parametrize("case", [*CASES, LAPLACE], ids=lambda case: case.label)


def outputs_of(fitted) -> list[torch.Tensor]:
    return [torch.as_tensor(value) for value in fitted.outputs.values()]


@each_of_all
def test_the_likelihood_is_that_of_torch(case):
    fitted, x = case.fit(), torch.as_tensor(samples(case))
    expected = [float(reference(case, fitted, outputs_of(fitted), row)) for row in x]
    np.testing.assert_allclose(fitted.negative_log_likelihood(x.numpy()), expected, rtol=1e-9)
    assert fitted.loss == pytest.approx(np.mean(expected), rel=1e-9)


@each_of_all
def test_scores_are_the_derivatives_of_the_likelihood(case):
    fitted, x = case.fit(), torch.as_tensor(samples(case))
    outputs = outputs_of(fitted)
    expected = []
    for row in x[:20]:
        slopes = torch.autograd.functional.jacobian(
            lambda *values, row=row: reference(case, fitted, list(values), row), tuple(outputs)
        )
        expected.append(-torch.cat([slope.ravel() for slope in slopes]).numpy())
    scores = fitted.scores(x[:20].numpy())
    assert scores.shape == (20, fitted.n_scores)
    left_out = left_out_outputs(fitted)
    np.testing.assert_allclose(scores[:, ~left_out], np.array(expected)[:, ~left_out], rtol=1e-8, atol=1e-9)


@each_case
def test_the_curvature_is_the_mean_second_derivative(case):
    fitted, x = case.fit(), torch.as_tensor(samples(case))
    outputs = outputs_of(fitted)
    sizes = [value.numel() for value in outputs]

    def mean_loss(flat: torch.Tensor) -> torch.Tensor:
        values = [part.view(value.shape) for part, value in zip(flat.split(sizes), outputs, strict=True)]
        return sum(reference(case, fitted, values, row) for row in x) / len(x)

    hessian = torch.autograd.functional.hessian(mean_loss, torch.cat([value.ravel() for value in outputs])).numpy()
    kept = ~left_out_outputs(fitted)
    np.testing.assert_allclose(
        fitted.curvature()[np.ix_(kept, kept)],
        hessian[np.ix_(kept, kept)],
        rtol=1e-5,
        atol=1e-8 * np.abs(hessian).max(),
    )


@each_case
def test_the_mean_score_is_zero(case):
    fitted, x = case.fit(), samples(case)
    for scores in (fitted.scores(x), fitted.whitened_scores(x)):
        assert np.abs(scores.mean(0)).max() <= 1e-8 * max(1, np.abs(scores).max())


@each_of_all
def test_whitened_scores_have_the_eigenvalues_of_the_generalised_problem(case):
    fitted, x = case.fit(), samples(case)
    scores, whitened = fitted.scores(x), fitted.whitened_scores(x)
    outer = scores.T @ scores / len(x)
    values = np.linalg.eigvals(np.linalg.pinv(fitted.curvature(), rcond=1e-12, hermitian=True) @ outer)
    expected = np.sort(values.real)[::-1]
    found = np.linalg.eigvalsh(whitened.T @ whitened / len(x))[::-1]
    np.testing.assert_allclose(found, expected[: found.size], rtol=1e-6, atol=1e-8)


FITTED = [case for case in CASES if case.options.get("dispersion") == "fit"]


@pytest.mark.parametrize("case", FITTED, ids=lambda case: case.label)
def test_the_dispersion_has_the_largest_likelihood(case):
    fitted, x = case.fit(), torch.as_tensor(samples(case))
    log_r = torch.as_tensor(np.log(fitted.constants["dispersion"])).requires_grad_()

    class At:
        constants = {"dispersion": log_r.exp()}  # noqa: RUF012
        mean_total = fitted.mean_total

    loss = sum(reference(case, At, outputs_of(fitted), row) for row in x) / len(x)
    (slope,) = torch.autograd.grad(loss, log_r)
    inside = fitted.constants["dispersion"] < 9e5
    assert inside.sum() >= 4
    assert slope[inside].abs().max() < 1e-8


def test_the_scale_has_the_largest_likelihood():
    case = Case("student-t", {"df": 5.0, "scale": "fit"})
    fitted, x = case.fit(), torch.as_tensor(samples(case))
    log_scale = torch.as_tensor(np.log(fitted.constants["scale"])).requires_grad_()
    log = dist.StudentT(5.0, outputs_of(fitted)[0], log_scale.exp()).log_prob(x).sum(1).mean()
    assert torch.autograd.grad(log, log_scale)[0].abs().max() < 1e-9


def left_out_outputs(fitted) -> np.ndarray:
    used = getattr(fitted, "used", None)
    return np.zeros(fitted.n_scores, dtype=bool) if used is None else ~used.ravel()
