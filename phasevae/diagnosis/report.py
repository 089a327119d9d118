"""What a diagnosis says: numbers of each latent, the residual spectrum, and the verdict in sentences. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.diagnosis.latents import Latent, RelevantDirection
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
_SIGNS_OF_NONE = "there are signs that the model has not converged"
_HAS_NOT = "this model has not converged"
_ONE_DEAD = "the latent is dead and cannot come back at this weight"


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
    converged : bool or None
        Of a trained point what its point.json says; None where this is not known.
    dies_at : float or None
        Where the model has not converged: the weight of KL from which on all latents die, by the spectrum of the data
        (`phasevae.predict`). None where this is not known.
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
    converged: bool | None = None
    dies_at: float | None = None

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
        text = self._unsettled() if self.signs else self._settled()
        return f"{text[0].upper()}{text[1:]}."

    def _unsettled(self) -> str:
        """The verdict on a model that has not converged: what active latents leave may be their own to carry."""
        start = _HAS_NOT if self.converged is False else _SIGNS_OF_NONE
        if self._is_too_strong:
            return f"{start}, and the spectrum of the data predicts that all latents die at this KL weight"
        if self.n_more and self.n_dead and self.corrected_edge >= self.effective_variance:
            return f"{start}, and {self._dead_that_should_live()}"
        return f"{start}: {self._active()} so far, and how many should be can be said when it has"

    def _active(self) -> str:
        n = self.n_latent
        return f"{len(self.active)} of {counted(n, 'latent')} {'is' if n == 1 else 'are'} active"

    def _dead_that_should_live(self) -> str:
        more, dead = self.n_more, self.n_dead
        which = "a dead latent" if dead == 1 else f"{min(more, dead)} of {counted(dead, 'dead latent')}"
        return f"{which} should live: the training failed, not the loss"

    def _settled(self) -> str:
        n, dead, more = self.n_latent, self.n_dead, self.n_more
        least = "at least " if more == len(self.eigenvalues) else ""
        if more and not dead:
            text = f"{least}{counted(more, 'more latent')} would live: n = {n} was too small"
        elif more:
            text = self._dead_that_should_live()
            if more > dead:
                text += f"; {least}{more - dead} beyond n = {n} would live too"
        elif self.edge + CERTAIN * self.standard_error > self.effective_variance:
            text = f"{self._active()}, and the next one is at its threshold"
        elif not dead:
            text = f"all {counted(n, 'latent')} are active, and no further one would live" if n > 1 else _ONE_ACTIVE
        elif dead == n:
            text = f"all {counted(n, 'latent')} are dead and cannot come back at this weight" if n > 1 else _ONE_DEAD
        else:
            verb = "is" if dead == 1 else "are"
            prune = "it" if dead == 1 else "them"
            text = f"{dead} of {n} latents {verb} dead and cannot come back at this weight: prune {prune}"
        return text

    @property
    def signs(self) -> tuple[str, ...]:
        """Signs that the model has not converged, in sentences."""
        found = []
        if self.converged is False:
            found.append("The training had not converged when it ended, by its point.json.")
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
        if len(self.active) > len(self.relevant_directions):
            found.append(
                f"The {counted(len(self.active), 'active latent')} carry only "
                f"{counted(len(self.relevant_directions), 'direction')}, and each has one of its own at an optimum."
            )
        return tuple(found)

    @property
    def _is_too_strong(self) -> bool:
        return self.dies_at is not None and self.kl_weight >= self.dies_at

    @property
    def _first_remarks(self) -> tuple[str, ...]:
        """Those directly below the verdict."""
        if not self._is_too_strong:
            return self.signs
        weight, own = plain(self.dies_at), plain(self.kl_weight)
        return *self.signs, f"By the spectrum of the data all latents die from a KL weight of {weight} on; it is {own}."

    @property
    def _last_remark(self) -> str:
        weight, own = plain(self.critical_kl_weight), plain(self.kl_weight)
        start = "With the model as it is, a" if self.signs else "A"
        return f"{start} further latent would live below a KL weight of {weight}; it is {own}."

    @property
    def remarks(self) -> tuple[str, ...]:
        """What else the user should know: signs that the model has not converged, then the next threshold."""
        return *self._first_remarks, self._last_remark

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
        lines = [self.data, self.verdict, *self._first_remarks, ""]
        lines += (f"{name:{width}}  {value}" for name, value in self.summary())
        for heads, rows in ((HEADS, self.rows()), (RELEVANCE_HEADS, self.relevance_rows())):
            if rows:
                lines += ["", *_table([heads, *rows[:MOST_ROWS]])]
            if len(rows) > MOST_ROWS:
                lines.append(f"... {len(rows) - MOST_ROWS} more")
        return "\n".join([*lines, "", self._last_remark])


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
