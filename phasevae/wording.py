"""How messages say numbers and names: digits that mean something, plurals, and the name that was probably meant."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping

DIGITS = 4
"""Digits of a number whose uncertainty is not known."""

MOST_DIGITS = 6
"""No number of a message has more digits."""


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: 1 latent, 3 latents.

    Parameters
    ----------
    n : int
    noun : str
        In the singular.
    plural : str, optional
        By default the noun with an s.
    """
    return f"{n} {noun if n == 1 else plural or noun + 's'}"


def nats(number: str) -> str:
    """Return a number, as text, with its unit: 1 nat, 0.5 nats."""
    return f"{number} nat{'s' * (number != '1')}"


def rounded(value: float, error: float = math.nan) -> str:
    """Return a number with the digits that its standard error leaves: two of the error are shown, as in 9.53 +- 0.26.

    Parameters
    ----------
    value : float
        Finite.
    error : float
        Its standard error. Where it is zero or unknown (NaN), `DIGITS` are shown.
    """
    if value == 0 or not (math.isfinite(value) and 0 < error < math.inf):
        return plain(value)
    digits = min(max(_exponent(value) - _exponent(error, 2) + 2, 1), MOST_DIGITS)
    number = float(f"{value:.{digits - 1}e}")
    if not -5 < (top := _exponent(number)) < MOST_DIGITS:
        return f"{number:.{digits - 1}e}"
    return f"{number:.{max(0, digits - 1 - top)}f}"


def with_error(value: float, error: float) -> str:
    """Return a number and its standard error, as in 0.1584 +- 0.0012; the number alone where the error is not known."""
    if not 0 < error < math.inf:
        return plain(value)
    text = rounded(value, error)
    decimals = len(text.partition(".")[2])
    aligned = f"{error:.{decimals}f}" if decimals and "e" not in text else ""
    return f"{text} +- {aligned if aligned and float(aligned) > 0 else plain(error, 2)}"


def plain(value: float, digits: int = DIGITS) -> str:
    """Return a number with some significant digits, with an exponent only where it is very large or small."""
    return f"{float(f'{value:.{digits - 1}e}'):g}"


def suggestion(
    name: object,
    known: Iterable[str],
    words: str = "known:",
    synonyms: Mapping[str, tuple[str, ...]] | None = None,
) -> str:
    """Return the known names as text, with what an unknown `name` probably means in front.

    Parameters
    ----------
    name : object
        What the user wrote.
    known : iterable of str
        The names that are right.
    words : str
        Words in front of the known names.
    synonyms : mapping, optional
        Known names that people mean by other words, in lower case, with "-" between words.
    """
    known = list(known)
    listed = f"{words} {', '.join(map(str, known))}"
    meant = _meant(name, known, synonyms or {})
    return f"did you mean {' or '.join(repr(each) for each in meant)}? ({listed})" if meant else listed


def _meant(name: object, known: list[str], synonyms: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    word = str(name).strip().lower().replace("_", "-").replace(" ", "-")
    if word in synonyms:
        return synonyms[word]
    spelled = {str(each).lower().replace("_", "-"): each for each in known}
    if close := difflib.get_close_matches(word, spelled, n=1):
        return (spelled[close[0]],)
    close = difflib.get_close_matches(word, synonyms, n=1, cutoff=0.8)
    return synonyms[close[0]] if close else ()


def _exponent(value: float, digits: int = MOST_DIGITS) -> int:
    """The power of ten of the first digit, after rounding to some digits."""
    return int(f"{abs(value):.{digits - 1}e}".partition("e")[2])
