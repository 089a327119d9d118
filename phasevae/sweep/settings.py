"""TODO."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from phasevae.errors import InputError

GRID_KEYS = ("sigma2", "sigma2_ratio", "beta", "seeds", "n_buckets")
TRAINING_KEYS = (
    "n_latent",
    "hidden",
    "samples",
    "batch",
    "learning_rate",
    "schedule",
    "anneal_from",
    "anneal_fraction",
    "antithetic",
    "rao_blackwell_group",
    "balanced_order",
    "moment_matched_noise",
    "holdout",
)


def training_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Exactly the hyperparameters that the training uses: what a trained point's numbers depend on, beside
    the data, its own sigma2, beta and seed, and the code."""
    return {key: settings[key] for key in TRAINING_KEYS}


def train_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `phasevae train` needs of one data set's settings."""
    return training_keys(settings) | {"extend_unconverged": settings["extend_unconverged"]}


def grid_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the plan of one data set depends on: its grid, in order."""
    grid = {key: settings[key] for key in GRID_KEYS if settings.get(key) is not None}
    return {key: sorted(value) if isinstance(value, list) else value for key, value in grid.items()}


def plan_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `phasevae plan` needs of one data set's settings: the grid, and the training for its estimate."""
    return grid_keys(settings) | training_keys(settings)


def refine_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `phasevae refine` needs of one data set's settings."""
    return plan_keys(settings) | {"refine_transitions": settings["refine_transitions"]}


def rows_sharing(batch: int, rao_blackwell_group: int) -> int:
    """Rows that share the decoder's targets: the largest divisor of `batch` that is not above `rao_blackwell_group`."""
    return max(rows for rows in range(1, min(batch, rao_blackwell_group) + 1) if batch % rows == 0)


WARMUP = 0.05
"""Part of the budget in which the learning rate rises: full steps from the start can kill latents for good."""


@dataclass(frozen=True)
class Settings:
    """Hyperparameters of a training; the config's keys of the same names (the config's schema documents them)."""

    n_latent: int
    hidden: tuple[int, ...]
    samples: float
    batch: int
    learning_rate: float
    schedule: str
    anneal_from: float
    anneal_fraction: float
    antithetic: bool
    rao_blackwell_group: int
    balanced_order: bool
    moment_matched_noise: bool
    holdout: float

    @classmethod
    def from_keys(cls, keys: Mapping[str, Any]) -> Settings:
        """From a mapping such as `training_keys` gives. Raises InputError that names a missing or unknown key."""
        names = [field.name for field in fields(cls)]
        for name in [*names, *keys]:
            if name not in keys or name not in names:
                raise InputError(f"settings: key '{name}' is {'missing' if name in names else 'unknown'}")
        return cls(**{**keys, "hidden": tuple(keys["hidden"])})

    def extended(self, factor: int) -> Settings:
        """The same training with `factor` times the samples."""
        return replace(self, samples=self.samples * factor)

    @property
    def n_steps(self) -> int:
        """Steps that show each model at least `samples` rows."""
        return math.ceil(self.samples / self.batch)

    def learning_rate_at(self, step: int) -> float:
        """Cosine decay from `learning_rate` to zero over the budget, after a linear rise over its first WARMUP."""
        rise = min(1.0, (step + 1) / (WARMUP * self.n_steps))
        return self.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / self.n_steps))

    def sigma2_factor_at(self, step: int) -> float:
        """Training decoder variance over its target: with the `anneal` schedule it rises linearly from
        `anneal_from` to 1 over the first `anneal_fraction` of the budget, so that a model reaches its target
        from the active side; a start in the collapsed basin would take ~1/|sigma2 - critical| steps to leave."""
        ramp = self.anneal_fraction * self.n_steps
        if self.schedule == "scratch" or step >= ramp:
            return 1.0
        return self.anneal_from + (1 - self.anneal_from) * step / ramp


@dataclass(frozen=True)
class Member:
    """One model of an ensemble: what it is trained for."""

    sigma2: float
    beta: float
    seed: int
