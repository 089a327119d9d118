from __future__ import annotations

import json
import re
import xml.etree.ElementTree
from dataclasses import replace

import numpy as np
import pytest

import phasevae
from phasevae import InputError
from phasevae.figures.prediction_report import prediction_page
from phasevae.prediction import diagnosis
from phasevae.prediction.libraries import LIBRARIES
from phasevae.prediction.measured import FULL_DIMENSION
from phasevae.prediction.predict import predict
from phasevae.prediction.text import summary
from phasevae.spectrum.spectrum_files import read_spectrum, write_spectrum
from phasevae.theory.learned_variance import learned_variance
from phasevae.theory.ppca import is_active, ppca_kl, ppca_mse

LAM = np.array([4.0, 2.0, 1.0, 0.5])


def gaussian(n=6000, lam=LAM, seed=0):
    """Samples whose covariance is diag(lam) up to rounding."""
    x = np.random.default_rng(seed).normal(size=(n, len(lam)))
    x -= x.mean(0)
    whitening = np.linalg.inv(np.linalg.cholesky(np.cov(x.T, bias=True))).T
    return x @ whitening * np.sqrt(lam)


@pytest.fixture(scope="module")
def x():
    return gaussian()


@pytest.fixture(scope="module")
def binary():
    """Four pairs of equal pixels, on in half and a quarter of the images."""
    rng = np.random.default_rng(0)
    return np.repeat(rng.random((4000, 4)) < [0.5, 0.5, 0.25, 0.25], 2, axis=1).astype(float)


def codes(prediction):
    return {warning.code for warning in prediction.warnings}


# Numbers


@pytest.mark.parametrize(
    ("options", "effective"),
    [
        ({"sigma2": 1.5}, 1.5),
        ({"beta": 1.5}, 1.5),
        ({"sigma2": 0.5, "beta": 3.0}, 1.5),
        ({"sigma2": 0.5, "kl_weight": 3.0}, 1.5),
        ({"loss": "half-sse", "kl_weight": 1.5}, 1.5),
        ({"loss": "sse", "kl_weight": 3.0}, 1.5),
        ({"loss": "mean-se", "kl_weight": 0.75}, 1.5),
        ({"loss": "mean-se-mean-kl", "kl_weight": 2.25}, 1.5),
        ({"loss": "gaussian-nll", "sigma2": 1.5}, 1.5),
        ({"library": "pythae"}, 1.0),
        ({"library": "pytorch-vae"}, 0.0005),
        ({"library": "disentangling-vae-gaussian"}, 4 / 510),
        ({"library": "mlcolvar", "kl_weight": 0.001}, 0.002),
    ],
)
def test_effective_variance_and_what_follows(x, options, effective):
    prediction = predict(x, 3, **options)
    assert prediction.effective_variance == pytest.approx(effective)
    assert prediction.critical_variance == pytest.approx(4)
    assert prediction.kl == pytest.approx(float(ppca_kl(LAM, effective, 3)))
    assert prediction.mse == pytest.approx(float(ppca_mse(LAM, effective, 3)))
    # The eigenvalues of the samples in single precision differ from LAM: one of them is at a threshold here.
    eigenvalues = np.linalg.eigvalsh(np.cov(x.astype(np.float32).T.astype(float), bias=True))[::-1]
    np.testing.assert_allclose(eigenvalues, LAM, rtol=1e-7)
    assert prediction.active_dims == is_active(eigenvalues[:3], effective).sum()
    assert prediction.kl_per_dim.shape == (3,)


@pytest.mark.parametrize(("sigma2", "verdict", "k"), [(4.1, "collapsed", 0), (1.5, "partial", 2), (0.9, "active", 3)])
def test_verdicts(x, sigma2, verdict, k):
    prediction = predict(x, 3, sigma2=sigma2)
    assert (prediction.verdict, prediction.active_dims) == (verdict, k)


