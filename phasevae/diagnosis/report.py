"""What a diagnosis says: numbers of each latent, the residual spectrum, and the verdict in sentences. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.wording import counted, plain, with_error

MOST_ROWS = 32
"""Latents shown as text; the page and JSON have all."""

CERTAIN = 2.0
"""An eigenvalue is above or below the effective variance if it is so by this many standard errors."""

GAP = 0.02
"""Nats that a converged decoder may still gain, beside SHIFT."""

SHIFT = 0.02
"""The part of the edge by which it may move when the decoder is corrected."""

MOMENT = 0.1
"""E mu^2 + E sigma^2 of an active latent is 1 at an optimum; it may differ by this much."""

HEADS = ("latent (from 0)", "KL (nats)", "variance", "strength", "moves most")
"""Columns of the table of latents, which are numbered like the columns of z, from 0. Directions are ranks, from 1."""

RELEVANCE_HEADS = ("direction", "relevance", "nats", "dies at weight", "moves most")
"""Columns of the table of relevant directions."""

_FEATURES = 3
_ONE_ACTIVE = "the latent is active, and no further one would live"
_NOT_CONVERGED = "there are signs that the model has not converged, and whether more would live can be said when it has"
_ONE_DEAD = "the latent is dead and cannot come back at this weight"


@dataclass(frozen=True)
class Latent:
    """One latent of a trained VAE.

    Attributes
    ----------
    number : int
        From 0: its column of the network's z, and `latent` of dimensions.csv.
    kl : float
        Nats per sample.
    latent_variance, mean_variance : float
        E sigma_j^2, and the variance over the data of mu_j.
    second_moment : float
        E mu_j^2 + E sigma_j^2.
    active : bool
    strength : float
        How far the outputs move, in Euclidean norm, with one standard deviation of the latent; 0 if it is dead.
    direction : array [P] or None
        The unit vector along which they move.
    """

    number: int
    kl: float
    latent_variance: float
    mean_variance: float
    second_moment: float
    active: bool
    strength: float
    direction: NDArray | None


@dataclass(frozen=True)
class RelevantDirection:
    """A direction of the latent space with its relevance, which no scaling or rotation of the latents changes.

    Attributes
    ----------
    relevance : float
        Variance of the posterior mean along it over that of the noise (`phasevae.theory.relevance`).
    information : float
        What it says about the data, in nats per sample; its KL, at the optimum for Gaussian data.
    critical_kl_weight : float
        The weight of KL at which it collapses, to leading order.
    strength : float
        How far the outputs move, in Euclidean norm, with one standard deviation along it.
    direction : array [P]
        The unit vector along which they move.
    """

    relevance: float
    information: float
    critical_kl_weight: float
    strength: float
    direction: NDArray


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """Whether the latents of a trained VAE are as many as they should be. `print` shows it as text.

    Attributes
    ----------
    data : str
        What was read.
    kl_weight : float
        The weight of KL in the loss, as the loss has it.
    effective_variance : float
        beta * sigma2 of the loss.
    latents : tuple of Latent
    relevant_directions : tuple of RelevantDirection
        Those that carry information, the most relevant first.
    edge, standard_error : float
        Lambda_A of the residual spectrum (`phasevae.measurement.residual`), a lower bound.
    eigenvalues, standard_errors : array [modes]
    directions : array [modes, P]
        How the outputs would move along each further latent.
    corrected_edge, decoder_gap : float
        Lambda_A if the decoder moved to the conditional mean, and what this move gains in nats.
    sample_shape : tuple of int
        Shape of a sample, where the outputs have it.
    columns : tuple of str
        Names of the outputs; empty where they have none.
    """

    data: str
    kl_weight: float
    effective_variance: float
    latents: tuple[Latent, ...]
    relevant_directions: tuple[RelevantDirection, ...]
    edge: float
    standard_error: float
    eigenvalues: NDArray
    standard_errors: NDArray
    directions: NDArray
    corrected_edge: float
    decoder_gap: float
    sample_shape: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()

    @property
    def n_latent(self) -> int:
        """The number of latents."""
        return len(self.latents)

    @property
    def active(self) -> tuple[Latent, ...]:
        """The active latents, the one with most KL first."""
        return tuple(sorted((latent for latent in self.latents if latent.active), key=lambda latent: -latent.kl))

    @property
    def n_dead(self) -> int:
        """The number of dead latents."""
        return self.n_latent - len(self.active)

    @property
    def margin(self) -> float:
        """beta * sigma2 - Lambda_A: below zero a further latent would live."""
        return self.effective_variance - self.edge

    @property
    def n_more(self) -> int:
        """How many further latents would live, to leading order: the eigenvalues above the effective variance."""
        return int((self.eigenvalues - CERTAIN * self.standard_errors > self.effective_variance).sum())

    @property
    def critical_kl_weight(self) -> float:
        """The weight of KL below which the next latent would live, as long as the active ones stay as they are."""
        return self.kl_weight * self.edge / self.effective_variance

    @property
    def _shifted(self) -> bool:
        """Whether correcting the decoder moves the edge by more than its error."""
        shift = abs(self.corrected_edge - self.edge)
        return shift > max(SHIFT * self.edge, CERTAIN * self.standard_error)

    @property
    def verdict(self) -> str:
        """The answer in a sentence."""
        n, dead, more, unsettled = self.n_latent, self.n_dead, self.n_more, bool(self._signs)
        least = "at least " if more == len(self.eigenvalues) else ""
        active = f"{len(self.active)} of {counted(n, 'latent')} {'is' if n == 1 else 'are'} active"
        if more and unsettled and (not dead or self.corrected_edge < self.effective_variance):
            text = f"{active}; {_NOT_CONVERGED}"
        elif more and not dead:
            text = f"{least}{counted(more, 'more latent')} would live: n = {n} was too small"
        elif more:
            which = "a dead latent" if dead == 1 else f"{min(more, dead)} of {counted(dead, 'dead latent')}"
            text = f"{which} should live: the training failed, not the loss"
            if more > dead and not unsettled:
                text += f"; {least}{more - dead} beyond n = {n} would live too"
        elif self.edge + CERTAIN * self.standard_error > self.effective_variance:
            text = f"{active}, and the next one is at its threshold"
        elif not dead:
            text = f"all {counted(n, 'latent')} are active, and no further one would live" if n > 1 else _ONE_ACTIVE
        elif dead == n:
            text = f"all {counted(n, 'latent')} are dead and cannot come back at this weight" if n > 1 else _ONE_DEAD
        else:
            verb = "is" if dead == 1 else "are"
            prune = "it" if dead == 1 else "them"
            text = f"{dead} of {n} latents {verb} dead and cannot come back at this weight: prune {prune}"
        return f"{text[0].upper()}{text[1:]}."

    @property
    def _signs(self) -> list[str]:
        """Signs that the model has not converged: what active latents leave may then be their own to carry."""
        found = []
        if self.decoder_gap > GAP or self._shifted:
            found.append(
                f"The decoder is not the conditional mean of the data given the active latents: it would gain "
                f"{plain(self.decoder_gap, 2)} nats if its outputs moved by a polynomial of them. Lambda_A would then "
                f"be {plain(self.corrected_edge)} instead of {plain(self.edge)}. Train longer, or check that data and "
                f"loss are those of the training."
            )
        for latent in self.active:
            if abs(latent.second_moment - 1) > MOMENT:
                found.append(
                    f"Latent {latent.number} (counted from 0) has E mu^2 + E sigma^2 = "
                    f"{plain(latent.second_moment, 3)}, which is 1 at an optimum: the model has not converged, or its "
                    f"KL term has another prior or free bits."
                )
                break
        return found

    @property
    def remarks(self) -> tuple[str, ...]:
        """What else the user should know: signs that the model has not converged, then the next threshold."""
        weight, own = plain(self.critical_kl_weight), plain(self.kl_weight)
        return *self._signs, f"A further latent would live below a KL weight of {weight}; it is {own}."

    def summary(self) -> list[tuple[str, str]]:
        """Return names and values of the headline numbers."""
        kl = sum(latent.kl for latent in self.latents)
        return [
            ("latents", f"{len(self.active)} of {self.n_latent} active"),
            ("KL", f"{plain(kl)} nats"),
            ("effective variance", plain(self.effective_variance)),
            ("edge Lambda_A", with_error(self.edge, self.standard_error)),
            ("margin", with_error(self.margin, self.standard_error)),
        ]

    def carried(self, direction: NDArray) -> str:
        """Name the outputs that a direction moves most."""
        largest = np.argsort(-np.abs(direction), kind="stable")[:_FEATURES]
        names = self.columns or tuple(str(i) for i in range(len(direction)))
        return ", ".join(f"{'-' if direction[i] < 0 else '+'}{names[i]}" for i in largest)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the rows of the table of latents as text: the active ones, by KL."""
        return [
            (
                str(latent.number),
                plain(latent.kl),
                plain(latent.latent_variance),
                plain(latent.strength),
                self.carried(latent.direction),
            )
            for latent in self.active
        ]

    def relevance_rows(self) -> list[tuple[str, ...]]:
        """Return the rows of the table of relevant directions as text."""
        return [
            (
                str(number),
                plain(each.relevance),
                plain(each.information),
                plain(each.critical_kl_weight),
                self.carried(each.direction),
            )
            for number, each in enumerate(self.relevant_directions, 1)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the keys of `phasevae diagnose --json`."""
        own = asdict(self)
        derived = ("verdict", "remarks", "n_latent", "n_dead", "n_more", "margin", "critical_kl_weight")
        return {name: getattr(self, name) for name in derived} | own

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.summary())
        lines = [self.data, self.verdict, "", *(f"{name:{width}}  {value}" for name, value in self.summary())]
        for heads, rows in ((HEADS, self.rows()), (RELEVANCE_HEADS, self.relevance_rows())):
            if rows:
                lines += ["", *_table([heads, *rows[:MOST_ROWS]])]
            if len(rows) > MOST_ROWS:
                lines.append(f"... {len(rows) - MOST_ROWS} more")
        return "\n".join([*lines, "", *self.remarks])


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
