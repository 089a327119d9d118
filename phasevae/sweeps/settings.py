"""The settings of a training, and which keys of the configuration each stage depends on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from phasevae.artifacts.names import OWN
from phasevae.errors import InputError
from phasevae.sweeps.config_keys import (
    ExtensionSection,
    HierarchySection,
    LikelihoodSection,
    NetworkSection,
    TrainingSection,
)
from phasevae.sweeps.network_file import NetworkSpec
from phasevae.wording import suggestion

WARMUP = 0.05
"""Fraction of the training in which the learning rate rises: full steps at the start can kill latents for good."""

HIERARCHY_KEYS = tuple(HierarchySection.model_fields)

GAUSSIAN = "gaussian"
"""The likelihood whose sweeps are over the decoder variance; those of all others are over the weight of KL."""

WITH_CONDITION = ("bernoulli", "poisson", "negative-binomial")
"""Likelihoods beside the Gaussian one that go with a condition: one output a feature, and no global parameter that is
fitted to the data."""

GRID_KEYS = ("sigma2", "sigma2_ratio", "beta", "beta_ratio", "seeds", "n_buckets")
TRAINING_KEYS = (
    *(key for key in NetworkSection.model_fields if key != "network"),
    *LikelihoodSection.model_fields,
    *TrainingSection.model_fields,
)
"""The keys that are their own values. The file of `network` counts by its content, and its place does not."""


class Settings(TrainingSection, LikelihoodSection, NetworkSection):
    """Networks and training of a sweep: what the numbers of a trained point depend on, in addition to the data, its own
    sigma2, beta and seed, and the code."""

    network: NetworkSpec | None = None
    """The user's own networks; the MLP of `hidden` by default."""

    @classmethod
    def from_keys(cls, keys: Mapping[str, Any]) -> Settings:
        """From a mapping such as `training_keys` gives. Raises InputError that names a missing, unknown or bad key."""
        for name in [*cls.model_fields, *keys]:
            if (name not in keys and name != "network") or name not in cls.model_fields:
                raise InputError(f"settings: key '{name}' is {'unknown' if name in keys else 'missing'}")
        try:
            return cls(**keys)
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(f"settings: {first['loc'][0]}: {first['input']!r}, {first['msg']}") from None

    def with_changes(self, **changes: Any) -> Settings:
        """The same settings but for some keys."""
        return type(self)(**{**dict(self), **changes})

    def extended(self, factor: int) -> Settings:
        """The same training with `factor` times the samples."""
        return self.with_changes(samples=self.samples * factor)

    @property
    def n_steps(self) -> int:
        """Number of training steps; each model sees at least `samples` rows in them."""
        return math.ceil(self.samples / self.batch)

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step: a cosine from `learning_rate` to zero, after the rise."""
        return self.learning_rate * self.rise_at(step) * cosine(step / self.n_steps)

    def rise_at(self, step: int) -> float:
        """Factor of the learning rate that rises linearly to one over the first WARMUP of the training."""
        return min(1.0, (step + 1) / (WARMUP * self.n_steps))

    def sigma2_factor_at(self, step: int) -> float:
        """Decoder variance of a step relative to its target.

        With the schedule `anneal` it rises linearly from `anneal_from` to 1 over the first `anneal_fraction` of the
        training. The model then reaches its target from the active side; started next to the collapsed state, it would
        need about 1/|sigma2 - critical| steps to leave it.
        """
        ramp = self.anneal_fraction * self.n_steps
        if self.schedule == "scratch" or step >= ramp:
            return 1.0
        return self.anneal_from + (1 - self.anneal_from) * step / ramp


def cosine(fraction: float) -> float:
    """Half a period of a cosine: 1 at the beginning of a training, 0 at its end."""
    return 0.5 * (1 + math.cos(math.pi * fraction))


@dataclass(frozen=True)
class Member:
    """One model of an ensemble: the decoder variance, KL weight and seed that it is trained for.

    `beta_top` is the weight of the top level of a hierarchy.
    """

    sigma2: float
    beta: float
    seed: int
    beta_top: float | None = None


def check_likelihood(name: str, options: Mapping[str, Any]) -> None:
    """Check a likelihood other than the Gaussian one. Raises InputError for an unknown name, option or value."""
    from phasevae.likelihoods.registry import LIKELIHOODS, find_likelihood

    if not name.startswith(OWN):
        if name not in LIKELIHOODS:
            raise InputError(
                f"likelihood: {name!r}, {suggestion(name, LIKELIHOODS, 'must be one of')} or module:FILE.py:NAME"
            )
        find_likelihood(name, **options)
        return
    file, colon, function = name.removeprefix(OWN).rpartition(":")
    if not (file and colon and function.isidentifier()):
        raise InputError(f"likelihood: {name!r}, must be module:FILE.py:NAME")
    for key, value in options.items():
        if key != "n_outputs":
            raise InputError(f"likelihood_options.{key}: no option of a function of your own, must be n_outputs")
        if isinstance(value, bool | str) or value < 1 or value != int(value):
            raise InputError(f"likelihood_options.n_outputs: {value!r}, must be the number of outputs of the decoder")


def check_with_condition(name: str, options: Mapping[str, Any]) -> None:
    """Check that a likelihood other than the Gaussian one goes with a condition. Raises InputError otherwise."""
    if name not in WITH_CONDITION:
        choices = ", ".join((GAUSSIAN, *WITH_CONDITION))
        raise InputError(f"likelihood: {name}, must be one of {choices} for data with a condition")
    if name == "negative-binomial" and (
        isinstance(options.get("dispersion", ""), str) or options.get("size_factors", "none") != "none"
    ):
        raise InputError(
            "likelihood_options: must be a number as dispersion, and no size_factors, for data with a condition"
        )


def check_hierarchy(likelihood: str, has_own_networks: bool, has_condition: bool) -> None:
    """Check what a second level of latents goes with: the Gaussian likelihood, the MLP and no condition.

    Raises InputError that names the key that must change.
    """
    if likelihood != GAUSSIAN:
        raise InputError(f"likelihood: {likelihood}, must be {GAUSSIAN} with hierarchy")
    if has_own_networks:
        raise InputError("hierarchy: must be left out for networks of your own")
    if has_condition:
        raise InputError("hierarchy: must be left out for data with a condition")


def own_module(settings: Mapping[str, Any]) -> Path | None:
    """The Python file of a likelihood of the user's own, None for other likelihoods."""
    name = settings.get("likelihood", GAUSSIAN)
    return Path(name.removeprefix(OWN).rpartition(":")[0]).expanduser() if name.startswith(OWN) else None