@pytest.mark.parametrize("loss", ["half-sse", "sse", "mean-se", "mean-se-mean-kl", "gaussian-nll", "bce", "mean-bce"])
def test_thresholds_are_where_latents_die(x, binary, loss):
    """Compared with predictions at weights just below and above each threshold, which use other formulas."""
    prediction = predict(binary if "bce" in loss else x, 3, loss=loss)
    assert [t.latents for t in prediction.thresholds] == [1, 2, 3]
    for threshold in prediction.thresholds:
        alive, dead = (prediction.at(threshold.kl_weight * factor).active_dims for factor in (1 - 1e-6, 1 + 1e-6))
        assert alive >= threshold.latents > dead
        low, high = threshold.keeps
        if is_active(high, low):
            assert prediction.at(max((low + high) / 2, 1e-9)).active_dims == threshold.latents
    assert prediction.critical_kl_weight == prediction.thresholds[0].kl_weight


def test_critical_weight_of_one_variance_per_feature(x):
    scale = np.array([1.0, 30.0, 0.2, 7.0])
    mixed = (x @ np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]) * scale
    prediction = predict(mixed, 2, library="scvi-normal")
    critical = np.linalg.eigvalsh(np.corrcoef(mixed.T))[-1]
    assert prediction.critical_kl_weight == pytest.approx(critical)
    assert prediction.at(1.01 * critical).verdict == "collapsed"
    assert prediction.at(0.99 * critical).active_dims == 1
    assert prediction.at(1.01 * critical).mse == pytest.approx(mixed.var(0).sum())


def test_thresholds_of_one_variance_per_feature():
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(3, 9)) * np.array([2.0, 1.2, 0.7])[:, None]
    prediction = predict(rng.normal(size=(3000, 3)) @ loadings + rng.normal(size=(3000, 9)), 3, library="scvi-normal")
    assert [t.latents for t in prediction.thresholds] == [1, 2, 3]
    for threshold in prediction.thresholds:
        alive, dead = (prediction.at(threshold.kl_weight * factor).active_dims for factor in (0.97, 1.03))
        assert alive == threshold.latents > dead


def test_the_critical_weight_of_cross_entropy_is_where_the_curvature_of_the_loss_changes_sign(binary):
    """A linear decoder about the mean, in logits: the second derivative of the loss along the best direction."""
    prediction = predict(binary, 2, loss="bce")
    p = binary.mean(0)
    noise = np.sqrt(p * (1 - p))
    covariance = np.cov(binary.T, bias=True) / np.outer(noise, noise)
    assert prediction.critical_kl_weight == pytest.approx(np.linalg.eigvalsh(covariance)[-1])
    direction = np.linalg.eigh(covariance)[1][:, -1] / noise  # logits per latent
    score = (binary - p) @ direction

    def loss(amplitude, weight):
        """Expected loss at decoder amplitude u and encoder mean v * score, latent variance 1, best v, to order 4."""
        v = amplitude / (weight + amplitude**2)
        z, w = np.polynomial.hermite_e.hermegauss(20)
        total = 0.0
        for node, mass in zip(z, w / w.sum(), strict=True):
            logits = np.log(p / (1 - p)) + np.outer(v * score + node, amplitude * direction)
            total += mass * (np.logaddexp(0, logits) - binary * logits).sum(1).mean()
        return total + weight * 0.5 * v**2 * np.square(score).mean()

    critical = prediction.critical_kl_weight
    for factor, falls in ((0.9, True), (1.1, False)):
        assert (loss(0.02, factor * critical) < loss(0.0, factor * critical)) == falls


def test_learned_variance(x):
    prediction = predict(x, 2, loss="gaussian-nll")
    assert prediction.effective_variance == pytest.approx((1.0 + 0.5) / 2)  # the mean of what two latents leave
    assert prediction.critical_kl_weight == pytest.approx(4 * 4 / LAM.sum())


def test_a_spectrum_gives_the_prediction_of_its_data(x, tmp_path):
    write_spectrum(tmp_path / "s.json", phasevae.compute_spectrum(x))
    for options in ({"sigma2": 1.5}, {"loss": "mean-se"}, {"loss": "gaussian-nll"}):
        expected, prediction = (predict(data, 2, **options) for data in (x, read_spectrum(tmp_path / "s.json")))
        assert prediction.kl == pytest.approx(expected.kl)
        assert prediction.effective_variance == pytest.approx(expected.effective_variance)


