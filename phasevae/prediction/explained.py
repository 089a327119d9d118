"""An optimum with everything that is said about it."""

from __future__ import annotations

from dataclasses import dataclass

from phasevae.datasets.reading import Reading
from phasevae.prediction.log_values import LogValues, collapsed_log, expected_log
from phasevae.prediction.optimum import Optimum, PredictionWarning


@dataclass(frozen=True, repr=False)
class Explained(Optimum):
    """The optimum, explained: a headline with the verdict and what to change, warnings, and further advice."""

    headline: str
    warnings: list[PredictionWarning]
    advice: list[str]  # one sentence or two each, without the headline

    @property
    def reading(self) -> Reading | None:
        """What was read, in one sentence (`str`); None for a spectrum of an older version."""
        return self.setting.reading

    @property
    def log(self) -> LogValues:
        """What a training prints at the optimum, in the units of its loss."""
        return expected_log(self)

    @property
    def collapsed_log(self) -> LogValues:
        """What a training prints when every latent is collapsed."""
        return collapsed_log(self)
