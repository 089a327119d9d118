"""The small data sets of the gallery. `predictions.py` imports this module; it is not a command of its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

ROWS, SYMBOLS = 2000, 8


def pixels() -> NDArray:
    """Handwritten digits of 8 x 8 pixels from 0 to 1."""
    return load_digits().data / 16


def digits() -> NDArray:
    """The same, centred, with one scale for all pixels and mean variance 1."""
    x = pixels()
    return (x - x.mean(0)) / np.sqrt(x.var(0).mean())


def binary() -> NDArray:
    """The same pixels, 0 or 1."""
    return pixels() >= 0.5


def cells() -> NDArray:
    """24 standardised features of five factors, with noise of different strength."""
    rng = np.random.default_rng(0)
    factors, loadings = rng.normal(size=(ROWS, 5)), rng.normal(size=(5, 24)) * np.geomspace(1.2, 0.5, 5)[:, None]
    x = factors @ loadings + rng.normal(size=(ROWS, 24)) * rng.uniform(0.5, 1.5, 24)
    return (x - x.mean(0)) / x.std(0)


def curves() -> NDArray:
    """Standardised smooth random curves of 32 points: four sines and noise."""
    rng = np.random.default_rng(0)
    waves = np.sin(np.outer(np.arange(1, 5), np.linspace(0, np.pi, 34)[1:-1]))
    x = rng.normal(size=(ROWS, 4)) * np.geomspace(1.2, 0.5, 4) @ waves + 0.5 * rng.normal(size=(ROWS, 32))
    return (x - x.mean(0)) / x.std(0)


def counts() -> NDArray:
    """Counts of 24 genes, negative binomial around the shares of the genes times 100 to 400 of a cell."""
    rng = np.random.default_rng(0)
    shares = _shares(rng, 24, 0.4)
    means = rng.uniform(100, 400, (ROWS, 1)) * shares
    return rng.poisson(rng.gamma(4.0, means / 4.0))


def clicks() -> NDArray:
    """Which of 40 items a user has clicked: 3 to 15 items a user, drawn by the shares of the items."""
    rng = np.random.default_rng(0)
    scores = np.log(_shares(rng, 40, 0.8)) + rng.gumbel(size=(ROWS, 40))
    ranks = scores.argsort(1).argsort(1)
    return (ranks >= 40 - rng.integers(3, 16, (ROWS, 1))).astype(int)


def tokens() -> NDArray:
    """Sequences of 12 symbols out of 8, each drawn by shares of its own that depend on three factors."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(ROWS, 3)) @ rng.normal(size=(3, 12 * SYMBOLS)) * 0.6
    scores = scores.reshape(ROWS, 12, SYMBOLS)
    return (scores + rng.gumbel(size=scores.shape)).argmax(2)


def _shares(rng: np.random.Generator, n: int, strength: float) -> NDArray:
    """Shares of n things [ROWS, n], whose logarithms are linear in three factors."""
    logits = rng.normal(size=n) + rng.normal(size=(ROWS, 3)) @ rng.normal(size=(3, n)) * strength
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


DATA: dict[str, Callable[[], NDArray]] = {
    make.__name__: make for make in (pixels, digits, binary, cells, curves, counts, clicks, tokens)
}


def samples(name: str) -> NDArray:
    """Return data by name: float32 [N, D], or int64 where they are counts, clicks or symbols."""
    x = DATA[name]()
    return x if x.dtype == np.int64 else x.astype(np.float32)