def test_more_latents_than_directions(x):
    prediction = predict(x, 6, sigma2=0.3)
    assert (prediction.verdict, prediction.active_dims, len(prediction.thresholds)) == ("partial", 4, 4)


def test_large_dimension_uses_the_leading_eigenvalues(monkeypatch):
    wide = gaussian(300, np.geomspace(9, 0.1, 60))
    whole = predict(wide, 4, sigma2=1.0)
    monkeypatch.setattr("phasevae.prediction.measured.FULL_DIMENSION", 50)
    prediction = predict(wide, 4, sigma2=1.0)
    assert prediction.setting.spectrum.eigenvalues.size == 32 < whole.setting.spectrum.eigenvalues.size
    assert prediction.kl == pytest.approx(whole.kl, rel=1e-3) and prediction.mse == pytest.approx(whole.mse, rel=1e-3)
    learned, full = predict(wide, 4, loss="gaussian-nll"), whole.setting.spectrum.eigenvalues
    assert learned.effective_variance == pytest.approx(learned_variance(full, 4), rel=1e-3)
    assert FULL_DIMENSION == 4096


def test_the_short_api(x):
    assert phasevae.predict(x, n_latent=2, beta=5.0).verdict == "collapsed"
    assert phasevae.predict is predict


# JSON, page and advice


def test_json_has_the_documented_keys_and_no_nan():
    prediction = predict(gaussian(500, LAM[:2]), 2, loss="gaussian-nll", kl_weight=0.5)
    record = prediction.to_json()
    assert list(record) == [
        "read",
        "headline", "effective_variance", "critical_variance", "critical_kl_weight", "critical_kl_weight_range",
        "verdict", "active_dims", "kl", "kl_per_dim", "mse", "log", "collapsed_log", "thresholds", "warnings", "advice",
    ]  # fmt: skip
    from phasevae.artifacts.files import readable_json

    assert json.loads(readable_json(record))["kl"] is None


def test_the_page_begins_with_the_verdict_and_contains_everything(x):
    spectrum = phasevae.compute_spectrum(x)
    predictions = [predict(replace(spectrum, name=name), 3, sigma2=1.5) for name in ("cells", "<script>")]
    page, odd = map(prediction_page, predictions)
    assert f"<body><h1>{predictions[0].headline}</h1>" in page
    assert page.index("<svg") < page.index("<table>")
    assert odd == page.replace("cells", "&lt;script&gt;")  # the same but for the name, which is escaped
    for figure in re.findall(r"<svg.*?</svg>", page, re.S):
        xml.etree.ElementTree.fromstring(figure)
    assert page.count("<svg") == 2
    outside = re.findall(r"(?:src|href)=[\"'](?!#)([^\"']*)", page) + re.findall(r"url\((?!#)([^)]*)\)", page)
    assert not outside
    assert "2 of 3 latents active" in page


# Each warning has data that raise it and data that do not raise it


def clusters(n=6000):
    """Two clusters of unequal weight along the first of two directions: skewed, and collapse is of first order."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2)) * [0.1, 0.5]
    x[:, 0] += np.where(rng.random(n) < 0.1, 3.0, -1 / 3)
    return x / x.std(0) * [1.2, 0.8]


def two_peaks(n=4000):
    """Residuals with two peaks around a common factor: few values lie near the medians."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 1)) * 0.3 + rng.choice([-1.0, 1.0], (n, 4)) + 0.2 * rng.normal(size=(n, 4))


def with_outlier(n=501):
    x = gaussian(n, STANDARD)
    return np.vstack([x[1:], 100 * x[:1]])


def constant(x):
    return np.hstack([x, np.zeros((len(x), 1))])


