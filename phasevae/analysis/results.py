"""What the analysis of a sweep gives: the fields of fit.json."""

from __future__ import annotations

from dataclasses import dataclass, field

from phasevae.analysis.beta_equivalence import BetaEquivalence
from phasevae.analysis.conditions import ClassThresholds
from phasevae.analysis.exponents import Exponents
from phasevae.analysis.hierarchy import Phases
from phasevae.analysis.hysteresis import Hysteresis
from phasevae.analysis.kl_fit.critical_point import CriticalPoint
from phasevae.analysis.optimality import Consistency, Convergence
from phasevae.analysis.order import Order
from phasevae.analysis.residual import Branches
from phasevae.analysis.slowing import Slowing
from phasevae.analysis.thresholds import Thresholds


@dataclass(frozen=True, kw_only=True)
class Results(CriticalPoint):
    """The critical point with all else that the tables show. A part without its input has a `reason` instead."""

    convergence: Convergence
    consistency: Consistency
    order: Order
    exponents: Exponents
    cascade: Thresholds
    residual: Branches | None = None  # None in a file of an earlier version
    conditions: list[ClassThresholds] = field(default_factory=list)  # of data with classes
    beta_equivalence: BetaEquivalence | None  # None for a single beta
    slowing: Slowing
    hysteresis: Hysteresis
    beta_top: float | None = None  # of a hierarchy: the weight of the top level of the points that were fitted
    hierarchy: Phases | None = None  # None for one level of latents