def training_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of `Settings` in the validated settings of a data set."""
    keys = {key: settings[key] for key in TRAINING_KEYS if key != "hierarchy"}
    return keys | {"hierarchy": _part(settings, HIERARCHY_KEYS)}


def train_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that `phasevae train` needs."""
    keys = training_keys(settings) | {key: settings[key] for key in ExtensionSection.model_fields}
    return {key: value for key, value in keys.items() if value is not None}


def grid_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that the plan of a data set depends on: its grid, with lists in ascending order."""
    grid = {key: _ascending(settings[key]) for key in GRID_KEYS if settings.get(key) is not None}
    top = _part(settings, ("beta_top",))
    return grid if top is None else grid | {"hierarchy": {"beta_top": _ascending(top["beta_top"])}}


def plan_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that `phasevae plan` needs: the grid, and the training for its estimate of time and memory."""
    network = {"network": settings["network"]} if "network" in settings else {}
    return _planned(settings) | network


def refine_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that `phasevae refine` needs."""
    return _planned(settings) | {"refine_transitions": settings["refine_transitions"]}


def _planned(settings: Mapping[str, Any]) -> dict[str, Any]:
    grid, training = grid_keys(settings), train_keys(settings)
    both = {"hierarchy": training["hierarchy"] | grid["hierarchy"]} if "hierarchy" in grid else {}
    return grid | training | both


def _part(settings: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any] | None:
    """Some keys of the hierarchy, if there is one."""
    hierarchy = settings.get("hierarchy")
    return None if hierarchy is None else {key: hierarchy[key] for key in keys if key in hierarchy}


def _ascending(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) else value


def rows_sharing(batch: int, rao_blackwell_group: int) -> int:
    """Rows that share the decoder's targets: the largest divisor of `batch` not above `rao_blackwell_group`."""
    return max(rows for rows in range(1, min(batch, rao_blackwell_group) + 1) if batch % rows == 0)