STANDARD = np.array([1.5, 1.0, 0.9, 0.6])
CASES = {
    "not-standardised": (lambda x, b: (gaussian(lam=STANDARD / 50), {"sigma2": 0.01}), None),
    "not-centred": (lambda x, b: (gaussian(lam=STANDARD) + 60, {"sigma2": 1.0}), None),
    "constant-features": (lambda x, b: (constant(gaussian(lam=STANDARD)), {"sigma2": 1.0}), None),
    "outlier": (lambda x, b: (with_outlier(), {"sigma2": 1.0}), None),
    "non-gaussian": (lambda x, b: (clusters(), {"sigma2": 1.0}), None),
    "rough-kl": (
        lambda x, b: (b, {"loss": "bce", "kl_weight": 0.5}),
        lambda x, b: (b, {"loss": "bce", "kl_weight": 9.0}),
    ),
    "kinks": (lambda x, b: (two_peaks(), {"loss": "laplace"}), lambda x, b: (gaussian(), {"loss": "laplace"})),
    "conditional": (lambda x, b: (b, {"library": "scvi"}), None),
    "first-order": (lambda x, b: (clusters(), {"sigma2": 1.0}), None),
    "few-latents": (lambda x, b: (gaussian(lam=STANDARD), {"sigma2": 0.7}), None),
    "sampling-error": (lambda x, b: (gaussian(200, STANDARD), {"sigma2": 1.0}), None),
    "sampling-bias": (lambda x, b: (gaussian(1000, np.ones(50)), {"sigma2": 0.5}), None),
    "not-binary": (lambda x, b: (0.5 * b + 0.25, {"loss": "bce"}), lambda x, b: (b, {"loss": "bce"})),
    "unbounded": (
        lambda x, b: (gaussian(lam=STANDARD[:2]), {"loss": "gaussian-nll", "kl_weight": 0.9}),
        lambda x, b: (gaussian(lam=STANDARD), {"loss": "gaussian-nll", "kl_weight": 0.9}),
    ),
}


def standard(x, b):
    return gaussian(lam=STANDARD), {"sigma2": 1.1}


def test_moments_that_are_unknown_raise_no_warning():
    """spectrum.json holds null for moments that are not known, read as NaN."""
    spectrum = phasevae.compute_spectrum(clusters())
    assert {"non-gaussian", "first-order"} <= codes(predict(spectrum, 2, sigma2=1.0))
    unknown = np.full(2, np.nan)
    for fields in (
        {"skewness": unknown},
        {"excess_kurtosis": unknown},
        {"standard_errors": unknown},
        {"variance_proxy": float("nan")},
        {"variance_proxy": None},
    ):
        undefined = predict(replace(spectrum, **fields), 2, sigma2=1.0)
        assert "nan" not in json.dumps([warning.message for warning in undefined.warnings])
        assert not any("nan" in value for _, value in summary(undefined))
    assert "non-gaussian" not in codes(predict(replace(spectrum, skewness=unknown), 2, sigma2=1.0))
    assert "first-order" not in codes(predict(replace(spectrum, variance_proxy=None), 2, sigma2=1.0))


@pytest.mark.parametrize(("n", "d"), [(20, 8), (30, 2), (40, 8), (60, 8), (60, 50)])
def test_moments_of_few_gaussian_samples_raise_no_warning(n, d):
    rng = np.random.default_rng(0)
    spectra = (phasevae.compute_spectrum(rng.normal(size=(n, d)), with_variance_proxy=False) for _ in range(200))
    assert sum(diagnosis.closed_forms_are_rough(spectrum) for spectrum in spectra) <= 2


@pytest.mark.parametrize("n", [500, 5000])
def test_with_many_samples_moments_beyond_the_limits_are_enough(n):
    spectrum = phasevae.compute_spectrum(clusters())
    for skewness, kurtosis, rough in ((0.51, 0.0, True), (0.49, 1.9, False), (0.0, 2.01, True), (-0.51, 0.0, True)):
        fields = {"skewness": np.array([skewness]), "excess_kurtosis": np.array([kurtosis]), "n_samples": n}
        assert diagnosis.closed_forms_are_rough(replace(spectrum, **fields)) == rough


def test_two_samples_are_uncertain():
    """The kurtosis of two samples is always -2, which would mean no error at all."""
    assert "sampling-error" in codes(predict(np.array([[0.0, 1.0], [1.0, -1.0]]), 1, sigma2=0.1))


def test_an_answer_has_one_standard_error():
    """The table and the warning of three samples."""
    prediction = predict(np.array([[0.0, 1.0], [1.0, -1.0], [0.5, 2.0]]), 1, sigma2=0.1)
    (message,) = (w.message for w in prediction.warnings if w.code == "sampling-error")
    error = prediction.critical_variance * np.sqrt(2 / 3)
    assert f"a standard error of {error:.2g}, and the effective variance" in message
    assert f"+- {error:.2g}" in dict(summary(prediction))["critical variance"]


def test_the_warning_asks_whether_bytes_are_divided_by_255():
    pixels = np.random.default_rng(0).integers(0, 256, (500, 4))
    (message,) = (w.message for w in predict(pixels, 2, beta=1.0).warnings if w.code == "not-standardised")
    assert "values from 0 to 255: is this how they are fed to the network, or divided by 255?" in message
    (message,) = (w.message for w in predict(pixels / 255, 2, beta=1.0).warnings if w.code == "not-standardised")
    assert "divided by 255" not in message


def test_every_warning_has_its_case():
    assert list(CASES) == list(diagnosis.CHECKS)


@pytest.mark.parametrize("code", diagnosis.CHECKS)
def test_a_warning_is_given_where_it_applies_and_not_elsewhere(x, binary, code):
    applies, not_here = CASES[code]
    data, options = applies(x, binary)
    assert code in codes(predict(data, 2, **options))
    data, options = (not_here or standard)(x, binary)
    assert code not in codes(predict(data, 2, **options))


def test_standardised_gaussian_data_raise_no_warning(x, binary):
    data, options = standard(x, binary)
    assert codes(predict(data, 2, **options)) == set()


def test_one_large_feature_raises_a_warning_about_scale():
    data = gaussian(lam=np.array([900.0, 1, 1, 0.9]))
    (message,) = (w.message for w in predict(data, 4, beta=1.0).warnings if w.code == "not-standardised")
    assert "30 times the standard deviation" in message


def test_close_to_the_critical_variance_the_sampling_error_raises_a_warning():
    data = gaussian(lam=STANDARD)
    assert "sampling-error" in codes(predict(data, 2, sigma2=1.49))


# Bad input


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "loss: give one of sigma2, beta, loss, library and loss-function"),
        ({"sigma2": 1.0, "loss": "sse"}, "give one of sigma2"),
        ({"loss": "sse", "library": "pythae"}, "give one of sigma2"),
        ({"loss": "gaussian-nll", "beta": 1.0}, "give one of sigma2"),
        ({"sigma2": 0.0}, "sigma2: 0.0, must be a positive number"),
        ({"beta": -1.0}, "beta: -1.0"),
        ({"beta": float("nan")}, "beta: nan"),
        ({"beta": 1.0, "kl_weight": 1.0}, "cannot be given together with beta"),
        ({"loss": "sse", "kl_weight": 0}, "kl_weight: 0"),
        ({"loss": "nonsense"}, "loss: 'nonsense', must be one of half-sse"),
        ({"library": "nonsense"}, "library: 'nonsense', must be one of pythae"),
        ({"loss": "bce"}, "must be within 0 and 1"),
    ],
)
def test_wrong_options(x, options, words):
    with pytest.raises(InputError, match=words):
        predict(x, 2, **options)


@pytest.mark.parametrize("n_latent", [0, -1, 1.5, True, "2"])
def test_wrong_numbers_of_latents(x, n_latent):
    with pytest.raises(InputError, match="n_latent"):
        predict(x, n_latent, sigma2=1.0)


def test_a_spectrum_is_not_enough_for_some_losses(x):
    spectrum = phasevae.compute_spectrum(x)
    for options in ({"loss": "bce"}, {"library": "scvi-normal"}):
        with pytest.raises(InputError, match="must be the samples"):
            predict(spectrum, 2, **options)
    with pytest.raises(InputError, match="must be at least 3"):
        predict(phasevae.compute_spectrum(x, top=2), 2, sigma2=1.0)


def test_one_variance_per_feature_needs_the_covariance_matrix(monkeypatch, x):
    monkeypatch.setattr("phasevae.prediction.measured.FULL_DIMENSION", 3)
    with pytest.raises(InputError, match="4 features, must be at most 3"):
        predict(x, 2, library="scvi-normal")


def test_every_preset_predicts(x, binary):
    for name, preset in LIBRARIES.items():
        prediction = predict(0.5 * binary if preset.raw_counts is False else binary, 2, library=name)
        assert prediction.setting.kl_weight == preset.kl_weight
        assert prediction.advice
